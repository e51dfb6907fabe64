"""A meta-iteration: members and tasks as a dimension of every tensor, against a plain loop.

Both do the same arithmetic through the same functions, with the same number of threads, on the same
tasks of simulated logs; in the loop each task is alone, without the padding that tasks of unlike
size need side by side, and the gradients add up. The vectors are random: what is computed does not
depend on them, and no encoder is needed. What is compared is measured in turn, and the best time of
each counts: a machine that is busy is busy for all. The gradients must be the same up to rounding,
or the times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from crosyslog.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from trainer.maml import Parameters, Tasks
    from trainer.tasks import LabelledStream
    from trainer.training import TrainingConfig

    Iteration = Callable[[Parameters, Parameters, Tasks, TrainingConfig], list[Tensor]]

SYSTEMS = ("bgl", "liberty")

#: What is claimed: this many times as fast, and gradients that differ by less.
RATIO, DIFFERENCE = 1.4, 1e-4

_DIM = 384


def main() -> None:
    """Measures, prints a table, and writes its figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=40_000, help="of each simulated log")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    from trainer.training import TrainingConfig

    settings = TrainingConfig()
    with tempfile.TemporaryDirectory(prefix="crosyslog-bench-") as scratch:
        streams = [simulate(system, given.lines, Path(scratch)) for system in SYSTEMS]
    tasks = draw(streams, settings)
    count, templates = tasks.vectors_KTD.shape[:2]
    print(
        f"{count} tasks of {settings.members} members, each "
        f"{tasks.support.rows_KBL[0].numel():,} lines of support and "
        f"{tasks.query.rows_KBL[0].numel():,} of query, at most {templates} templates; "
        f"{settings.inner_steps} inner steps; best of {given.rounds}"
    )
    print(f"{'':26}{'together, s':>12}{'in a loop, s':>14}{'ratio':>8}{'gradients differ by':>22}")
    figures: dict[str, float] = {}
    for threads in (1, 2):
        for first_order in (False, True):
            order = "first_order" if first_order else "second_order"
            config = settings.model_copy(update={"first_order": first_order})
            with torch_threads(threads):
                row = measure(tasks, config, given.rounds)
            print(
                f"{order.replace('_', ' '):14}{threads} thread{'s' * (threads > 1):5}"
                f"{row['together_seconds']:>12.3f}{row['loop_seconds']:>14.3f}"
                f"{row['ratio']:>8.2f}{row['difference']:>22.1e}"
            )
            figures |= {f"{order}_threads_{threads}_{name}": value for name, value in row.items()}
    print(f"claimed: second order at least {RATIO} times as fast, gradients within {DIFFERENCE:g}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def simulate(system: str, lines: int, folder: Path) -> LabelledStream:
    """A simulated log as a stream, with a random unit vector for each template."""
    from crosyslog.systems import load_system
    from trainer.labelled_logs import read_labelled
    from trainer.simulation import write_simulated_log
    from trainer.tasks import LabelledStream

    path = folder / f"{system}.log"
    write_simulated_log(system=system, lines=lines, anomaly_rate=0.1, seed=0, output=path)
    log = read_labelled(path, load_system(system))
    vectors = np.random.default_rng(0).standard_normal((len(log.templates), _DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return LabelledStream(system, log.templates, vectors.astype(np.float32), log.rows, log.labels)


def draw(streams: list[LabelledStream], config: TrainingConfig) -> Tasks:
    """The tasks of one meta-iteration, as the training draws them."""
    from trainer.tasks import TaskSampler

    vectors = np.concatenate([stream.vectors for stream in streams])
    sampler = TaskSampler(
        streams,
        vectors.mean(axis=0),
        vectors.std(axis=0),
        support_lines=config.support_lines,
        query_windows=config.query_windows,
        seen_weight=config.seen_weight,
        repeat_power=config.repeat_power,
        permuted=config.permuted,
        disguised=config.disguised,
        rng=np.random.default_rng(0),
    )
    return sampler.draw(config.tasks_a_source, members=config.members)


def measure(tasks: Tasks, config: TrainingConfig, rounds: int) -> dict[str, float]:
    """Seconds of a meta-iteration both ways, their ratio, and how far the gradients differ."""
    parameters, rates = initial(config)
    ways: dict[str, Iteration] = {"together": together, "loop": in_a_loop}
    gradients: dict[str, list[Tensor]] = {}
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = perf_counter()
            gradients[name] = way(parameters, rates, tasks, config)
            seconds[name] = min(seconds[name], perf_counter() - began)
    return {
        "together_seconds": seconds["together"],
        "loop_seconds": seconds["loop"],
        "ratio": seconds["loop"] / seconds["together"],
        "difference": max(
            float((ours - plain).abs().max() / plain.abs().max())
            for ours, plain in zip(gradients["together"], gradients["loop"], strict=True)
        ),
    }


def initial(config: TrainingConfig) -> tuple[Parameters, Parameters]:
    """Initial weights and inner rates that ask for gradients."""
    from crosyslog.detector import LstmDetector
    from crosyslog.manifest import DetectorShape

    torch.manual_seed(0)
    shape = DetectorShape(
        dim=_DIM, projected=config.projected, hidden=config.hidden, members=config.members
    )
    parameters: Parameters = LstmDetector(shape).stacked()
    # It starts at zero, and at zero it has no part in any gradient of second order.
    torch.nn.init.normal_(parameters["direct.weight"], std=0.05)
    parameters = {name: value.requires_grad_() for name, value in parameters.items()}
    rates = {
        name: torch.full((config.members,), config.inner_rate, requires_grad=True)
        for name in parameters
    }
    return parameters, rates


def together(
    parameters: Parameters, rates: Parameters, tasks: Tasks, config: TrainingConfig
) -> list[Tensor]:
    """The meta-gradient, of the weights and then of the rates, with all tasks at once."""
    from trainer.maml import meta_loss

    loss = meta_loss(
        parameters,
        rates,
        tasks,
        steps=config.inner_steps,
        first_order=config.first_order,
        unadapted_weight=config.unadapted_weight,
    )
    wanted = [*parameters.values(), *rates.values()]
    return list(torch.autograd.grad(loss, wanted))


def in_a_loop(
    parameters: Parameters, rates: Parameters, tasks: Tasks, config: TrainingConfig
) -> list[Tensor]:
    """The same meta-gradient, one task of one member after another."""
    total = [torch.zeros_like(value) for value in (*parameters.values(), *rates.values())]
    each = len(tasks.vectors_KTD) // config.members
    for number in range(len(tasks.vectors_KTD)):
        own = slice(number // each, number // each + 1)
        gradients = together(
            {name: value[own] for name, value in parameters.items()},
            {name: rate[own] for name, rate in rates.items()},
            alone(tasks, number),
            config,
        )
        for sums, gradient in zip(total, gradients, strict=True):
            sums[own] += gradient / each
    return total


def alone(tasks: Tasks, number: int) -> Tasks:
    """One task of several, without the padding."""
    from trainer.maml import Lines, Tasks

    support, query = (
        Lines(*(part[number : number + 1] for part in lines))
        for lines in (tasks.support, tasks.query)
    )
    templates = int(max(support.rows_KBL.max(), query.rows_KBL.max())) + 1
    return Tasks(tasks.vectors_KTD[number : number + 1, :templates], support, query)


if __name__ == "__main__":
    main()
