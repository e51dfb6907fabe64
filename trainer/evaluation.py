"""Judges methods on a stream as if each had met it for the first time (`trainer.protocol`).

A method is given what is known of a task and the query's lines; the query's labels are read when
all is judged, and by the metrics alone. The one exception says so in its name: the *oracle step*
of the paper's protocol, which takes the best of 15 inner steps by the query's labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import SettingError
from trainer.based_methods import BASED
from trainer.baselines import BASELINES, Judgement
from trainer.method_choice import SESSION_METHODS
from trainer.metrics import Counts, average_precision, count
from trainer.protocol import fewer, known_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from trainer.based_methods import Method, SteppedMethod
    from trainer.baselines import Known
    from trainer.protocol import Drawn, Plan
    from trainer.tasks import LabelledStream

    #: From what is known and the templates of the query's lines to a judgement of these.
    Rule = Callable[[Known, NDArray[np.int64]], Judgement]

#: The entry points by which a package of a user's own adds methods.
GROUP = "crosyslog.methods"

#: What the name of a method ends in whose inner steps are chosen by the query's labels.
ORACLE = " (oracle step)"

#: What the name of a method ends in that sees the stream split by host.
BY_HOST = " (by host)"


@dataclass
class MethodResult:
    """How a method did.

    Attributes:
        counts: of each task.
        average_precisions: of each task.
        outside: counts over all positions that do not fit.
        scores: of each task, those of the query's lines.
        flagged: of each task, which of these the method takes for alerts.
        unseen: of each task, which of these are of templates that the support lacks.
        fewer: F1 of each task, by a smaller number of labels.
        seconds: all of it took.
    """

    counts: list[Counts] = field(default_factory=list)
    average_precisions: list[float] = field(default_factory=list)
    outside: Counts = field(default_factory=Counts)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    flagged: list[NDArray[np.bool_]] = field(default_factory=list)
    unseen: list[NDArray[np.bool_]] = field(default_factory=list)
    fewer: dict[int, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


def judge(
    stream: LabelledStream,
    drawn: Drawn,
    methods: Iterable[tuple[str, Method]],
    plan: Plan,
    progress: Callable[[int], None] | None = None,
    oracles: Mapping[str, SteppedMethod] | None = None,
) -> dict[str, MethodResult]:
    """Lets methods judge the tasks of a stream.

    Args:
        stream: with the labels of all lines; a method sees those of the support.
        drawn: the tasks.
        methods: by name.
        plan: what the tasks were drawn by.
        progress: told how many positions are done.
        oracles: methods, by name, of which the best step is taken by the query's labels.
    """
    methods, oracles = list(methods), oracles or {}
    names = [name for name, _ in methods] + [name + ORACLE for name in oracles]
    results = {name: MethodResult() for name in names}
    for done, (seed, start) in enumerate([*drawn.tasks, *drawn.outside]):
        is_task = done < len(drawn.tasks)
        known = known_before(stream, seed, start, plan)
        middle = start + plan.before
        query = slice(middle, middle + plan.query)
        labels = stream.labels[query]
        unseen = ~np.isin(stream.rows[query], known.rows)
        for name, method in methods:
            began = perf_counter()
            judgement = method(known, middle)
            results[name].seconds += perf_counter() - began
            _record(results[name], judgement, labels, unseen, is_task=is_task)
        for name, stepped in oracles.items():
            began = perf_counter()
            judgement = max(stepped(known, middle), key=lambda said: _f1(said, labels))
            results[name + ORACLE].seconds += perf_counter() - began
            _record(results[name + ORACLE], judgement, labels, unseen, is_task=is_task)
        if is_task:
            for labelled in plan.smaller:
                part = fewer(known, labelled, plan)
                for name, method in methods:
                    f1 = _f1(method(part, middle), labels)
                    results[name].fewer.setdefault(labelled, []).append(f1)
        if progress is not None:
            progress(done + 1)
    return results


def by_rule(rule: Rule, stream: LabelledStream, plan: Plan) -> Method:
    """A rule that judges templates, as a method over a stream."""
    return lambda known, middle: rule(known, stream.rows[middle : middle + plan.query])


def rules() -> dict[str, Rule]:
    """The rules by name: the baselines, then what installed packages add.

    A package adds a method by an entry point of the group `crosyslog.methods`: the method's name,
    and a function from what is known (`trainer.baselines.Known`) and the templates of the query's
    lines (numbers, [Q]) to a `trainer.baselines.Judgement`.

    Raises:
        SettingError: such a method has the name of another one, or cannot be loaded.
    """
    found: dict[str, Rule] = dict(BASELINES)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        origin = f"the method {entry.name!r} of {entry.dist.name if entry.dist else entry.value}"
        if entry.name in {*found, *BASED}:
            raise SettingError(f"{origin} has the name of another one: give it its own")
        try:
            rule = entry.load()
        except Exception as error:
            raise SettingError(
                f"{origin} cannot be loaded ({entry.value}): {type(error).__name__}: {error}"
            ) from error
        found[entry.name] = _checked(entry.name, rule)
    return found


def check_methods(names: Sequence[str], known: Iterable[str]) -> list[str]:
    """The methods of these names in the order of the tables; all of them for none.

    Args:
        names: that were given.
        known: those of the rules.

    Raises:
        SettingError: there is no such method.
    """
    there = [*known, *BASED]
    for name in names:
        if name not in there:
            raise SettingError(
                f"--method {name}: it is one of {', '.join(there)}, which judge lines, or of "
                f"{', '.join(SESSION_METHODS)}, which judge sessions"
            )
    return [name for name in there if name in names or not names]


def _checked(name: str, rule: Rule) -> Rule:
    """A rule of a user's own that is told what is wrong with its answer."""

    def judge(known: Known, query: NDArray[np.int64]) -> Judgement:
        try:
            said = rule(known, query)
            scores = np.asarray(said.scores, dtype=np.float32)
            flagged = np.asarray(said.flagged, dtype=np.bool_)
        except Exception as error:
            raise SettingError(
                f"--method {name} failed: {type(error).__name__}: {error}"
            ) from error
        if scores.shape != query.shape or flagged.shape != query.shape:
            raise SettingError(
                f"--method {name} must give a score and a decision for each of {len(query):,} "
                f"lines, and gave {scores.shape} and {flagged.shape}"
            )
        if not np.isfinite(scores).all():
            raise SettingError(f"--method {name} gave scores that are not finite")
        return Judgement(scores, flagged)

    return judge


def _record(
    result: MethodResult,
    judgement: Judgement,
    labels: NDArray[np.bool_],
    unseen: NDArray[np.bool_],
    *,
    is_task: bool,
) -> None:
    counts = count(judgement.flagged, labels, unseen)
    if not is_task:
        result.outside += counts
        return
    result.counts.append(counts)
    result.average_precisions.append(average_precision(labels, judgement.scores))
    result.scores.append(judgement.scores)
    result.flagged.append(judgement.flagged)
    result.unseen.append(unseen)


def _f1(judgement: Judgement, labels: NDArray[np.bool_]) -> float:
    return count(judgement.flagged, labels, labels).f1


def split_results(
    results: Mapping[str, MethodResult],
) -> tuple[dict[str, MethodResult], dict[str, MethodResult]]:
    """The results of methods on the stream as it is, and those of it split by host, by method."""

    def of(*, by_host: bool) -> Iterator[tuple[str, MethodResult]]:
        for name, result in results.items():
            if name.endswith(BY_HOST) == by_host:
                yield name.removesuffix(BY_HOST), result

    return dict(of(by_host=False)), dict(of(by_host=True))
