"""Judges `metalog` and its baselines on a target, as if they had met it for the first time.

Sessions are split by the order in which they begin: the first 30 % are learnt from, the next 10 %
choose the model and its threshold, the last 60 % are judged. Of the first part, one anomalous
session in a hundred has a label, and one normal session in two, as published; both are drawn by the
seed, and no other session has one. The published code takes the other anomalous sessions out of
what is learnt from, by their labels; here they stay, as they would where nobody knows of them. The
labels of the last part are read when all is judged, and by the metrics alone; the one exception is
a figure that says so in its name: F1 of the state that does best there, at a threshold of .5, which
is how the published code chooses.

Shapes: S sessions, N to learn from, J that are judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.errors import LabelError
from crosyslog.logits import score_of, sigmoid
from trainer.metrics import Counts, average_precision, count
from trainer.sessions.baselines import BASELINES, FARTHEST
from trainer.sessions.corpus import contrast_of, contrasted
from trainer.sessions.estimates import Estimates, cluster_sessions, estimate_labels, ways
from trainer.sessions.metrics import best_threshold, unlabelled_threshold
from trainer.sessions.training import (
    Held,
    Lessons,
    choose,
    logits_of,
    meta_train,
    side_by_side,
)
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trainer.sessions.corpus import SessionCorpus
    from trainer.sessions.estimates import Clusters, Unknown
    from trainer.sessions.training import Chosen, SessionConfig, State

#: The method, and the same network that is trained without the trial step.
OURS, PLAIN = "metalog", "no_meta"

#: Shares of the sessions that are learnt from, and that choices are made on.
_LEARNT, _CHOSEN_ON = 0.3, 0.1

#: Where nobody has labelled a session of the target: these of each source choose in their place.
_HELD_SHARE = 0.1

#: Thresholds of the baselines that need no label, where there is none to choose one by: anything
#: unseen, and a distance at which the published method begins a cluster of its own.
_UNLABELLED = {"never_seen": 0.5, "count_clusters": FARTHEST}


class Parts(NamedTuple):
    """The sessions of a target in three parts, by their number.

    Attributes:
        learnt: from.
        chosen_on: choices are made on these.
        judged: these.
    """

    learnt: NDArray[np.int64]
    chosen_on: NDArray[np.int64]
    judged: NDArray[np.int64]


@dataclass
class SessionResult:
    """How a method did.

    Attributes:
        counts: of each seed.
        average_precisions: of each seed.
        best_on_judged: of each seed, F1 of that state of its training that does best on the part
            that is judged, at a threshold of .5; empty for a method without states.
        thresholds: of each seed.
        seconds: that learning took, all seeds together.
        judging_seconds: that judging took.
        judged: sessions in that time.
        scores: of each seed, those of the judged sessions.
        flagged: of each seed, which of them it takes for anomalous.
    """

    counts: list[Counts] = field(default_factory=list)
    average_precisions: list[float] = field(default_factory=list)
    best_on_judged: list[float] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    judging_seconds: float = 0.0
    judged: int = 0
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    flagged: list[NDArray[np.bool_]] = field(default_factory=list)

    @property
    def per_second(self) -> float | None:
        """Sessions judged in a second; none for a method that learns and judges in one go."""
        return self.judged / self.judging_seconds if self.judging_seconds else None


class Task(NamedTuple):
    """What a seed lets the methods know.

    Attributes:
        seed: of all chance.
        labels: of the sessions to learn from, as far as they are known, int8 [N]: 1, 0 or
            `NO_LABEL`.
        target: with the contrast that these labels give.
    """

    seed: int
    labels: NDArray[np.int8]
    target: SessionCorpus


def split_sessions(sessions: int) -> Parts:
    """The parts of so many sessions, which are in the order in which they begin."""
    learnt, chosen_on = int(_LEARNT * sessions), int((_LEARNT + _CHOSEN_ON) * sessions)
    every = np.arange(sessions)
    return Parts(every[:learnt], every[learnt:chosen_on], every[chosen_on:])


class SessionEvaluation:
    """Judges methods on a target."""

    def __init__(
        self,
        target: SessionCorpus,
        sources: Sequence[SessionCorpus],
        config: SessionConfig,
        share: float,
        normal_share: float,
    ) -> None:
        """Prepares the parts.

        Args:
            target: its sessions; those without a label are left out of what is judged.
            sources: whose sessions all have labels, as far as they are used.
            config: of the training.
            share: of the anomalous sessions to learn from, how many have a label, 0 to 1; 0 for
                none, and then no label of the target is used at all.
            normal_share: of the normal ones, 0 to 1.

        Raises:
            LabelError: there is nothing to be found, or to choose by.
        """
        self.target, self.sources = target, sources
        self.parts = split_sessions(len(target))
        self._config, self._share = config, share
        self._normal_share = normal_share if share else 0.0
        labels = target.labels
        judged = self.parts.judged
        self.judged = judged[labels[judged] != NO_LABEL]
        learnt = labels[self.parts.learnt]
        self._anomalous, self._normal = (np.flatnonzero(learnt == kind) for kind in (1, 0))
        chosen_on = self.parts.chosen_on
        self._held = Held(target, chosen_on[labels[chosen_on] != NO_LABEL])
        self._clusters: Clusters = cluster_sessions(target, self.parts.learnt)
        self._check()

    @property
    def labels_given(self) -> int:
        """How many anomalous sessions have a label, in every task."""
        # Rounded first: .07 of 100 is a little more than 7 to a computer.
        wanted = math.ceil(round(self._share * len(self._anomalous), 9))
        return max(1, wanted) if self._share else 0

    @property
    def normal_given(self) -> int:
        """How many normal sessions have a label, in every task."""
        return int(round(self._normal_share * len(self._normal), 9))

    @property
    def kinds(self) -> tuple[int, int]:
        """Among the sessions to learn from, how many are anomalous and how many normal."""
        return len(self._anomalous), len(self._normal)

    @property
    def chosen_on(self) -> NDArray[np.int64]:
        """The labelled sessions that choices are made on."""
        return self._held.sessions

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each judged session is anomalous."""
        return np.asarray(self.target.labels[self.judged] == 1)

    def task(self, seed: int) -> Task:
        """What a seed lets the methods know."""
        labels = np.full(len(self.parts.learnt), NO_LABEL, dtype=np.int8)
        rng = np.random.default_rng(seed)
        labels[rng.choice(self._anomalous, self.labels_given, replace=False)] = 1
        labels[rng.choice(self._normal, self.normal_given, replace=False)] = 0
        contrast = contrast_of(self.target, self.parts.learnt, labels)
        return Task(seed, labels, contrasted(self.target, contrast))

    def judge(
        self,
        names: Sequence[str],
        seeds: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, SessionResult]:
        """Lets methods judge the last part, seed by seed.

        Args:
            names: of the methods; one that needs a label is left out where there is none.
            seeds: of the tasks.
            progress: told how many seeds are done.
        """
        able = [name for name in names if self._share or not BASELINES.get(name, (None, False))[1]]
        results = {name: SessionResult() for name in able}
        for done, seed in enumerate(seeds, start=1):
            task = self.task(seed)
            for name, result in results.items():
                if name in BASELINES:
                    self._judge_baseline(name, task, result)
                else:
                    self._judge_network(name, task, result)
            if progress is not None:
                progress(done)
        return results

    def _judge_baseline(self, name: str, task: Task, result: SessionResult) -> None:
        baseline, _ = BASELINES[name]
        began = perf_counter()
        if self._share:
            held = self._held
            every = [
                baseline(self._lessons(task, unknown), task.labels) for unknown in ways(task.labels)
            ]
            found = [best_threshold([scores[held.sessions]], [held.labels]) for scores in every]
            best = max(range(len(every)), key=lambda way: found[way].average_precision)
            scores, threshold = every[best], found[best].threshold
        else:
            scores = baseline(self._lessons(task, "normal"), task.labels)
            threshold = _UNLABELLED.get(name, 0.0)
        result.seconds += perf_counter() - began
        self._record(result, scores[self.judged], scores[self.judged] >= threshold, threshold)

    def _judge_network(self, name: str, task: Task, result: SessionResult) -> None:
        config = self._config.model_copy(update={"seed": task.seed})
        if name == PLAIN:
            config = config.model_copy(update={"trial_rate": 0.0})
        began = perf_counter()
        states, chosen = self._trained(task, config)
        result.seconds += perf_counter() - began
        threshold = chosen.threshold.value
        if not self._share:
            first = logits_of(chosen.state, task.target, self.parts.learnt)
            threshold = score_of(unlabelled_threshold(first))
        began = perf_counter()
        logits = logits_of(chosen.state, task.target, self.judged)
        result.judging_seconds += perf_counter() - began
        result.judged += len(logits)
        scores = sigmoid(logits)
        result.best_on_judged.append(self._best_f1(states, task.target))
        self._record(result, scores, scores >= threshold, threshold)

    def _trained(self, task: Task, config: SessionConfig) -> tuple[list[State], Chosen]:
        """The states of the training that is chosen, and the one of them that is."""
        rng = np.random.default_rng(task.seed)
        if not self._share:
            parts = [source_parts(source, rng, _HELD_SHARE) for source in self.sources]
            states = meta_train([lessons for lessons, _ in parts], None, config)
            return states, choose(states, [held for _, held in parts], "held-out source sessions")
        sources = [source_parts(source, rng, 0.0)[0] for source in self.sources]
        best: tuple[list[State], Chosen] | None = None
        held = Held(task.target, self._held.sessions)
        for unknown in ways(task.labels):
            states = meta_train(sources, self._lessons(task, unknown), config)
            chosen = choose(states, [held], "the tenth before what is judged")
            if best is None or chosen.average_precision > best[1].average_precision:
                best = states, chosen
        assert best is not None  # noqa: S101 - there are ways to take the unknown
        return best

    def _lessons(self, task: Task, unknown: Unknown) -> Lessons:
        estimates = estimate_labels(self._clusters, task.labels, unknown)
        return Lessons(task.target, self.parts.learnt, estimates)

    def _best_f1(self, states: Sequence[State], target: SessionCorpus) -> float:
        def f1(state: State) -> float:
            flagged = logits_of(state, target, self.judged) >= 0
            return count(flagged, self.truth, self.truth).f1

        return max(side_by_side(f1, states))

    def _record(
        self,
        result: SessionResult,
        scores: NDArray[np.float32],
        flagged: NDArray[np.bool_],
        threshold: float,
    ) -> None:
        truth = self.truth
        result.counts.append(count(flagged, truth, self._unseen))
        result.average_precisions.append(average_precision(truth, scores))
        result.thresholds.append(threshold)
        result.scores.append(scores)
        result.flagged.append(flagged)

    @property
    def _unseen(self) -> NDArray[np.bool_]:
        """Which judged sessions hold a text that none to learn from does."""
        counts = self.target.counts
        new = (counts[self.parts.learnt] > 0).sum(axis=0) == 0
        return np.asarray((counts[self.judged] > 0) @ new.astype(np.float32) > 0)

    def _check(self) -> None:
        name = self.target.name
        if not self.truth.any():
            raise LabelError(
                f"{name}: none of the {len(self.judged):,} sessions to be judged is anomalous: "
                "there is nothing to be found, and nothing to measure"
            )
        if self._share and not len(self._anomalous):
            raise LabelError(
                f"{name}: none of the first {len(self.parts.learnt):,} sessions is anomalous, so "
                "none can have a label: --label-share 0 evaluates without any"
            )
        held = self._held.labels
        if self._share and (not held.any() or held.all()):
            raise LabelError(
                f"{name}: {int(held.sum()):,} of the {len(held):,} sessions to choose by are "
                "anomalous, and both kinds are needed: --label-share 0 evaluates without labels of "
                "the target"
            )


