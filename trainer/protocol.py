"""What is drawn from a stream to judge methods on: tasks, and what each lets a method know.

A task is a position of the stream. What comes before it can be learnt from, what comes after it is
judged, and nothing of the query is looked at before all is judged:

- contiguous: the support are `support` labelled lines in a row, with 5 to 60 % alerts among them,
  as when someone labels around an incident;
- chosen (`ask`): of the `history` lines before the query, with at least 0.2 % alerts among them,
  the labels of as many templates are asked for; which, the lines alone decide;
- of the paper's protocol: contiguous, with 20 to 50 % alerts.

The query are the 10,000 lines right after, with 0.2 to 60 % alerts. Positions are drawn at random,
each one once a seed. One that does not fit is passed over and counted with the reason. The first of
them, a quarter as many as tasks, are judged all the same and make a row of their own, with false
alerts alone: how often a method cries where there is little to find, or little to learn from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from crosyslog.errors import LabelError, SettingError
from trainer.baselines import History, Known
from trainer.tasks import (
    HISTORY_ALERTS,
    HISTORY_LINES,
    QUERY_ALERTS,
    QUERY_LINES,
    REASONS,
    SUPPORT_ALERTS,
    ask_for,
    by_template,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trainer.tasks import LabelledStream

#: Shares of alerts in the support of the paper's protocol.
_PAPER_ALERTS = (0.20, 0.50)

#: Numbers of labels that the curve is drawn through, below the whole number: lines, templates.
_LINES_ON_CURVE, _TEMPLATES_ON_CURVE = (100, 200, 500), (20, 50, 100, 200)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is drawn from a stream.

    Attributes:
        support: labelled lines in a row that a method may learn from.
        ask: instead, templates whose label is asked for.
        history: lines that these are chosen from.
        query: lines after them that it is judged on.
        seeds: how many times tasks are drawn.
        first_seed: the seeds are this one and those after it.
        tasks: at most this many a seed.
        protocol: `honest` or `paper`.
        wrong_labels: the share of the support's labels that are turned around.
        quiet_alerts: adapt with the quiet threshold (`trainer.left_out`).
        curve: judge with fewer labels, too.
        at_once: choose all templates of `ask` at once for every method; ours asks in rounds else.
    """

    support: int = 1000
    ask: int | None = None
    history: int = HISTORY_LINES
    query: int = QUERY_LINES
    seeds: int = 3
    first_seed: int = 0
    tasks: int = 20
    protocol: Literal["honest", "paper"] = "honest"
    wrong_labels: float = 0.0
    quiet_alerts: bool = False
    curve: bool = False
    at_once: bool = False

    def __post_init__(self) -> None:
        """Refuses what excludes itself.

        Raises:
            SettingError: it does.
        """
        if self.ask is not None and self.protocol == "paper":
            raise SettingError(
                "--ask does not go with --protocol paper: its support is contiguous lines"
            )
        if self.at_once and self.ask is None:
            raise SettingError("--at-once is about templates: it goes with --ask")
        if self.quiet_alerts and self.protocol == "paper":
            raise SettingError(
                "--quiet-alerts does not go with --protocol paper: its steps are chosen by F1"
            )

    @property
    def before(self) -> int:
        """Lines of the stream before a query that belong to its task."""
        return self.support if self.ask is None else self.history

    @property
    def part(self) -> str:
        """What these lines are called."""
        return "support" if self.ask is None else "history"

    @property
    def bounds(self) -> tuple[float, float]:
        """The shares of alerts that they may hold."""
        if self.ask is not None:
            return HISTORY_ALERTS
        return SUPPORT_ALERTS if self.protocol == "honest" else _PAPER_ALERTS

    @property
    def labels(self) -> int:
        """How many labels a method is given."""
        return self.support if self.ask is None else self.ask

    @property
    def smaller(self) -> list[int]:
        """The smaller numbers of labels that are judged for the curve, ascending."""
        if not self.curve:
            return []
        points = _LINES_ON_CURVE if self.ask is None else _TEMPLATES_ON_CURVE
        return [labels for labels in points if labels < self.labels]


