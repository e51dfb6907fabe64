"""From judged sessions to what the page shows of them beyond their figures.

Shapes: S sessions of the target, J of them that are judged, T texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trainer.metrics import precision_recall
from trainer.sessions.baselines import BASELINES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from trainer.sessions.corpus import SessionCorpus
    from trainer.sessions.evaluation import SessionEvaluation, SessionResult

#: Wrong sessions that are shown: a page of all of them would open slowly.
_SESSIONS = 100

#: Where along the recall the curves of seeds are averaged.
_RECALL = np.linspace(0, 1, 200)


@dataclass(frozen=True)
class WrongSession:
    """A session that was judged wrong.

    Attributes:
        key: what it is called.
        missed: whether it is anomalous, and was taken for normal; else it is the other way round.
        seeds: of how many seeds the judgement was wrong.
        lines: how many it has.
        text: of its groups of templates, that of the one which the fewest sessions to learn from
            hold; of several, the first that the session comes to.
        holding: how many of the sessions to learn from hold it.
    """

    key: str
    missed: bool
    seeds: int
    lines: int
    text: str
    holding: int


@dataclass(frozen=True)
class WrongSessions:
    """The sessions that a method judged wrong in any of the seeds.

    Attributes:
        missed: how many are anomalous.
        false_alerts: how many are normal.
        shown: some of them, the missed ones first; those of the most seeds first of either kind,
            and of as many in the order in which they begin.
    """

    missed: int
    false_alerts: int
    shown: list[WrongSession]


@dataclass(frozen=True)
class SessionDetails:
    """One method.

    Attributes:
        recall: of the precision-recall curve, ascending.
        precision: at each of these, a mean over seeds.
        seconds: that learning took, a mean over seeds.
        per_second: sessions judged in a second; none where learning and judging are one.
        wrong: none for a method whose judgements are not looked at.
    """

    recall: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    seconds: float = 0.0
    per_second: float | None = None
    wrong: WrongSessions | None = None


def inspect_sessions(
    evaluation: SessionEvaluation, results: Mapping[str, SessionResult]
) -> dict[str, SessionDetails]:
    """What the page shows of each method, by its name.

    The wrong judgements of one are looked at: of the first network, and of the first method where
    no network is judged.

    Args:
        evaluation: what was judged.
        results: by method; at least a seed each.
    """
    looked_at = next((name for name in results if name not in BASELINES), next(iter(results), ""))
    details = {}
    for name, result in results.items():
        details[name] = SessionDetails(
            recall=_RECALL.tolist(),
            precision=_mean_precision(evaluation.truth, result.scores).tolist(),
            seconds=result.seconds / len(result.scores),
            per_second=result.per_second,
            wrong=_wrong(evaluation, result) if name == looked_at else None,
        )
    return details


def _mean_precision(
    truth: NDArray[np.bool_], scores: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """The precision at each `_RECALL`, a mean over seeds.

    Not of all seeds' scores together: those of two trainings are on two scales.

    Args:
        truth: whether each session is anomalous, [J].
        scores: of each seed, those of the sessions, [J].
    """
    every = []
    for one in scores:
        recall, precision = precision_recall(truth, one)
        # What is lower than a recall is reached with the next threshold that there is.
        every.append(np.array(precision)[np.searchsorted(recall, _RECALL)])
    return np.asarray(np.mean(every, axis=0))


def _wrong(evaluation: SessionEvaluation, result: SessionResult) -> WrongSessions:
    target, truth = evaluation.target, evaluation.truth
    times = (np.stack(result.flagged) != truth).sum(axis=0)
    missed, false_alerts = (_most_often(times, truth == kind) for kind in (True, False))
    # Half of the places for either kind, unless the other one needs fewer.
    of_missed = max(_SESSIONS // 2, _SESSIONS - len(false_alerts))
    first = missed[:of_missed]
    chosen = np.concatenate([first, false_alerts[: _SESSIONS - len(first)]])
    holding = np.asarray((target.counts[evaluation.parts.learnt] > 0).sum(axis=0))
    shown = []
    for place in chosen.tolist():
        session = int(evaluation.judged[place])
        rarest = _rarest(target, session, holding)
        shown.append(
            WrongSession(
                key=target.keys[session],
                missed=bool(truth[place]),
                seeds=int(times[place]),
                lines=len(target.rows.of(session)),
                text=target.texts[rarest],
                holding=int(holding[rarest]),
            )
        )
    return WrongSessions(len(missed), len(false_alerts), shown)


def _most_often(times: NDArray[np.int64], kind: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The sessions of a kind that were judged wrong at all, by their place among the judged.

    Args:
        times: how often each was, [J].
        kind: whether it is of the kind, [J].
    """
    found = np.flatnonzero((times > 0) & kind)
    return found[np.argsort(-times[found], kind="stable")]


def _rarest(target: SessionCorpus, session: int, holding: NDArray[np.int64]) -> int:
    """The number of the text in a session that the fewest sessions to learn from hold.

    Args:
        target: its corpus.
        session: its number.
        holding: how many hold each text, [T].
    """
    texts = target.rows.of(session)
    return int(texts[np.argmin(holding[texts])])
