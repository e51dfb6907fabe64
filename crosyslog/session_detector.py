"""The detector `metalog`: a bidirectional GRU over a session's templates, with attention.

After MetaLog (Zhang et al., "MetaLog: Generalizable Cross-System Anomaly Detection from Logs with
Meta-Learning", ICSE 2024) and PLELog (Yang et al., ICSE 2021), whose network it takes over: two
layers of 100 units each way. Beside it, each line has a direct logit that is linear in its vector
and in its contrast (`crosyslog.session_contrast`), and a line that looks bad by itself draws
attention: in a window of lines that have little to do with each other, a GRU alone learns the
training's windows by heart.

Shapes: B sessions, L lines of a session, T texts, D dimensions of a vector, H hidden units,
M members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

if TYPE_CHECKING:
    from crosyslog.manifest import SessionShape

#: How much more attention a line draws by a direct logit of 1.
_SHARPNESS = 3.0

#: The direct logit's weights are stored this much smaller, so that a step of the training moves it
#: about as far as it moves the GRU, whose weights are many to one number. A trial step, whose size
#: goes with the gradient, moves it by the square: at 20, it threw the logits of HDFS to 36.
_DIRECT_SCALE = 4.0

#: The direct logit of a line whose contrast is 1.
_CONTRAST_SCALE = 4.0


class Judged(NamedTuple):
    """What is said of sessions.

    Attributes:
        logits_B: above 0 for an anomaly.
        attention_BL: the share of each line in that; 0 behind a session's end, 1 in sum.
    """

    logits_B: Tensor
    attention_BL: Tensor


class SessionMember(nn.Module):
    """One network; its parameters can be given from outside (`torch.func.functional_call`)."""

    def __init__(self, shape: SessionShape) -> None:
        super().__init__()
        self.gru = nn.GRU(
            shape.dim, shape.hidden, shape.layers, batch_first=True, bidirectional=True
        )
        both = 2 * shape.hidden
        self.attend = nn.Linear(both, both)
        self.query = nn.Parameter(torch.empty(both).normal_(std=both**-0.5))
        self.head = nn.Linear(both, 1)
        self.direct = nn.Linear(shape.dim, 1, bias=False)
        nn.init.zeros_(self.direct.weight)

    def forward(self, vectors_BLD: Tensor, lengths_B: Tensor) -> Judged:
        """Judges sessions; none depends on the others, or on how they are padded.

        Args:
            vectors_BLD: of the lines' templates, as `SessionDetector.scaled` gives them: the
                contrast is behind the dimensions of the vector.
            lengths_B: lines of each session, 1 or more, on the CPU.
        """
        vectors_BLD, contrast_BL = vectors_BLD[..., :-1], vectors_BLD[..., -1]
        length = vectors_BLD.shape[1]
        packed = pack_padded_sequence(
            vectors_BLD, lengths_B, batch_first=True, enforce_sorted=False
        )
        hidden_BLH, _ = pad_packed_sequence(
            self.gru(packed)[0], batch_first=True, total_length=length
        )
        direct_BL = _DIRECT_SCALE * self.direct(vectors_BLD).squeeze(-1)
        direct_BL = direct_BL + _CONTRAST_SCALE * contrast_BL
        drawn_BL = torch.tanh(self.attend(hidden_BLH)) @ self.query + _SHARPNESS * direct_BL
        beyond_BL = torch.arange(length, device=drawn_BL.device) >= lengths_B.to(
            drawn_BL.device
        ).unsqueeze(1)
        attention_BL = drawn_BL.masked_fill(beyond_BL, -torch.inf).softmax(dim=1)
        whole_BH = (attention_BL.unsqueeze(-1) * hidden_BLH).sum(dim=1)
        logits_B = self.head(whole_BH).squeeze(-1) + (attention_BL * direct_BL).sum(dim=1)
        return Judged(logits_B, attention_BL)


class SessionDetector(nn.Module):
    """Members that were trained from other initial weights; their mean logit counts."""

    def __init__(self, shape: SessionShape) -> None:
        super().__init__()
        self.shape = shape
        self.members = nn.ModuleList(SessionMember(shape) for _ in range(shape.members))

    def forward(self, vectors_BLD: Tensor, lengths_B: Tensor) -> Judged:
        """Judges sessions; see `SessionMember.forward`."""
        each = [member(vectors_BLD, lengths_B) for member in self.each()]
        return Judged(
            torch.stack([one.logits_B for one in each]).mean(dim=0),
            torch.stack([one.attention_BL for one in each]).mean(dim=0),
        )

    def each(self) -> list[SessionMember]:
        """The members."""
        return cast("list[SessionMember]", list(self.members))

    @staticmethod
    def scaled(vectors_TD: Tensor, contrast_T: Tensor | None = None) -> Tensor:
        """Template vectors as the members take them, [T, D + 1]; the contrast comes last.

        Vectors are made as long as their number of dimensions asks. Word vectors weighted by
        TF-IDF come in all lengths, those of sentences in one: made alike, the same network takes
        either. A vector of zeros, a template without words, stays one.

        Args:
            vectors_TD: of the templates.
            contrast_T: of each, by the target's labels; zeros unless given.
        """
        alike_TD = functional.normalize(vectors_TD, dim=-1) * float(vectors_TD.shape[-1]) ** 0.5
        if contrast_T is None:
            contrast_T = alike_TD.new_zeros(alike_TD.shape[:-1])
        return torch.cat([alike_TD, contrast_T.unsqueeze(-1)], dim=-1)