@dataclass(frozen=True)
class Drawn:
    """Positions of a stream: where the lines before a query start.

    Attributes:
        tasks: pairs of a seed and a position that fits.
        outside: of positions that do not, those that are judged all the same.
        passed_over: how many were passed over, by the reason.
    """

    tasks: list[tuple[int, int]]
    outside: list[tuple[int, int]]
    passed_over: dict[str, int]


def draw(labels: NDArray[np.bool_], plan: Plan) -> Drawn:
    """Draws the tasks of a stream; the same arguments give the same tasks.

    Raises:
        LabelError: the stream is too short, has no alert, or no position fits.
    """
    before, part = plan.before, plan.part
    needed = before + plan.query
    if len(labels) < needed:
        raise LabelError(
            f"the log is too short: it has {len(labels):,} labelled lines, and {needed:,} are "
            f"needed ({before:,} to learn from, the {plan.query:,} after them to be judged)"
        )
    if not labels.any():
        raise LabelError(
            f"none of the {len(labels):,} lines is an alert: there is nothing to be found, and "
            "nothing to measure"
        )
    verdict = verdicts(labels, before, plan.query, plan.bounds)
    if verdict.all():
        why = Counter(reason(number, part) for number in verdict.tolist())
        said = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in why.most_common())
        low, high = plan.bounds
        raise LabelError(
            f"no position of the log makes a task: {before:,} lines in a row with "
            f"{low:.2g} to {high:.2g} of them alerts, and {QUERY_ALERTS[0]:.2g} to "
            f"{QUERY_ALERTS[1]:.2g} of the {plan.query:,} after them; of {len(verdict):,} "
            f"positions, {said}: try another --{part} or a longer log"
        )
    tasks: list[tuple[int, int]] = []
    outside: list[tuple[int, int]] = []
    passed_over: Counter[str] = Counter()
    for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
        order = np.random.default_rng(seed).permutation(len(verdict))
        fitting = np.flatnonzero(verdict[order] == 0)[: plan.tasks]
        tasks += [(seed, start) for start in order[fitting].tolist()]
        # Beyond the last task nothing would have been looked at.
        looked_at = order[: fitting[-1] + 1]
        failing = looked_at[verdict[looked_at] != 0]
        passed_over.update(reason(number, part) for number in verdict[failing].tolist())
        most = max(plan.tasks // 4, 1)
        outside += [(seed, start) for start in failing[:most].tolist()]
    reasons = [reason(number, part) for number in range(1, len(REASONS))]
    return Drawn(tasks, outside, {name: passed_over[name] for name in reasons})


def reason(number: int, part: str) -> str:
    """Why a position is no task; `part` is what the lines before the query are called."""
    return REASONS[number].replace("support", part)


def known_before(stream: LabelledStream, seed: int, start: int, plan: Plan) -> Known:
    """What a method may know of a task: nothing of the query, and no label but the support's."""
    lines = slice(start, start + plan.before)
    rows, labels, history = stream.rows[lines], stream.labels[lines], None
    if plan.ask is not None:
        answer = _answers(rows, labels, plan.wrong_labels, seed, start)
        if not plan.at_once:
            history = History(rows, answer, plan.ask)
        rows, labels = ask_for(stream.vectors, rows, labels, plan.ask)
    if plan.wrong_labels:
        chance = np.random.default_rng([seed, start]).random(len(labels))
        labels = labels ^ (chance < plan.wrong_labels)
    return Known(stream.templates, stream.vectors, rows, labels, history)


def fewer(known: Known, labels: int, plan: Plan) -> Known:
    """The same with fewer labels: the lines nearest to the query, or the first that were chosen."""
    part = slice(-labels, None) if plan.ask is None else slice(labels)
    history = replace(known.history, answers=labels) if known.history is not None else None
    return replace(known, rows=known.rows[part], labels=known.labels[part], history=history)


def _answers(
    rows: NDArray[np.int64], labels: NDArray[np.bool_], wrong: float, seed: int, start: int
) -> Callable[[int], bool]:
    """Somebody who knows what most lines of a template are, and errs by chance each time."""
    used, _, alert = by_template(rows, labels)
    known = dict(zip(used.tolist(), alert.tolist(), strict=True))
    chance = np.random.default_rng([seed, start, 1])
    return lambda row: bool(known[row]) ^ bool(chance.random() < wrong)
