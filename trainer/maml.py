"""Model-agnostic meta-learning (Finn, Abbeel, Levine 2017) of the detector's initial weights.

Shapes: M members, K tasks, B windows, L lines of a window, T distinct templates of a task,
D dimensions. Members are detectors that are trained side by side and know nothing of each other;
what they say is averaged afterwards. The tasks are theirs in turn: the first K / M of them are the
first member's, and so on.

The inner loop adapts the weights to a task's support by gradient steps; the outer loop changes the
initial weights, and the inner rates (Li et al. 2017, Meta-SGD; here one a parameter), so that the
adapted weights do well on the task's query. Second order: the outer gradient goes through the
inner steps. Tasks are independent, so the gradient of the sum of their losses is each one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crosyslog.detector import detector_logits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crosyslog.manifest import InnerLoop

Parameters = dict[str, Tensor]


class Lines(NamedTuple):
    """Labelled windows of K tasks.

    Attributes:
        rows_KBL: the row of each line's template in its task's vectors.
        labels_KBL: 1 for an alert, 0 for a normal line.
        weights_KBL: how much each line counts in the loss; they sum to 1 within a task.
    """

    rows_KBL: Tensor
    labels_KBL: Tensor
    weights_KBL: Tensor


class Tasks(NamedTuple):
    """K tasks.

    Attributes:
        vectors_KTD: standardised vectors of each task's distinct templates; rows that no line
            names pad the shorter ones.
        support: the lines to adapt on.
        query: the lines to do well on.
    """

    vectors_KTD: Tensor
    support: Lines
    query: Lines


def of_tasks(values: Mapping[str, Tensor], count: int) -> Parameters:
    """What each of K tasks starts from: its member's, with K in front.

    Args:
        values: each with M in front.
        count: K, a multiple of M.
    """
    return {
        name: value.repeat_interleave(count // len(value), dim=0) for name, value in values.items()
    }


def rates_of(inner: InnerLoop) -> Parameters:
    """The inner rates that a base has learnt, [M]."""
    return {name: torch.tensor(rates) for name, rates in inner.rates.items()}


def for_members(tasks: Tensor, members: int) -> Tensor:
    """The same tasks for each member, one member after the other: [K, ...] to [M K, ...]."""
    return tasks.repeat(members, *(1 for _ in tasks.shape[1:]))


def task_losses(parameters: Mapping[str, Tensor], vectors_KTD: Tensor, lines: Lines) -> Tensor:
    """The weighted binary cross entropy of each task's lines, [K].

    Args:
        parameters: each with K in front.
        vectors_KTD: standardised vectors of the templates.
        lines: the labelled lines.
    """
    logits_KBL = detector_logits(parameters, vectors_KTD, lines.rows_KBL)
    losses_KBL = functional.binary_cross_entropy_with_logits(
        logits_KBL, lines.labels_KBL, reduction="none"
    )
    return (losses_KBL * lines.weights_KBL).sum(dim=(1, 2))


def adapt_parameters(
    parameters: Mapping[str, Tensor],
    rates: Mapping[str, Tensor],
    vectors_KTD: Tensor,
    support: Lines,
    *,
    steps: int,
    first_order: bool = False,
) -> Parameters:
    """The inner loop: gradient steps of each of K tasks on its support.

    Args:
        parameters: the initial weights, each with M in front; they stay as they are.
        rates: the step size of each parameter, [M].
        vectors_KTD: standardised vectors of the templates.
        support: the labelled lines.
        steps: how many.
        first_order: treat the inner gradients as constants in the outer one (FOMAML).

    Returns:
        The adapted weights, each with K in front; differentiable with respect to the initial
        ones and the rates where those ask for gradients.
    """
    count = len(vectors_KTD)
    outer = any(value.requires_grad for value in (*parameters.values(), *rates.values()))
    adapted = of_tasks(parameters, count)
    sizes = {
        name: rate.view(-1, *(1 for _ in adapted[name].shape[1:]))
        for name, rate in of_tasks(rates, count).items()
    }
    for _ in range(steps):
        leaves = {
            name: value
            if outer and value.requires_grad and not first_order
            else value.detach().requires_grad_()
            for name, value in adapted.items()
        }
        gradients = torch.autograd.grad(
            task_losses(leaves, vectors_KTD, support).sum(),
            list(leaves.values()),
            create_graph=outer and not first_order,
        )
        adapted = {
            name: value - sizes[name] * gradient
            for (name, value), gradient in zip(adapted.items(), gradients, strict=True)
        }
    return adapted


def mean_logits(
    parameters: Mapping[str, Tensor],
    rates: Mapping[str, Tensor],
    vectors_KTD: Tensor,
    support: Lines,
    rows_KBL: Tensor,
    *,
    steps: int,
) -> Tensor:
    """The mean of the members' logits, [K, B, L], each adapted to every task; without gradients.

    Args:
        parameters: the initial weights, each with M in front.
        rates: the inner rates, [M].
        vectors_KTD: standardised vectors of the templates.
        support: the lines to adapt on.
        rows_KBL: the templates of the lines to judge.
        steps: inner steps.
    """
    members = len(next(iter(parameters.values())))
    vectors = for_members(vectors_KTD, members)
    fixed = {name: value.detach() for name, value in parameters.items()}
    adapted = adapt_parameters(
        fixed,
        {name: rate.detach() for name, rate in rates.items()},
        vectors,
        Lines(*(for_members(part, members) for part in support)),
        steps=steps,
    )
    with torch.no_grad():
        logits = detector_logits(adapted, vectors, for_members(rows_KBL, members))
    return logits.view(members, -1, *rows_KBL.shape[1:]).mean(dim=0)


def meta_loss(
    parameters: Mapping[str, Tensor],
    rates: Mapping[str, Tensor],
    tasks: Tasks,
    *,
    steps: int,
    first_order: bool = False,
    unadapted_weight: float = 0.0,
) -> Tensor:
    """The outer loss: the query's loss after the inner loop, a mean over each member's tasks.

    The members' losses are added up, so that the gradient of each is its own.

    Args:
        parameters: the initial weights, each with M in front.
        rates: the inner rates, [M].
        tasks: K tasks; each has the same say, so every source of a batch has influence.
        steps: inner steps.
        first_order: see `adapt_parameters`.
        unadapted_weight: the share of the query's loss *before* the inner loop. A support of one
            class allows no step, and then the initial weights must judge by themselves.

    Returns:
        A scalar.
    """
    adapted = adapt_parameters(
        parameters, rates, tasks.vectors_KTD, tasks.support, steps=steps, first_order=first_order
    )
    losses = task_losses(adapted, tasks.vectors_KTD, tasks.query)
    if unadapted_weight:
        initial = of_tasks(parameters, len(losses))
        before = task_losses(initial, tasks.vectors_KTD, tasks.query)
        losses = (1 - unadapted_weight) * losses + unadapted_weight * before
    return losses.mean() * len(next(iter(parameters.values())))
