"""What the agent holds of its partitions between two rebalances, and batches of their lines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import TopicPartition
    from numpy.typing import NDArray

    from agent.records import Record
    from crosyslog.windows import PartitionState


class Stage(Enum):
    """Where a partition stands between its assignment and its release."""

    #: Its publisher is up, so that no earlier owner can publish; where it goes on is known.
    ASSIGNED = "assigned"
    #: Lines before that place are read again, since later scores depend on their window.
    RESTORING = "restoring"
    #: Lines are judged and delivered.
    RUNNING = "running"
    #: Nothing more is read; what is in flight may still be delivered.
    DRAINING = "draining"
    #: Nothing of it may be delivered any more.
    RELEASED = "released"


_NEXT = {
    Stage.ASSIGNED: {Stage.RESTORING, Stage.RELEASED},
    Stage.RESTORING: {Stage.RUNNING, Stage.DRAINING, Stage.RELEASED},
    Stage.RUNNING: {Stage.DRAINING, Stage.RELEASED},
    Stage.DRAINING: {Stage.RELEASED},
    Stage.RELEASED: set(),
}


class Partition:
    """One partition of the topic that is read, from its assignment to its release.

    Attributes:
        place: topic and number.
        start: the first offset to be judged.
        read: the offset behind the last line that was read.
        delivered: the offset behind the last line that is delivered.
        committed: what the group's offset is known to be: behind `delivered` where nothing was
            published since.
    """

    def __init__(self, place: TopicPartition, start: int) -> None:
        self.place = place
        self.start = self.read = self.delivered = self.committed = start
        self._stage = Stage.ASSIGNED

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return self._stage

    def move(self, stage: Stage) -> None:
        """Goes on to another stage.

        Raises:
            RuntimeError: the stage does not follow the present one.
        """
        if stage not in _NEXT[self._stage]:
            raise RuntimeError(f"{self.place}: {stage.value} does not follow {self._stage.value}")
        self._stage = stage

    def begin(self, start: int) -> None:
        """Goes on at an offset, once lines before it are read again."""
        self.start = self.read = start
        self.move(Stage.RESTORING)

    def has_read(self, behind: int) -> None:
        """Lines up to an offset were read."""
        self.read = behind
        if self._stage is Stage.RESTORING and behind > self.start:
            self.move(Stage.RUNNING)

    def release(self) -> None:
        """Lets go of it, whatever stage it is in."""
        if self._stage is not Stage.RELEASED:
            self.move(Stage.RELEASED)


class Assignment:
    """The partitions of one agent from one rebalance to the next.

    Everything that is known of a partition lives here, so that it goes with the partition: the
    next owner builds it anew from the window's start. A batch knows its assignment, and what is
    left of an assignment that has ended is dropped wherever it is.

    Attributes:
        partitions: by place.
        states: by stream, what the scorer keeps; only the scoring thread touches it.
        closing: no further batch is made, while those in flight may still be delivered.
        ended: done when nothing of it may be delivered any more.
    """

    def __init__(self, starts: Mapping[TopicPartition, int]) -> None:
        self.partitions = {place: Partition(place, start) for place, start in starts.items()}
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

    @property
    def idle(self) -> bool:
        """Whether no batch is in flight."""
        return self._settled.is_set()

    def in_turn(self) -> list[TopicPartition]:
        """The partitions, another one first each time, so that none is always the last."""
        order = sorted(self.partitions)
        self._turn = (self._turn + 1) % max(1, len(order))
        return order[self._turn :] + order[: self._turn]

    def batch_taken(self) -> None:
        """One more batch is in flight."""
        self._in_flight += 1
        self._settled.clear()

    def batch_settled(self) -> None:
        """A batch in flight was delivered or dropped."""
        self._in_flight -= 1
        if self._in_flight == 0:
            self._settled.set()

    async def drain(self, seconds: float) -> None:
        """Makes no further batch, and lets those in flight finish within a time."""
        self.closing = True
        for partition in self.partitions.values():
            if partition.stage in {Stage.RESTORING, Stage.RUNNING}:
                partition.move(Stage.DRAINING)
        settled = asyncio.create_task(self._settled.wait())
        try:
            either: set[asyncio.Future[Any]] = {settled, self.ended}
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()

    def end(self) -> None:
        """Ends at once: what is in flight is dropped, and read again by the next owner."""
        self.closing = True
        for partition in self.partitions.values():
            partition.release()
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(frozen=True)
class Chunk:
    """Consecutive lines of one partition, as the client gives them."""

    partition: Partition
    records: Sequence[Record]

    @property
    def first(self) -> int:
        """The offset of the first line."""
        return int(self.records[0].offset)

    @property
    def behind(self) -> int:
        """The offset behind the last line."""
        return int(self.records[-1].offset) + 1

    def offsets(self) -> NDArray[np.int64]:
        """Of each line, its offset."""
        if self.behind - self.first == len(self.records):
            return np.arange(self.first, self.behind)  # without gaps, as nearly always
        return np.array([record.offset for record in self.records], dtype=np.int64)


@dataclass
class Batch:
    """Lines that are scored and delivered together.

    Attributes:
        assignment: that they were read under.
        chunks: in the order of their offsets within a partition.
        lines: how many.
        full: whether it was closed by its size: more lines are waiting.
        busy: the partitions that had more lines than their share.
        closed: whether it is being scored: nothing more can be added.
        express: whether it was taken out of a full one, to be delivered before that.
    """

    assignment: Assignment
    chunks: list[Chunk] = field(default_factory=list)
    lines: int = 0
    full: bool = False
    busy: set[Partition] = field(default_factory=set)
    closed: bool = False
    express: bool = False

    def add(self, chunk: Chunk) -> None:
        """Adds lines that were read."""
        self.chunks.append(chunk)
        self.lines += len(chunk.records)
        chunk.partition.has_read(chunk.behind)

    def parts(self) -> list[Batch]:
        """What is scored on its own: of a full batch, the lines of quiet partitions go first.

        They would wait for the others to be scored, and those wait anyway.
        """
        quiet = [chunk for chunk in self.chunks if chunk.partition not in self.busy]
        loud = [chunk for chunk in self.chunks if chunk.partition in self.busy]
        if not (self.full and quiet and loud):
            return [self]
        first, rest = Batch(self.assignment, express=True), Batch(self.assignment, full=True)
        for part, chunks in ((first, quiet), (rest, loud)):
            part.chunks, part.closed = chunks, True
            part.lines = sum(len(chunk.records) for chunk in chunks)
        rest.busy = self.busy
        return [first, rest]

    def own_lines(self) -> int:
        """How many lines are to be judged: not those that are read again for their window."""
        return sum(
            len(chunk.records)
            if chunk.first >= chunk.partition.start
            else int((chunk.offsets() >= chunk.partition.start).sum())
            for chunk in self.chunks
        )

    def next_offsets(self) -> dict[Partition, int]:
        """Of each partition with a line to be judged, the offset behind the last one."""
        behind = {chunk.partition: chunk.behind for chunk in self.chunks}
        return {one: offset for one, offset in behind.items() if offset > one.start}
