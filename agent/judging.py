"""Raw lines to events: the same path for lines from Kafka and from a file."""

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from crosyslog.events import build_events
from crosyslog.lines import decode, split
from crosyslog.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.store import Model
    from crosyslog.windows import PartitionState


class AbandonedError(Exception):
    """The work was given up: nobody waits for its result any more."""


class Lines(NamedTuple):
    """Lines to be judged, in columns of equal length.

    Attributes:
        topic: of all of them.
        values: the raw lines.
        partitions: of each line.
        offsets: ascending within a partition.
        fresh: whether it is judged, or only read again because later scores depend on it.
    """

    topic: str
    values: Sequence[bytes | None]
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    fresh: NDArray[np.bool_]


class Judged(NamedTuple):
    """The judgement of lines.

    Attributes:
        events: of the anomalous lines, in the lines' order.
        rows: which lines these are.
        scores: of the fresh lines.
        novel: how many of the fresh lines are unlike the support.
        unsplit: how many of the fresh lines the profile could not split.
        states: what the next call needs, by stream.
        seconds: what each stage took.
    """

    events: list[dict[str, Any]]
    rows: list[int]
    scores: NDArray[np.float32]
    novel: int
    unsplit: int
    states: dict[str, PartitionState]
    seconds: dict[str, float]


class Judge:
    """A model at work on raw lines; used by one thread at a time."""

    def __init__(
        self, model: Model, encoder: Encoder, cache: EmbeddingCache, threshold: float | None
    ) -> None:
        """Prepares a model.

        Raises:
            BundleVersionError: the model was made with another encoder.
        """
        self._system = model.system
        self._encoder = _AbandonableEncoder(encoder)
        self._scorer = Scorer(model.bundle, self._encoder, cache, threshold)

    def judge(
        self,
        lines: Lines,
        states: Mapping[str, PartitionState],
        wanted: Callable[[], bool] = lambda: True,
    ) -> Judged:
        """Judges lines.

        Args:
            lines: to be judged.
            states: by stream, what the last call returned.
            wanted: asked now and then from this thread; once false, the work is given up.

        Raises:
            AbandonedError: it was given up.
        """
        import polars as pl

        began = perf_counter()
        partitions = pl.Series("partition", lines.partitions, dtype=pl.Int64)
        frame = split(decode(lines.values), self._system).with_columns(
            pl.Series("offset", lines.offsets, dtype=pl.Int64),
            partitions,
            pl.lit(lines.topic).alias("topic"),
            pl.concat_str(pl.lit(lines.topic + "/"), partitions.cast(pl.String)).alias("stream"),
        )
        decoded = perf_counter()
        self._encoder.wanted = wanted
        scored, renewed = self._scorer.score(frame, states)
        judged = perf_counter()
        fresh = scored.with_row_index("row").filter(pl.Series(lines.fresh))
        anomalous = fresh.filter("anomalous")
        events = build_events(anomalous, self._scorer, self._system.name, datetime.now(UTC))
        built = perf_counter()
        return Judged(
            events,
            anomalous["row"].to_list(),
            fresh["score"].to_numpy(),
            int(fresh["novel"].sum()),
            fresh.height - int(fresh["split"].sum()),
            renewed,
            {"decode": decoded - began, "score": judged - decoded, "events": built - judged},
        )


class _AbandonableEncoder:
    """An encoder that stops between two pieces of its work once nobody wants the result.

    The cache encodes in pieces of at most a quarter of a second and keeps each: a cold batch can
    take half a minute, and neither a rebalance nor a stop can wait for that.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.id = encoder.id
        self.name = encoder.name
        self.dim = encoder.dim
        self.device = encoder.device
        self.wanted: Callable[[], bool] = lambda: True
        self._inner = encoder

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.wanted():
            raise AbandonedError
        return self._inner.encode(texts)
