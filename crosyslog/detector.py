"""The detector `maml_lstm`: a causal LSTM over the vectors of a window's templates.

Shapes: B windows, L lines of a window, T templates, D dimensions of the encoder, P projected
dimensions, H hidden dimensions.

Two forms compute the same: `LstmDetector` for scoring, on torch's own kernel, and
`detector_logits`, written in tensor operations on a dictionary of parameters, because second-order
MAML differentiates twice (cuDNN's LSTM cannot) and under `vmap`. A test holds them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crosyslog.manifest import DetectorShape


class LstmDetector(nn.Module):
    """Vectors standardised and projected, an LSTM over the lines, and a linear head on both.

    The head reads the projection beside the hidden state, so what a line says by itself does not
    have to pass through the recurrence.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: DetectorShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.dim))
        self.register_buffer("scale", torch.ones(shape.dim))
        self.project = nn.Linear(shape.dim, shape.projected)
        self.lstm = nn.LSTM(shape.projected, shape.hidden, batch_first=True)
        self.head = nn.Linear(shape.hidden + shape.projected, 1)

    def project_templates(self, vectors_TD: Tensor) -> Tensor:
        """What the LSTM reads of each template, [T, P]: computed once a template."""
        return torch.as_tensor(self.project((vectors_TD - self.mean) / self.scale))

    def forward(self, projected_BLP: Tensor) -> Tensor:
        """The logits of windows of lines, [B, L]; a line's depends on those before it alone."""
        hidden_BLH, _ = self.lstm(projected_BLP)
        both = torch.cat((hidden_BLH, projected_BLP), dim=-1)
        return torch.as_tensor(self.head(both)).squeeze(-1)


def detector_logits(
    parameters: Mapping[str, Tensor], vectors_TD: Tensor, rows_BL: Tensor
) -> Tensor:
    """The logits of windows, in operations that can be differentiated twice and batched.

    Args:
        parameters: what `dict(LstmDetector(...).named_parameters())` holds.
        vectors_TD: standardised vectors of the distinct templates. What depends on the template
            alone is computed on these few, not on every line.
        rows_BL: for every line of every window, the row of its template.

    Returns:
        Logits [B, L].
    """
    projected_TP = vectors_TD @ parameters["project.weight"].T + parameters["project.bias"]
    gates_TG = (
        projected_TP @ parameters["lstm.weight_ih_l0"].T
        + parameters["lstm.bias_ih_l0"]
        + parameters["lstm.bias_hh_l0"]
    )
    recurrent_HG = parameters["lstm.weight_hh_l0"].T
    head_weight, head_bias = parameters["head.weight"], parameters["head.bias"]
    size = recurrent_HG.shape[0]
    direct_T = projected_TP @ head_weight[0, size:] + head_bias
    gates_BLG = gates_TG[rows_BL]
    hidden_BH = gates_TG.new_zeros(rows_BL.shape[0], size)
    cell_BH = hidden_BH
    outputs = []
    for gates_BG in gates_BLG.unbind(1):
        # torch's order of the gates: input, forget, cell, output.
        enter, keep, content, leave = (gates_BG + hidden_BH @ recurrent_HG).chunk(4, dim=-1)
        cell_BH = keep.sigmoid() * cell_BH + enter.sigmoid() * content.tanh()
        hidden_BH = leave.sigmoid() * cell_BH.tanh()
        outputs.append(hidden_BH)
    return torch.stack(outputs, 1) @ head_weight[0, :size] + direct_T[rows_BL]
