"""MetaLog's meta-learning: what is learnt on the source must help on the target.

In each step of the training, the loss on the source's sessions gives a trial step of the weights;
the loss on the target's sessions is that of the weights after it. Both are made smaller at once:

    loss(source; w) + beta * loss(target; w - rate * d loss(source; w) / dw)

(Zhang et al., "MetaLog", ICSE 2024; the two-step loss is that of MLDG, Li et al., AAAI 2018.) The
gradient goes through the trial step: it holds second derivatives.

Shapes: B sessions, L lines of the longest, D dimensions.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from crosyslog.session_detector import SessionMember


class Batch(NamedTuple):
    """Sessions to learn from.

    Attributes:
        vectors_BLD: of their lines, scaled (`SessionDetector.scaled`).
        lengths_B: of each, on the CPU.
        anomalous_B: how likely each is anomalous, 0 to 1.
        weights_B: how much it counts.
    """

    vectors_BLD: Tensor
    lengths_B: Tensor
    anomalous_B: Tensor
    weights_B: Tensor


def batch_loss(member: SessionMember, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """The weighted mean of the binary cross entropy of sessions, a scalar.

    Args:
        member: gives the form.
        parameters: in place of its own.
        batch: the sessions.
    """
    judged = functional_call(member, dict(parameters), (batch.vectors_BLD, batch.lengths_B))
    losses_B = functional.binary_cross_entropy_with_logits(
        judged.logits_B, batch.anomalous_B, reduction="none"
    )
    return (losses_B * batch.weights_B).sum() / batch.weights_B.sum().clamp(min=1e-9)


def two_step_loss(
    member: SessionMember,
    parameters: Mapping[str, Tensor],
    source: Batch,
    target: Batch,
    *,
    rate: float,
    beta: float,
    first_order: bool = False,
) -> Tensor:
    """The loss of a step, a scalar that is differentiable with respect to the parameters.

    Args:
        member: gives the form.
        parameters: the weights; they ask for gradients.
        source: its sessions.
        target: its sessions.
        rate: of the trial step; at 0 there is none, and both losses are of the same weights.
        beta: how much the target counts beside the source.
        first_order: treat the trial step as a constant.
    """
    with _twice_differentiable(source.vectors_BLD):
        on_source = batch_loss(member, parameters, source)
        if not rate:
            return on_source + beta * batch_loss(member, parameters, target)
        gradients = torch.autograd.grad(
            on_source, list(parameters.values()), create_graph=not first_order
        )
        tried = {
            name: value - rate * gradient
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        }
        if first_order:
            on_source = _with_gradients(on_source, parameters.values(), gradients)
        return on_source + beta * batch_loss(member, tried, target)


def _with_gradients(
    loss: Tensor, parameters: Iterable[Tensor], gradients: Iterable[Tensor]
) -> Tensor:
    """The loss as a value whose gradients are known, so that they are not computed again."""
    known = [
        ((value - value.detach()) * gradient).sum()
        for value, gradient in zip(parameters, gradients, strict=True)
    ]
    return loss.detach() + torch.stack(known).sum()


def _twice_differentiable(tensor: Tensor) -> AbstractContextManager[None]:
    """Leaves cuDNN out where it would be used: its GRU has no second derivative."""
    if tensor.is_cuda:
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()
