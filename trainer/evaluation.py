"""Judges methods on a stream as if each had met it for the first time: the honest protocol.

A task is a position of the stream. Its support are `support` labelled lines in a row, with 5 to
60 % alerts among them, as when someone labels around an incident; its query are the 10,000 lines
right after, with 0.2 to 60 % alerts. A method is given the support and the query's lines; the
query's labels are read when all is judged, and by the metrics alone.

Positions are drawn at random, each stream position once a seed. One that does not fit is passed
over and counted with the reason. The first of them, a quarter as many as tasks, are judged all the
same and make a row of their own, with false alerts alone: how often a method cries where there is
little to find, or little to learn from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import LabelError, SettingError
from trainer.baselines import BASELINES, Judgement, Known
from trainer.metrics import Counts, average_precision, count
from trainer.tasks import (
    QUERY_ALERTS,
    QUERY_LINES,
    REASONS,
    SUPPORT_ALERTS,
    LabelledStream,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.manifest import Manifest
    from crosyslog.systems import System

    #: From what is known and where the query starts, to a judgement of its lines.
    Method = Callable[[Known, int], Judgement]

#: Methods that start from a base: the published form, and ours as it stands.
BASED = ("maml_lstm", "crosyslog")

#: All methods, in the order of the tables.
METHODS = (*BASELINES, *BASED)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is drawn from a stream.

    Attributes:
        support: labelled lines in a row that a method may learn from.
        query: lines after them that it is judged on.
        seeds: how many times tasks are drawn.
        first_seed: the seeds are this one and those after it.
        tasks: at most this many a seed.
    """

    support: int = 1000
    query: int = QUERY_LINES
    seeds: int = 3
    first_seed: int = 0
    tasks: int = 20


@dataclass(frozen=True)
class Drawn:
    """Positions of a stream: where a support starts.

    Attributes:
        tasks: pairs of a seed and a position that fits.
        outside: of positions that do not, those that are judged all the same.
        passed_over: how many were passed over, by the reason.
    """

    tasks: list[tuple[int, int]]
    outside: list[tuple[int, int]]
    passed_over: dict[str, int]


@dataclass(frozen=True)
class MethodResult:
    """How a method did.

    Attributes:
        counts: of each task.
        average_precisions: of each task.
        outside: counts over all positions that do not fit.
    """

    counts: list[Counts]
    average_precisions: list[float]
    outside: Counts


