"""Labelled streams, and the tasks that meta-training draws from them.

A task is a position of a stream: 1,000 lines in a row are the support, as when someone labels
around an incident, or templates that facility location chooses from 10,000 lines; windows of the
10,000 lines right after them are the query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from crosyslog.errors import EncoderError, LabelError
from crosyslog.windows import WINDOW
from trainer.choosing import facility_location
from trainer.labelled_lines import LabelledLines, number_lines
from trainer.maml import Lines, Tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder

#: Shares of alerts that a support and a query may hold (DETECTION: the honest protocol).
SUPPORT_ALERTS = (0.05, 0.60)
QUERY_ALERTS = (0.002, 0.60)

#: The same for lines that the labels of chosen templates are asked from.
HISTORY_ALERTS = (0.002, 1.0)

#: Why a position is no task, in the order in which it is looked at; a task has the number 0.
REASONS = (
    "fits",
    "support_with_few_alerts",
    "support_with_many_alerts",
    "query_with_few_alerts",
    "query_with_many_alerts",
)

#: Lines after the support that the query is drawn from, and lines that templates are chosen from.
QUERY_LINES = HISTORY_LINES = 10_000

#: Positions of a source at which templates are chosen: each choice takes a part of a second and
#: is kept, so they are few.
_CHOICES = 64


@dataclass(frozen=True)
class LabelledStream:
    """A system's labelled lines in the order they were written, as template numbers.

    Attributes:
        name: the system.
        templates: the distinct templates.
        vectors: of these, float32 [T, D].
        rows: of each line, the number of its template.
        labels: of each line, whether it is an alert.
    """

    name: str
    templates: list[str]
    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    labels: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)


def labelled_stream(
    name: str,
    lines: pl.DataFrame | LabelledLines,
    encoder: Encoder,
    cache: EmbeddingCache,
) -> LabelledStream:
    """The labelled lines of a log as a stream; lines of a frame without a label are left out.

    Raises:
        LabelError: no line has a label.
        EncoderError: the lines come with the vectors of another encoder.
    """
    if not isinstance(lines, LabelledLines):
        lines = number_lines(lines, name)
    if lines.vectors is None:
        vectors = cache.vectors(lines.templates, encoder)
    elif lines.vectors.id == encoder.id:
        vectors = lines.vectors.encode(lines.templates)
    else:
        raise EncoderError(
            f"the prepared log of {name} holds vectors of the encoder {lines.vectors.id}, and "
            f"{encoder.id} is needed: prepare it with that one ({encoder.name}), or name the log"
        )
    return LabelledStream(name, lines.templates, vectors, lines.rows, lines.labels)


def verdicts(
    labels: NDArray[np.bool_],
    support_lines: int,
    query_lines: int = QUERY_LINES,
    bounds: tuple[float, float] = SUPPORT_ALERTS,
) -> NDArray[np.int8]:
    """Of every position where a support and a query find room, the number of its `REASONS`.

    Args:
        labels: of the stream's lines.
        support_lines: before the query.
        query_lines: to be judged.
        bounds: of the share of alerts in the support.
    """
    before = np.concatenate(([0], np.cumsum(labels)))
    start = np.arange(max(len(labels) - support_lines - query_lines + 1, 0))
    middle, end = start + support_lines, start + support_lines + query_lines
    support = (before[middle] - before[start]) / support_lines
    query = (before[end] - before[middle]) / query_lines
    fails = [
        support < bounds[0],
        support > bounds[1],
        query < QUERY_ALERTS[0],
        query > QUERY_ALERTS[1],
    ]
    return np.select(fails, range(1, len(REASONS)), default=0).astype(np.int8)


def positions(
    labels: NDArray[np.bool_], support_lines: int, query_lines: int = QUERY_LINES
) -> NDArray[np.int64]:
    """Where a task can start: both its support and its query hold a fitting share of alerts."""
    return np.flatnonzero(verdicts(labels, support_lines, query_lines) == 0)


class TaskSampler:
    """Draws batches of tasks, as many from each source, so that each has its influence."""

    def __init__(
        self,
        sources: Sequence[LabelledStream],
        mean: NDArray[np.float32],
        scale: NDArray[np.float32],
        *,
        support_lines: int,
        query_windows: int,
        seen_weight: float,
        repeat_power: float,
        permuted: float,
        disguised: float,
        chosen: float = 0.0,
        asked: int = WINDOW,
        rng: np.random.Generator,
    ) -> None:
        """Prepares the sources.

        Args:
            sources: labelled streams.
            mean: of the vectors, [D].
            scale: what the vectors are divided by, [D].
            support_lines: a multiple of the window.
            query_windows: windows drawn from the query's lines for a task.
            seen_weight: how much a query line counts whose template the support has shown:
                memory judges such lines, so the network need not.
            repeat_power: a line counts 1 / (how often its template occurs) to this power, so
                that a storm of one template is not all that is learnt.
            permuted: the share of tasks whose lines are shuffled within their part, since the
                order of lines is real in few sources.
            disguised: the share of tasks in which random dimensions of the vectors change their
                sign. What a word means is then of no use, and how templates resemble each other
                is all there is to learn from: without such tasks, the initial weights learn the
                sources' alerts by heart and the inner loop learns nothing.
            chosen: the share of batches whose supports are chosen templates.
            asked: how many these are.
            rng: where all chance comes from.

        Raises:
            LabelError: a source has no place for a task.
        """
        self._sources = sources
        self._standardised = [
            ((source.vectors - mean) / scale).astype(np.float32) for source in sources
        ]
        self._positions = [positions(source.labels, support_lines) for source in sources]
        for source, found in zip(sources, self._positions, strict=True):
            if not len(found):
                raise LabelError(
                    f"the source {source.name} ({len(source)} lines, {int(source.labels.sum())} "
                    f"alerts) has no place for a task: {support_lines} lines in a row with "
                    f"{SUPPORT_ALERTS[0]:.0%} to {SUPPORT_ALERTS[1]:.0%} alerts, and "
                    f"{QUERY_ALERTS[0]:.1%} to {QUERY_ALERTS[1]:.0%} in the "
                    f"{QUERY_LINES} lines after them"
                )
        self._support_lines = support_lines
        self._query_windows = query_windows
        self._seen_weight = seen_weight
        self._repeat_power = repeat_power
        self._permuted = permuted
        self._disguised = disguised
        self._chosen = chosen
        self._asked = asked
        self._rng = rng
        self._histories = [_histories(source) for source in sources] if chosen else []
        self._choices: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}

    def draw(
        self,
        tasks_a_source: int,
        disguised: float | None = None,
        *,
        chosen: bool | None = None,
        members: int = 1,
    ) -> Tasks:
        """A batch of K = members x sources x tasks_a_source tasks, stacked in this order.

        Args:
            tasks_a_source: how many of each source.
            disguised: the share that is disguised, where it is not that of the sampler.
            chosen: whether their supports are chosen templates; by default, chance decides.
            members: that each get tasks of their own.
        """
        share = self._disguised if disguised is None else disguised
        # A batch is of one kind, so that its supports are of one size.
        if chosen is None:
            chosen = self._chosen > 0 and self._rng.random() < self._chosen
        parts = [
            self._draw_one(number, share, chosen=chosen)
            for _ in range(members)
            for number in range(len(self._sources))
            for _ in range(tasks_a_source)
        ]
        most = max(len(vectors) for vectors, _, _ in parts)
        padded = np.zeros((len(parts), most, parts[0][0].shape[1]), dtype=np.float32)
        for task, (vectors, _, _) in enumerate(parts):
            padded[task, : len(vectors)] = vectors
        return Tasks(
            torch.from_numpy(padded),
            _stack([support for _, support, _ in parts]),
            _stack([query for _, _, query in parts]),
        )

    def _draw_one(
        self, number: int, share: float, *, chosen: bool
    ) -> tuple[NDArray[np.float32], _Part, _Part]:
        source, rng = self._sources[number], self._rng
        if chosen:
            start = int(rng.choice(self._histories[number]))
            middle = start + HISTORY_LINES
            known, labels = self._choice(number, start)
        else:
            start = int(rng.choice(self._positions[number]))
            middle = start + self._support_lines
            known, labels = source.rows[start:middle], source.labels[start:middle]
        windows = self._choose_windows(source.labels[middle : middle + QUERY_LINES])
        query = (middle + windows[:, None] * WINDOW + np.arange(WINDOW)).ravel()
        if rng.random() < self._permuted:
            order = rng.permutation(len(known))
            known, labels, query = known[order], labels[order], rng.permutation(query)
        used, rows = np.unique(np.concatenate((known, source.rows[query])), return_inverse=True)
        size = len(known)
        seen = np.zeros(len(used), dtype=np.bool_)
        seen[rows[:size]] = True
        vectors = self._standardised[number][used]
        if rng.random() < share:
            vectors = vectors * rng.choice(np.array([-1, 1], dtype=np.float32), vectors.shape[1])
        lines = self._asked if chosen else size
        return (
            vectors,
            _filled_up(self._part(rows[:size], labels, None), lines + -lines % WINDOW),
            self._part(rows[size:], source.labels[query], seen),
        )

    def _choice(self, number: int, start: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The templates chosen from a history, and their labels."""
        if (number, start) not in self._choices:
            source = self._sources[number]
            lines = slice(start, start + HISTORY_LINES)
            self._choices[number, start] = ask_for(
                source.vectors, source.rows[lines], source.labels[lines], self._asked
            )
        return self._choices[number, start]

    def _choose_windows(self, labels: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Windows of the query: half of them with alerts where there are such."""
        rng, wanted = self._rng, self._query_windows
        some = labels.reshape(-1, WINDOW).any(axis=1)
        with_alerts, without = np.flatnonzero(some), np.flatnonzero(~some)
        half = min(len(with_alerts), max(wanted // 2, wanted - len(without)))
        chosen = [
            rng.choice(with_alerts, half, replace=False),
            rng.choice(without, wanted - half, replace=False),
        ]
        return np.concatenate(chosen).astype(np.int64)

    def _part(
        self, rows: NDArray[np.int64], labels: NDArray[np.bool_], seen: NDArray[np.bool_] | None
    ) -> _Part:
        weights = line_weights(rows, self._repeat_power)
        if seen is not None:
            weights = weights * np.where(seen[rows], self._seen_weight, 1.0)
            weights /= weights.sum()
        return rows, labels, weights


_Part = tuple["NDArray[np.int64]", "NDArray[np.bool_]", "NDArray[np.float64]"]


def ask_for(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], labels: NDArray[np.bool_], size: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Templates of some lines whose labels are asked for, and these labels.

    Which they are, the lines alone decide. A template of both labels gets the one that most of its
    lines have.

    Args:
        vectors: of all templates.
        rows: of the lines, the numbers of their templates.
        labels: of the lines.
        size: how many to ask for; all of them if there are no more.
    """
    used, counts, alert = by_template(rows, labels)
    chosen = facility_location(vectors[used], counts, size)
    return used[chosen], alert[chosen]


def by_template(
    rows: NDArray[np.int64], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The templates of some lines, ascending; how many lines each has; whether it is an alert.

    A template with both labels is what most of its lines are; half and half is an alert.
    """
    used, member, counts = np.unique(rows, return_inverse=True, return_counts=True)
    return used, counts, 2 * np.bincount(member, weights=labels) >= counts


def _histories(source: LabelledStream) -> NDArray[np.int64]:
    """Some places where templates can be chosen, spread over the stream.

    Raises:
        LabelError: there is none.
    """
    fitting = np.flatnonzero(
        verdicts(source.labels, HISTORY_LINES, QUERY_LINES, HISTORY_ALERTS) == 0
    )
    if not len(fitting):
        raise LabelError(
            f"the source {source.name} ({len(source)} lines) has no place for a task of chosen "
            f"templates: {HISTORY_LINES} lines to choose from and the {QUERY_LINES} after them, "
            "both with alerts; name a longer log, or set chosen = 0"
        )
    places = np.linspace(0, len(fitting) - 1, min(_CHOICES, len(fitting)))
    return fitting[places.astype(np.int64)]


def _filled_up(part: _Part, lines: int) -> _Part:
    """A part with lines of weight 0 behind it: a causal detector's earlier lines ignore them."""
    padding = lines - len(part[0])
    rows, labels, weights = part
    return np.pad(rows, (0, padding)), np.pad(labels, (0, padding)), np.pad(weights, (0, padding))


def line_weights(rows: NDArray[np.int64], repeat_power: float) -> NDArray[np.float64]:
    """How much each line counts in a loss, by how often its template occurs; they sum to 1."""
    counts = np.bincount(rows)[rows]
    weights = counts.astype(np.float64) ** -repeat_power
    return np.asarray(weights / weights.sum())


def windows_of(rows: NDArray[np.int64], labels: NDArray[np.bool_], repeat_power: float) -> Lines:
    """The lines of one support as windows, as K = 1 task.

    A last window that is not full is padded with lines of weight 0, which a causal detector's
    earlier lines do not notice.
    """
    part = rows, labels, line_weights(rows, repeat_power)
    return _stack([_filled_up(part, len(rows) + -len(rows) % WINDOW)])


def _stack(parts: list[_Part]) -> Lines:
    rows = np.stack([rows.reshape(-1, WINDOW) for rows, _, _ in parts])
    labels = np.stack([labels.reshape(-1, WINDOW) for _, labels, _ in parts])
    weights = np.stack([weights.reshape(-1, WINDOW) for _, _, weights in parts])
    return Lines(
        torch.from_numpy(rows),
        torch.from_numpy(labels.astype(np.float32)),
        torch.from_numpy(weights.astype(np.float32)),
    )
