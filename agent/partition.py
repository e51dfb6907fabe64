"""What the agent holds of its partitions between two rebalances, and batches of their lines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import ConsumerRecord, TopicPartition
    from numpy.typing import NDArray

    from crosyslog.windows import PartitionState


class Assignment:
    """The partitions of one agent from one rebalance to the next.

    Everything that is known of a partition lives here, so that it goes with the partition: the
    next owner builds it anew from the window's start. A batch knows its assignment, and what is
    left of an assignment that has ended is dropped wherever it is.

    Attributes:
        starts: by partition, the first offset to be judged; lines before it are read again only
            because later scores depend on their window.
        delivered: by partition, the offset behind the last line that is delivered.
        read: by partition, the offset behind the last line that was read.
        states: by stream, what the scorer keeps; only the scoring thread touches it.
        closing: no further batch is made, while those in flight may still be delivered.
        ended: done when nothing of it may be delivered any more.
    """

    def __init__(self, starts: Mapping[TopicPartition, int]) -> None:
        self.starts = dict(starts)
        self.delivered = dict(starts)
        self.read = dict(starts)
        self.states: dict[str, PartitionState] = {}
        self.closing = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._turn = 0

    @property
    def active(self) -> bool:
        """Whether what is read of it may still be delivered."""
        return not self.ended.done()

    def in_turn(self) -> list[TopicPartition]:
        """The partitions, another one first each time, so that none is always the last."""
        order = sorted(self.starts)
        self._turn = (self._turn + 1) % max(1, len(order))
        return order[self._turn :] + order[: self._turn]

    def restart(self, partition: TopicPartition, offset: int) -> None:
        """Goes on at an offset that has nothing to do with the one before."""
        self.starts[partition] = self.delivered[partition] = self.read[partition] = offset

    def batch_taken(self) -> None:
        """One more batch is in flight."""
        self._in_flight += 1
        self._settled.clear()

    def batch_settled(self) -> None:
        """A batch in flight was delivered or dropped."""
        self._in_flight -= 1
        if self._in_flight == 0:
            self._settled.set()

    async def close(self, seconds: float) -> None:
        """Lets batches in flight finish within a time, and ends."""
        self.closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            pass
        finally:
            self.end()

    def end(self) -> None:
        """Ends at once: what is in flight is dropped, and read again by the next owner."""
        self.closing = True
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(frozen=True)
class Chunk:
    """Consecutive lines of one partition, in columns."""

    partition: TopicPartition
    values: list[bytes | None]
    offsets: list[int]
    keys: list[bytes | None]
    times: list[int]

    @classmethod
    def of(cls, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> Chunk:
        """The chunk of a partition's records."""
        return cls(
            partition,
            [record.value for record in records],
            [record.offset for record in records],
            [record.key for record in records],
            [record.timestamp for record in records],
        )


@dataclass
class Batch:
    """Lines that are scored and delivered together.

    Attributes:
        assignment: that they were read under.
        chunks: in the order of their offsets within a partition.
        lines: how many.
    """

    assignment: Assignment
    chunks: list[Chunk] = field(default_factory=list)
    lines: int = 0

    def add(self, chunk: Chunk) -> None:
        """Adds lines that were read."""
        self.chunks.append(chunk)
        self.lines += len(chunk.offsets)
        self.assignment.read[chunk.partition] = chunk.offsets[-1] + 1

    def fresh(self) -> NDArray[np.bool_]:
        """Which lines are to be judged: not those that were read again for their window."""
        starts = self.assignment.starts
        return np.concatenate(
            [np.array(chunk.offsets) >= starts[chunk.partition] for chunk in self.chunks]
        )

    def next_offsets(self) -> dict[TopicPartition, int]:
        """What is to be committed once the batch is delivered."""
        starts = self.assignment.starts
        behind = {chunk.partition: chunk.offsets[-1] + 1 for chunk in self.chunks}
        return {tp: offset for tp, offset in behind.items() if offset > starts[tp]}