def draw(labels: NDArray[np.bool_], plan: Plan) -> Drawn:
    """Draws the tasks of a stream; the same arguments give the same tasks.

    Raises:
        LabelError: the stream is too short, has no alert, or no position fits.
    """
    needed = plan.support + plan.query
    if len(labels) < needed:
        raise LabelError(
            f"the log is too short: it has {len(labels):,} labelled lines, and {needed:,} are "
            f"needed ({plan.support:,} to learn from, the {plan.query:,} after them to be judged)"
        )
    if not labels.any():
        raise LabelError(
            f"none of the {len(labels):,} lines is an alert: there is nothing to be found, and "
            "nothing to measure"
        )
    verdict = verdicts(labels, plan.support, plan.query)
    if verdict.all():
        why = Counter(REASONS[number] for number in verdict.tolist())
        said = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in why.most_common())
        raise LabelError(
            f"no position of the log makes a task: {plan.support:,} lines in a row with "
            f"{SUPPORT_ALERTS[0]:.0%} to {SUPPORT_ALERTS[1]:.0%} alerts, and "
            f"{QUERY_ALERTS[0]:.1%} to {QUERY_ALERTS[1]:.0%} in the {plan.query:,} after them; of "
            f"{len(verdict):,} positions, {said}: try another --support or a longer log"
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
        passed_over.update(REASONS[number] for number in verdict[failing].tolist())
        most = max(plan.tasks // 4, 1)
        outside += [(seed, start) for start in failing[:most].tolist()]
    return Drawn(tasks, outside, {reason: passed_over[reason] for reason in REASONS[1:]})


def judge(
    stream: LabelledStream,
    drawn: Drawn,
    methods: Iterable[tuple[str, Method]],
    plan: Plan,
    progress: Callable[[int], None] | None = None,
) -> dict[str, MethodResult]:
    """Lets methods judge the tasks of a stream.

    Args:
        stream: with the labels of all lines; a method sees those of the support.
        drawn: the tasks.
        methods: by name.
        plan: what the tasks were drawn by.
        progress: told how many positions are done.
    """
    methods = list(methods)
    results: dict[str, MethodResult] = {name: MethodResult([], [], Counts()) for name, _ in methods}
    for done, (_, start) in enumerate([*drawn.tasks, *drawn.outside]):
        middle = start + plan.support
        known = Known(
            stream.templates, stream.vectors, stream.rows[start:middle], stream.labels[start:middle]
        )
        query = slice(middle, middle + plan.query)
        labels = stream.labels[query]
        unseen = ~np.isin(stream.rows[query], known.rows)
        for name, method in methods:
            judgement = method(known, middle)
            counts = count(judgement.flagged, labels, unseen)
            result = results[name]
            if done < len(drawn.tasks):
                result.counts.append(counts)
                result.average_precisions.append(average_precision(labels, judgement.scores))
            else:
                results[name] = MethodResult(
                    result.counts, result.average_precisions, result.outside + counts
                )
        if progress is not None:
            progress(done + 1)
    return results


def baseline(name: str, stream: LabelledStream, plan: Plan) -> Method:
    """A baseline as a method over a stream."""
    rule = BASELINES[name]
    return lambda known, middle: rule(known, stream.rows[middle : middle + plan.query])


class BasedMethods:
    """The methods that adapt a base to a task's support and score its query as the agent does."""

    def __init__(
        self,
        base: Bundle,
        stream: LabelledStream,
        offsets: pl.Series,
        *,
        plan: Plan,
        system: System,
        encoder: Encoder,
        cache: EmbeddingCache,
    ) -> None:
        """Prepares a stream.

        Args:
            base: what is adapted: one that `refuse_known` lets pass.
            stream: what is judged.
            offsets: the place of each of its lines in the log: windows are aligned to them.
            plan: what the tasks are drawn by.
            system: the profile of the stream's lines.
            encoder: the base's.
            cache: holds the stream's vectors.
        """
        import polars as pl

        self._base = base
        self._stream = stream
        self._plan = plan
        self._system = system
        self._encoder = encoder
        self._cache = cache
        # Masking a template again changes nothing, so the templates stand for the lines.
        texts = pl.Series("text", stream.templates)[pl.Series(stream.rows)]
        self._lines = pl.DataFrame({"offset": offsets, "text": texts}).with_columns(
            stream=pl.lit(stream.name)
        )
        self._adapted: tuple[Known, Bundle] | None = None

    def method(self, name: str) -> Method:
        """One of `BASED`."""
        return lambda known, middle: self._score(known, middle, with_memory=name == "crosyslog")

    def _score(self, known: Known, middle: int, *, with_memory: bool) -> Judgement:
        from crosyslog.scorer import Scorer

        bundle = self._adapt(known)
        manifest = bundle.manifest.model_copy(update={"memory": with_memory})
        scorer = Scorer(replace(bundle, manifest=manifest), self._encoder, self._cache)
        lines = self._with_window_start(middle)
        scored, _ = scorer.score(lines, {})
        query = scored.tail(self._plan.query)
        return Judgement(query["score"].to_numpy(), query["anomalous"].to_numpy())

    def _with_window_start(self, middle: int) -> pl.DataFrame:
        """The query behind the lines of its first window that came before, as the agent reads."""
        import polars as pl

        from crosyslog.windows import WINDOW

        first = self._lines["offset"][middle]
        before = max(middle - WINDOW, 0)
        return self._lines.slice(before, middle - before + self._plan.query).filter(
            pl.col("offset") >= first - first % WINDOW
        )

    def _adapt(self, known: Known) -> Bundle:
        """Adapts once a task, for all methods that start from the base."""
        from trainer.adaptation import adapt_to_stream

        if self._adapted is None or self._adapted[0] is not known:
            used, rows = np.unique(known.rows, return_inverse=True)
            support = LabelledStream(
                self._stream.name,
                [known.templates[row] for row in used],
                known.vectors[used],
                rows.astype(np.int64),
                known.labels,
            )
            bundle = adapt_to_stream(
                self._base, support, system=self._system, version="unsaved", command=""
            )
            self._adapted = known, bundle
        return self._adapted[1]


def refuse_known(base: Manifest, target: str, system: System) -> None:
    """Refuses a base that was trained on the system that it would be judged on.

    Raises:
        SettingError: it was.
    """
    known = {target, system.name} & set(base.sources)
    if known:
        raise SettingError(
            f"the base {base.target} was trained on {', '.join(sorted(known))}: a system is judged "
            "with a base that does not know it; name another with --base, or `trainer train` one "
            "without it"
        )


def check_methods(names: Sequence[str]) -> list[str]:
    """The methods of these names in the order of the tables; all of them for none.

    Raises:
        SettingError: there is no such method.
    """
    for name in names:
        if name not in METHODS:
            raise SettingError(f"--method {name}: it is one of {', '.join(METHODS)}")
    return [name for name in METHODS if name in names or not names]
