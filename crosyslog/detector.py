"""The detector `maml_lstm`: a causal LSTM over the vectors of a window's templates.

Shapes: B windows, L lines of a window, T templates, D dimensions of the encoder, P projected
dimensions, H hidden dimensions, G gates (4 H), K tasks, M members, C columns (M (P + 1)).

Two forms compute the same: `LstmMember` for scoring, on torch's own kernel, and
`detector_logits`, written in tensor operations on dictionaries of parameters, because second-order
MAML differentiates twice (cuDNN's LSTM cannot) and for several tasks at once. A test holds them
together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from crosyslog.manifest import DetectorShape


class LstmMember(nn.Module):
    """Standardised vectors projected, an LSTM over the lines, a head; and a direct logit.

    The direct logit is linear in a line's own vector. A gradient step on it makes a template
    score like those of the support that it resembles, in whatever system, so the inner loop can
    learn quickly what a line says by itself; the LSTM adds what its context says.
    """

    def __init__(self, shape: DetectorShape) -> None:
        super().__init__()
        self.project = nn.Linear(shape.dim, shape.projected)
        self.lstm = nn.LSTM(shape.projected, shape.hidden, batch_first=True)
        self.head = nn.Linear(shape.hidden, 1)
        self.direct = nn.Linear(shape.dim, 1, bias=False)
        nn.init.zeros_(self.direct.weight)

    def project_templates(self, standard_TD: Tensor) -> Tensor:
        """The projection and the direct logit, [T, P + 1]."""
        return torch.cat((self.project(standard_TD), self.direct(standard_TD)), dim=-1)

    def forward(self, templates_BLC: Tensor) -> Tensor:
        """The logits of windows of lines, [B, L].

        Args:
            templates_BLC: of each line, its template's row of `project_templates` (C = P + 1).
        """
        hidden_BLH, _ = self.lstm(templates_BLC[..., :-1])
        return torch.as_tensor(self.head(hidden_BLH)).squeeze(-1) + templates_BLC[..., -1]


class LstmDetector(nn.Module):
    """Members that were trained side by side from other initial weights; their mean logit counts.

    What one training makes of a few sources is to a good part chance. The mean of several is less
    so, and right more often.
    """

    mean: Tensor
    scale: Tensor

    reads_context = True

    def __init__(self, shape: DetectorShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.dim))
        self.register_buffer("scale", torch.ones(shape.dim))
        self.members = nn.ModuleList(LstmMember(shape) for _ in range(shape.members))

    @property
    def columns(self) -> int:
        """C, what is kept of a template."""
        return self.shape.members * (self.shape.projected + 1)

    def template_columns(
        self, templates: Sequence[str], vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """`project_templates` of the vectors of some templates, whose text does not matter."""
        del templates
        with torch.inference_mode():
            on_device = torch.from_numpy(vectors).to(self.mean.device)
            return np.asarray(self.project_templates(on_device).numpy(force=True))

    def standardised(self, vectors_TD: Tensor) -> Tensor:
        """The encoder's vectors as the members take them, [T, D]."""
        return (vectors_TD - self.mean) / self.scale

    def project_templates(self, vectors_TD: Tensor) -> Tensor:
        """What is computed once a template, [T, C]: each member's projection and direct logit."""
        standard_TD = self.standardised(vectors_TD)
        return torch.cat([one.project_templates(standard_TD) for one in self._each()], dim=-1)

    def forward(self, templates_BLC: Tensor) -> Tensor:
        """The logits of windows of lines, [B, L]; a line's depends on those before it alone.

        Args:
            templates_BLC: of each line, its template's row of `project_templates`.
        """
        parts = templates_BLC.chunk(self.shape.members, dim=-1)
        logits_MBL = torch.stack([one(part) for one, part in zip(self._each(), parts, strict=True)])
        return logits_MBL.mean(dim=0)

    def stacked(self) -> dict[str, Tensor]:
        """A copy of the members' parameters, each with M in front."""
        each = [dict(one.named_parameters()) for one in self._each()]
        return {name: torch.stack([one[name].detach() for one in each]) for name in each[0]}

    def load_stacked(self, parameters: Mapping[str, Tensor]) -> None:
        """Takes over what `stacked` gave."""
        for number, member in enumerate(self._each()):
            member.load_state_dict({name: value[number] for name, value in parameters.items()})

    def _each(self) -> list[LstmMember]:
        return cast("list[LstmMember]", list(self.members))


def detector_logits(
    parameters: Mapping[str, Tensor], vectors_KTD: Tensor, rows_KBL: Tensor
) -> Tensor:
    """The logits of K tasks at once, each with parameters of its own, differentiable twice.

    The cell is written in tensor operations and every tensor is made where its inputs are, so a
    gradient of a gradient exists on CUDA as on a CPU: cuDNN's LSTM is never called here.

    Tasks are a dimension of every tensor, so a step of the recurrence is one product for all of
    them: two to three times as fast as a loop over tasks (`benchmarks/maml.py`), and faster than
    `torch.func.vmap`, whose cost is per operation and here there are thousands of small ones.

    Args:
        parameters: those of a member (`LstmDetector.stacked`), each with K in front.
        vectors_KTD: standardised vectors of the distinct templates. What depends on the template
            alone is computed on these few, not on every line.
        rows_KBL: for every line of every window, the row of its template.

    Returns:
        Logits [K, B, L].
    """
    count, templates = vectors_KTD.shape[:2]
    projected_KTP = torch.baddbmm(
        parameters["project.bias"].unsqueeze(1),
        vectors_KTD,
        parameters["project.weight"].transpose(1, 2),
    )
    bias_KG = parameters["lstm.bias_ih_l0"] + parameters["lstm.bias_hh_l0"]
    gates_KTG = torch.baddbmm(
        bias_KG.unsqueeze(1), projected_KTP, parameters["lstm.weight_ih_l0"].transpose(1, 2)
    )
    recurrent_KHG = parameters["lstm.weight_hh_l0"].transpose(1, 2)
    size = recurrent_KHG.shape[1]
    direct_KT = torch.bmm(vectors_KTD, parameters["direct.weight"].transpose(1, 2)).squeeze(2)
    direct_KT = direct_KT + parameters["head.bias"]

    offset_K11 = torch.arange(count, device=rows_KBL.device).mul(templates).view(-1, 1, 1)
    rows_LKB = (rows_KBL + offset_K11).permute(2, 0, 1)
    gates_LKBG = gates_KTG.flatten(0, 1)[rows_LKB]
    hidden_KBH = gates_LKBG.new_zeros(*rows_LKB.shape[1:], size)
    cell_KBH = hidden_KBH
    outputs = []
    for gates_KBG in gates_LKBG.unbind(0):
        # torch's order of the gates: input, forget, cell, output.
        enter, keep, content, leave = torch.baddbmm(gates_KBG, hidden_KBH, recurrent_KHG).chunk(
            4, dim=-1
        )
        cell_KBH = torch.addcmul(keep.sigmoid() * cell_KBH, enter.sigmoid(), content.tanh())
        hidden_KBH = leave.sigmoid() * cell_KBH.tanh()
        outputs.append(hidden_KBH)
    hidden_KBLH = torch.stack(outputs, dim=2)
    head_KH = parameters["head.weight"].squeeze(1)
    recurrent_KBL = torch.einsum("kblh,kh->kbl", hidden_KBLH, head_KH)
    return recurrent_KBL + direct_KT.flatten()[rows_LKB].permute(1, 2, 0)
