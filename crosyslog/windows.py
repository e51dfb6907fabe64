"""Windows of a stream: aligned to its offsets, so that batches and restarts change no score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

#: Lines of a window: offsets of one partition from a multiple of this one to the next.
WINDOW = 100


@dataclass(frozen=True)
class PartitionState:
    """The lines of a stream's current window: what the next line's score depends on.

    Attributes:
        window: the number of the window, which is offset // 100.
        offsets: of its lines so far, ascending; at most 100.
        templates: of these lines.
    """

    window: int
    offsets: tuple[int, ...]
    templates: tuple[str, ...]


def with_windows_so_far(
    lines: pl.DataFrame, templates: pl.Series, states: Mapping[str, PartitionState]
) -> tuple[pl.DataFrame, dict[str, PartitionState]]:
    """The batch's lines behind those of their windows that came before, and the new states.

    Returns:
        A frame sorted by stream and offset with `row` (of the batch; null for a line of before),
        `template`, and `starts` (whether a window begins here).
    """
    import polars as pl

    batch = lines.select(
        pl.col("stream").cast(pl.String), pl.col("offset").cast(pl.Int64)
    ).with_columns(templates, row=pl.int_range(pl.len(), dtype=pl.Int64))
    streams = batch.group_by("stream").agg(pl.col("offset").first())
    known = [
        (stream, states[stream])
        for stream, offset in streams.iter_rows()
        if stream in states and _goes_on(states[stream], offset)
    ]
    before = pl.DataFrame(
        {
            "stream": [stream for stream, state in known for _ in state.offsets],
            "offset": [offset for _, state in known for offset in state.offsets],
            "template": [template for _, state in known for template in state.templates],
            "row": pl.Series([None] * sum(len(s.offsets) for _, s in known), dtype=pl.Int64),
        },
        schema=batch.schema,
    )
    window = pl.col("offset") // WINDOW
    frame = (
        pl.concat([before, batch])
        .sort("stream", "offset", maintain_order=True)
        .with_columns(
            window=window,
            starts=(pl.col("stream") != pl.col("stream").shift()).fill_null(value=True)
            | (window != window.shift()),
        )
    )
    last = frame.filter(window == window.last().over("stream"))
    renewed = {
        stream: PartitionState(number, tuple(offsets), tuple(names))
        for stream, number, offsets, names in last.group_by("stream", "window", maintain_order=True)
        .agg("offset", "template")
        .iter_rows()
    }
    return frame, renewed


def _goes_on(state: PartitionState, offset: int) -> bool:
    """Whether a stream goes on in its window; it does not where it was read back or made anew."""
    return state.window == offset // WINDOW and state.offsets[-1] < offset
