"""What an adapted model makes of the lines of a log that nobody labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.scorer import Scorer
from trainer.choosing import facility_location
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.scorer import Nearest
    from crosyslog.windows import PartitionState
    from trainer.whole_logs import WholeLog

#: Templates, the most frequent ones, that the most telling are chosen from.
_MOST_COMPARED = 2_000

#: Lines that are judged together.
_LINES_AT_ONCE = 100_000


class ToldAlert(NamedTuple):
    """A template that would have raised alerts.

    Attributes:
        template: masked text.
        lines: that would have raised one.
        score: the highest of these.
        labelled: whether the template itself has a label.
        nearest: the labelled template that it is most like, but for itself.
    """

    template: str
    lines: int
    score: float
    labelled: bool
    nearest: Nearest | None


@dataclass(frozen=True)
class RestOfLog:
    """The lines without label, judged.

    Attributes:
        lines: how many there are.
        alerts: how many of them would have raised an alert.
        labelled: how many of these because their template has the label of one.
        hours: from the first to the last of them; none where their times do not tell.
        told: templates of these alerts, first those that have no label, which tell what the model
            has made of the labels: one that stands for the most lines of its like before others.
    """

    lines: int
    alerts: int
    labelled: int
    hours: float | None
    told: Sequence[ToldAlert]

    @property
    def per_hour(self) -> float | None:
        """Alerts an hour; none where times do not tell."""
        return self.alerts / self.hours if self.hours else None


def judge_rest(
    bundle: Bundle, log: WholeLog, encoder: Encoder, cache: EmbeddingCache, most: int = 20
) -> RestOfLog | None:
    """Judges the lines of a log that have no label of their own; none where all have one.

    Args:
        bundle: adapted.
        log: all lines: those with a label are context for a detector that reads it.
        encoder: the bundle's.
        cache: of vectors.
        most: templates that are told at most.
    """
    rest = log.labels == NO_LABEL
    if not rest.any():
        return None
    scorer = Scorer(bundle, encoder, cache)
    scores = _scores(scorer, log)
    flagged = rest & (scores >= scorer.threshold)
    alerts = np.bincount(log.rows[flagged], minlength=len(log.templates))
    highest = np.zeros(len(log.templates), dtype=np.float32)
    np.maximum.at(highest, log.rows[flagged], scores[flagged])
    labelled = set(bundle.support["template"])
    known = np.array([template in labelled for template in log.templates], dtype=np.bool_)
    rows = [
        row
        for some in (~known, known)
        for row in _telling(np.flatnonzero(some & (alerts > 0)), alerts, log, encoder, cache, most)
    ]
    told = [
        ToldAlert(
            log.templates[row],
            int(alerts[row]),
            float(highest[row]),
            bool(known[row]),
            _nearest_other(scorer, log.templates[row]),
        )
        for row in rows[:most]
    ]
    return RestOfLog(
        int(rest.sum()), int(flagged.sum()), int(alerts[known].sum()), log.hours(rest), told
    )


def _telling(
    rows: NDArray[np.int64],
    alerts: NDArray[np.int64],
    log: WholeLog,
    encoder: Encoder,
    cache: EmbeddingCache,
    most: int,
) -> list[int]:
    """Of some templates those that stand for the others, by facility location."""
    rows = rows[np.argsort(-alerts[rows], kind="stable")[:_MOST_COMPARED]]
    vectors = cache.vectors([log.templates[row] for row in rows.tolist()], encoder)
    return [int(row) for row in rows[facility_location(vectors, alerts[rows], most)]]


def _scores(scorer: Scorer, log: WholeLog) -> NDArray[np.float32]:
    """The score of each line, [N]."""
    if not scorer.bundle.detector.reads_context:
        return _judged(scorer, log.templates, 0, {})[0][log.rows]
    # Masking a template again changes nothing, so the templates stand for the lines.
    texts = np.array(log.templates, dtype=object)
    scores: list[NDArray[np.float32]] = []
    states: dict[str, PartitionState] = {}
    for start in range(0, len(log), _LINES_AT_ONCE):
        part = texts[log.rows[start : start + _LINES_AT_ONCE]].tolist()
        some, states = _judged(scorer, part, start, states)
        scores.append(some)
    return np.concatenate(scores)


def _judged(
    scorer: Scorer, texts: list[str], first: int, states: dict[str, PartitionState]
) -> tuple[NDArray[np.float32], dict[str, PartitionState]]:
    import polars as pl

    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String}).with_columns(
        stream=pl.lit("log"), offset=pl.int_range(first, first + len(texts))
    )
    scored, states = scorer.score(frame, states)
    return scored["score"].to_numpy(), states


def _nearest_other(scorer: Scorer, template: str) -> Nearest | None:
    return next((one for one in scorer.nearest(template) if one.template != template), None)
