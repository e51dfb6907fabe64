"""Scoring of one batch beside delivery of the ones before, while the next is read."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.dead_letters import dead_letter_message
from agent.delivery import Outcome, PartitionLostError
from agent.judging import AbandonedError, Lines
from agent.publishing import Message
from crosyslog.errors import CrosyslogError
from crosyslog.events import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from agent.delivery import Delivery
    from agent.judging import Judge, Judged
    from agent.metrics import Metrics
    from agent.partition import Batch, Chunk, Partition

log = logging.getLogger(__name__)

#: Batches that wait to be scored. One is enough to keep the scoring busy; more would be memory.
_WAITING = 1

#: Batches that wait for the delivery, which takes all of them at once: a transaction costs about
#: the same however much is in it.
_JUDGED = 3


class Outputs(NamedTuple):
    """The topics that messages go to, and how many partitions they have."""

    events: str
    event_partitions: int
    dead_letters: str
    dead_letter_partitions: int


class _Done(NamedTuple):
    """A batch that is judged."""

    batch: Batch
    fresh: NDArray[np.bool_]
    judged: Judged
    outcomes: list[Outcome]


class Pipeline:
    """Takes batches, in order, through scoring and delivery.

    Scoring runs in one thread of its own: the event loop must turn, or the group would think the
    agent dead.

    Attributes:
        judge: what judges the next batch; it may be exchanged at any time.
    """

    def __init__(
        self,
        judge: Judge,
        delivery: Delivery,
        outputs: Outputs,
        metrics: Metrics,
        lost: Callable[[PartitionLostError], None],
    ) -> None:
        """Prepares a pipeline.

        Args:
            judge: the model at work.
            delivery: where outcomes go.
            outputs: the topics of messages.
            metrics: what is counted.
            lost: is told where another agent has a partition.
        """
        self.judge = judge
        self._delivery = delivery
        self._outputs = outputs
        self._metrics = metrics
        self._lost = lost
        self._read: asyncio.Queue[Batch | None] = asyncio.Queue(_WAITING)
        self._judged: asyncio.Queue[_Done | None] = asyncio.Queue(_JUDGED)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")

    async def submit(self, batch: Batch) -> None:
        """Takes a batch in; waits while the pipeline is full."""
        batch.assignment.batch_taken()
        try:
            await self._read.put(batch)
        except BaseException:
            batch.assignment.batch_settled()
            raise

    async def run(self) -> None:
        """Works until `finish` and all that was submitted before it is done.

        Raises:
            CrosyslogError: no line can be judged, or a message never be delivered; what is not
                delivered is not committed.
        """
        stages = [asyncio.create_task(self._score()), asyncio.create_task(self._deliver())]
        try:
            await asyncio.gather(*stages)
        finally:
            for stage in stages:
                stage.cancel()
            await asyncio.gather(*stages, return_exceptions=True)
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def finish(self) -> None:
        """Says that nothing more will be submitted."""
        await self._read.put(None)

    async def _score(self) -> None:
        loop = asyncio.get_running_loop()
        while (batch := await self._read.get()) is not None:
            if not batch.assignment.active:
                batch.assignment.batch_settled()
                continue
            self._metrics.lines_received.inc(int(batch.fresh().sum()))
            try:
                done = await loop.run_in_executor(self._thread, self._judge_batch, batch)
            except AbandonedError:
                batch.assignment.batch_settled()
                continue
            except CrosyslogError as error:
                self._metrics.error("score", error)
                raise CrosyslogError(
                    f"{error}; the agent stops before {_places(batch)} and commits none of it"
                ) from error
            self._metrics.batch_lines.observe(int(done.fresh.sum()))
            for stage, seconds in done.judged.seconds.items():
                self._metrics.stage_duration.labels(stage).observe(seconds)
            await self._judged.put(done)
        await self._judged.put(None)

    def _judge_batch(self, batch: Batch) -> _Done:
        """In the scoring thread: from lines to messages as they are published."""
        assignment, fresh = batch.assignment, batch.fresh()
        sizes = [len(chunk.offsets) for chunk in batch.chunks]
        lines = Lines(
            batch.chunks[0].partition.place.topic,
            [value for chunk in batch.chunks for value in chunk.values],
            np.repeat([chunk.partition.place.partition for chunk in batch.chunks], sizes),
            np.concatenate([chunk.offsets for chunk in batch.chunks]),
            fresh,
        )
        judged = self.judge.judge(lines, assignment.states, lambda: assignment.active)
        assignment.states = judged.states
        return _Done(batch, fresh, judged, self._outcomes(batch, sizes, judged))

    def _outcomes(self, batch: Batch, sizes: Sequence[int], judged: Judged) -> list[Outcome]:
        """What the lines of each partition came to, in their order."""
        ends = np.cumsum(sizes)
        messages: dict[Partition, list[tuple[int, Message]]] = {
            partition: [] for partition in batch.next_offsets()
        }

        def line(row: int) -> tuple[Chunk, int]:
            number = int(np.searchsorted(ends, row, side="right"))
            return batch.chunks[number], row - int(ends[number]) + sizes[number]

        for row, event in zip(judged.rows, judged.events, strict=True):
            chunk, place = line(row)
            messages[chunk.partition].append((row, self._event(chunk, place, event)))
        for letter in judged.dead:
            chunk, place = line(letter.row)
            message = dead_letter_message(
                letter,
                chunk.partition.place,
                chunk.offsets[place],
                topic=self._outputs.dead_letters,
                partition=chunk.partition.place.partition % self._outputs.dead_letter_partitions,
                key=chunk.keys[place],
                value=chunk.values[place],
                headers=chunk.headers[place],
            )
            messages[chunk.partition].append((letter.row, message))
        return [
            Outcome(
                partition,
                [message for _, message in sorted(messages[partition], key=lambda one: one[0])],
                next_offset,
            )
            for partition, next_offset in batch.next_offsets().items()
        ]

    def _event(self, chunk: Chunk, place: int, event: dict[str, Any]) -> Message:
        key, host = chunk.keys[place], event["resource"].get("host.name")
        return Message(
            event["anomaly"]["id"],
            self._outputs.events,
            chunk.partition.place.partition % self._outputs.event_partitions,
            host.encode() if key is None and host is not None else key,
            to_json(event),
        )

    async def _deliver(self) -> None:
        last = False
        while not last:
            waiting = [await self._judged.get()]
            while not self._judged.empty():
                waiting.append(self._judged.get_nowait())
            last = waiting[-1] is None
            done = [one for one in waiting if one is not None]
            try:
                # What is left of an assignment that has ended is not delivered.
                alive = [one for one in done if one.batch.assignment.active]
                if alive and await self._deliver_unless_ended(alive):
                    for one in alive:
                        self._count(one)
            finally:
                for one in done:
                    one.batch.assignment.batch_settled()

    async def _deliver_unless_ended(self, done: Sequence[_Done]) -> bool:
        """Delivers batches of one assignment; false if it has ended before that was done."""
        assignment = done[0].batch.assignment
        work = asyncio.create_task(
            self._delivery.deliver(_merged(outcome for one in done for outcome in one.outcomes))
        )
        try:
            either: set[asyncio.Future[Any]] = {work, assignment.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return False
            work.result()
        except PartitionLostError as error:
            self._lost(error)
            return False
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        return True

    def _count(self, done: _Done) -> None:
        judged, metrics = done.judged, self._metrics
        metrics.lines_scored.inc(len(judged.scores))
        metrics.anomalies.inc(len(judged.events))
        metrics.novel_lines.inc(judged.novel)
        metrics.unsplit_lines.inc(judged.unsplit)
        metrics.score.observe(judged.scores)
        for letter in judged.dead:
            metrics.dead_letters.labels(letter.reason).inc()
        times = np.concatenate([chunk.times for chunk in done.batch.chunks])[done.fresh]
        # A producer may send no time, which Kafka calls -1; clocks may differ.
        latency = np.maximum(time() - times[times >= 0] / 1000, 0)
        metrics.end_to_end_latency.observe(latency)


def _merged(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One outcome a partition, of several batches in their order."""
    merged: dict[Partition, Outcome] = {}
    for outcome in outcomes:
        before = merged.get(outcome.partition)
        messages = [*before.messages, *outcome.messages] if before else outcome.messages
        merged[outcome.partition] = Outcome(outcome.partition, messages, outcome.next_offset)
    return list(merged.values())


def _places(batch: Batch) -> str:
    first = {chunk.partition.place: chunk.offsets[0] for chunk in reversed(batch.chunks)}
    return ", ".join(f"{tp.topic}/{tp.partition}/{first[tp]}" for tp in sorted(first))
