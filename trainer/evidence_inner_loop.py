"""The inner loop of the detector `evidence`: gradient steps on the support's left-out features.

Model-agnostic meta-learning (Finn, Abbeel, Levine 2017). A step of the second order can be
differentiated through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crosyslog.evidence_network import EvidenceMember

Parameters = dict[str, Tensor]


def inner_steps(
    member: EvidenceMember,
    parameters: Mapping[str, Tensor],
    rates: Mapping[str, float],
    features_SF: Tensor,
    labels_S: Tensor,
    *,
    steps: int,
    dropout: float = 0.0,
    second_order: bool = False,
) -> Parameters:
    """Adapts a member's parameters to a support; one of one class changes nothing.

    Args:
        member: the network.
        parameters: where to start; they stay as they are.
        rates: the step size of each.
        features_SF: standardised left-out features of the support's templates.
        labels_S: 1 for an alert, 0 for a normal one; each template counts the same.
        steps: how many.
        dropout: the share of hidden units that a step leaves out, in training.
        second_order: let an outer gradient go through the inner ones; without it, these are
            constants to the outer one (FOMAML).

    Returns:
        The adapted parameters; differentiable by the initial ones where those ask for gradients.
    """
    adapted = dict(parameters)
    if not 0 < int(labels_S.sum()) < len(labels_S):
        return adapted
    for _ in range(steps):
        leaves = {
            name: value if second_order else value.detach().requires_grad_()
            for name, value in adapted.items()
        }
        logits_S = functional_call(member, leaves, (features_SF, dropout))
        gradients = torch.autograd.grad(
            functional.binary_cross_entropy_with_logits(logits_S, labels_S),
            list(leaves.values()),
            create_graph=second_order,
        )
        adapted = {
            name: value - rates[name] * gradient
            for (name, value), gradient in zip(adapted.items(), gradients, strict=True)
        }
    return adapted