def source_parts(
    source: SessionCorpus, rng: np.random.Generator, held: float
) -> tuple[Lessons, Held]:
    """The labelled sessions of a source: those to learn from, and a share to choose by.

    Args:
        source: its sessions.
        rng: draws those to choose by.
        held: their share of either kind, at least one; 0 for none.

    Raises:
        LabelError: there are not both kinds among either.
    """
    labelled = np.flatnonzero(source.labels != NO_LABEL)
    anomalous = source.labels[labelled] == 1
    fewest = 2 if held else 1
    if min(anomalous.sum(), (~anomalous).sum()) < fewest:
        raise LabelError(
            f"{source.name}: a source needs {fewest} or more sessions of either kind, and of its "
            f"{len(labelled):,} with a label {int(anomalous.sum()):,} are anomalous"
        )
    aside = np.zeros(len(labelled), dtype=np.bool_)
    for kind in (anomalous, ~anomalous):
        drawn = rng.permutation(np.flatnonzero(kind))
        # Neither kind may be missing from what is learnt from.
        aside[drawn[: min(math.ceil(held * len(drawn)), len(drawn) - 1)]] = True
    learnt = labelled[~aside]
    truth = (source.labels[learnt] == 1).astype(np.float32)
    lessons = Lessons(source, learnt, Estimates(truth, np.ones_like(truth)))
    return lessons, Held(source, labelled[aside])
