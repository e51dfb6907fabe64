"""Raw lines to events: the same path for lines from Kafka and from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import numpy as np
import orjson

from agent.dead_letters import DeadLetter
from crosyslog.errors import CrosyslogError
from crosyslog.events import build_events
from crosyslog.lines import decode, read_texts, split
from crosyslog.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl
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
        values: the raw lines, binary.
        partitions: of each line.
        offsets: ascending within a partition.
        fresh: whether it is judged, or only read again because later scores depend on it.
    """

    topic: str
    values: pl.Series
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    fresh: NDArray[np.bool_]


@dataclass
class Judged:
    """The judgement of lines.

    Attributes:
        events: of the anomalous lines, in the lines' order.
        rows: which lines these are.
        dead: the fresh lines that cannot be judged, in their order.
        scores: of the fresh lines that can.
        novel: how many of these are unlike the support.
        unsplit: how many of these the profile could not split.
        states: what the next call needs, by stream.
        seconds: what each stage took.
    """

    states: dict[str, PartitionState]
    events: list[dict[str, Any]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    scores: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    novel: int = 0
    unsplit: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, later: Judged) -> None:
        """Adds the judgement of lines that come after these."""
        self.states = later.states
        self.events += later.events
        self.rows += later.rows
        self.dead += later.dead
        self.scores = np.concatenate((self.scores, later.scores))
        self.novel += later.novel
        self.unsplit += later.unsplit
        for stage, seconds in later.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class Judge:
    """A model at work on raw lines; used by one thread at a time."""

    def __init__(
        self,
        model: Model,
        encoder: Encoder,
        cache: EmbeddingCache,
        threshold: float | None,
        max_line_bytes: int,
    ) -> None:
        """Prepares a model.

        Args:
            model: what judges.
            encoder: the one that it was made with.
            cache: of vectors.
            threshold: in place of the model's.
            max_line_bytes: a longer line is a dead letter.

        Raises:
            BundleVersionError: the model was made with another encoder.
        """
        self.model = model
        self._encoder = _AbandonableEncoder(encoder)
        self._scorer = Scorer(model.bundle, self._encoder, cache, threshold)
        self._longest = max_line_bytes

    def judge(
        self,
        lines: Lines,
        states: Mapping[str, PartitionState],
        wanted: Callable[[], bool] = lambda: True,
    ) -> Judged:
        """Judges lines; one that cannot be judged is a dead letter, and stops no other.

        Args:
            lines: to be judged.
            states: by stream, what the last call returned.
            wanted: asked now and then from this thread; once false, the work is given up.

        Raises:
            AbandonedError: it was given up.
            CrosyslogError: no line can be judged.
        """
        self._encoder.wanted = wanted
        judged = Judged(dict(states))
        readable = self._readable(lines, judged.dead)
        judged.add(self._judge(lines, readable, judged.states))
        judged.dead.sort()
        return judged

    def _readable(self, lines: Lines, dead: list[DeadLetter]) -> NDArray[np.int64]:
        """The rows that hold something of a size that can be judged."""
        import polars as pl

        sizes = (
            lines.values.to_frame("value")
            .select(pl.col("value").bin.size().cast(pl.Int64).fill_null(-1))
            .to_series()
            .to_numpy()
        )
        dead += [
            DeadLetter(row, "null", "the message has no value")
            for row in np.flatnonzero((sizes < 0) & lines.fresh).tolist()
        ]
        too_long = f"bytes are more than batch.max_line_bytes={self._longest}"
        dead += [
            DeadLetter(row, "oversized", f"{sizes[row]} {too_long}")
            for row in np.flatnonzero((sizes > self._longest) & lines.fresh).tolist()
        ]
        return np.flatnonzero((sizes >= 0) & (sizes <= self._longest))

    def _judge(
        self, lines: Lines, rows: NDArray[np.int64], states: dict[str, PartitionState]
    ) -> Judged:
        """Judges some lines; where that fails, each half of them."""
        import polars as pl

        try:
            return self._attempt(lines, rows, states)
        except (AbandonedError, CrosyslogError):
            raise
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - any fault of a line
            if len(rows) > 1:
                judged = Judged(states)
                for half in np.array_split(rows, 2):
                    judged.add(self._judge(lines, half, judged.states))
                return judged
            self._require_soundness()
            row = int(rows[0])
            said = f"{type(error).__name__}: {error}"
            return Judged(
                states, dead=[DeadLetter(row, "scoring", said)] if lines.fresh[row] else []
            )

    def _require_soundness(self) -> None:
        """Makes sure that it is the line's fault: a text that nobody has seen can be judged.

        Raises:
            CrosyslogError: it cannot.
        """
        try:
            self._encoder.encode([f"is anybody there {uuid4().hex}"])
        except AbandonedError:
            raise
        except Exception as error:
            raise CrosyslogError(
                f"no line can be judged: the encoder fails ({type(error).__name__}: {error})"
            ) from error

    def _attempt(
        self, lines: Lines, rows: NDArray[np.int64], states: dict[str, PartitionState]
    ) -> Judged:
        import polars as pl

        began = perf_counter()
        if not len(rows):
            return Judged(states)
        values = lines.values if len(rows) == len(lines.values) else lines.values.gather(rows)
        partitions = pl.Series("partition", lines.partitions[rows], dtype=pl.Int64)
        frame = read_texts(decode(values), self.model.system).with_columns(
            pl.Series("row", rows, dtype=pl.Int64),
            pl.Series("fresh", lines.fresh[rows]),
            pl.Series("offset", lines.offsets[rows], dtype=pl.Int64),
            partitions,
            _streams(lines.topic, partitions),
        )
        dead: list[DeadLetter] = []
        if self.model.system.paths is not None:
            dead = [
                _not_understood(row, raw)
                for row, raw in frame.filter(~pl.col("split") & pl.col("fresh"))
                .select("row", "raw")
                .iter_rows()
            ]
            frame = frame.filter("split")
        decoded = perf_counter()
        scored, renewed = self._scorer.score(frame, states)
        judged = perf_counter()
        fresh = scored if scored["fresh"].all() else scored.filter("fresh")
        anomalous = fresh.filter("anomalous")
        events = self._events(anomalous, lines.topic)
        return Judged(
            renewed,
            events,
            anomalous["row"].to_list(),
            dead,
            fresh["score"].to_numpy(),
            int(fresh["novel"].sum()),
            fresh.height - int(fresh["split"].sum()),
            {
                "decode": decoded - began,
                **self._scorer.seconds,
                "events": perf_counter() - judged,
            },
        )

    def _events(self, anomalous: pl.DataFrame, topic: str) -> list[dict[str, Any]]:
        """The events of anomalous lines, whose other fields nobody has looked for so far."""
        import polars as pl

        if anomalous.is_empty():
            return []
        system = self.model.system
        fields = split(anomalous["raw"], system).drop("raw", "text", "split")
        whole = anomalous.with_columns(pl.lit(topic).alias("topic"), *fields)
        return build_events(whole, self._scorer, system.name, datetime.now(UTC))


def _streams(topic: str, partitions: pl.Series) -> pl.Series:
    """The name of each line's stream: there are few, so none is put together twice."""
    import polars as pl

    distinct = partitions.unique()
    names = pl.Series([f"{topic}/{number}" for number in distinct], dtype=pl.String)
    return partitions.replace_strict(distinct, names).rename("stream")


def _not_understood(row: int, raw: str) -> DeadLetter:
    """Why a profile of JSON cannot split a line."""
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return DeadLetter(row, "undecodable", f"no JSON: {error}")
    if not isinstance(content, dict):
        return DeadLetter(row, "undecodable", f"no JSON object but a {type(content).__name__}")
    return DeadLetter(row, "missing-field", "no field that the profile knows holds a message")


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
