"""Scoring of one batch beside delivery of the ones before, while the next is read."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.dead_letters import dead_letter_message
from agent.delivery import Outcome, PartitionLostError
from agent.judging import AbandonedError, Lines
from agent.publishing import Message, Outputs
from crosyslog.errors import CrosyslogError
from crosyslog.events import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiokafka import ConsumerRecord
    from numpy.typing import NDArray

    from agent.delivery import Delivery
    from agent.judging import Judge, Judged
    from agent.metrics import Metrics
    from agent.partition import Batch, Partition

log = logging.getLogger(__name__)

#: Batches that wait to be scored. One is enough to keep the scoring busy; more would be memory.
_WAITING = 1

#: Batches that wait for the delivery, which takes all of them at once.
_JUDGED = 3

#: Lines that are delivered together under full load, and how long is waited for them.
_TOGETHER, _PATIENCE_SECONDS = 60_000, 0.5


class _Done(NamedTuple):
    """A batch that is judged.

    Attributes:
        batch: it.
        judged: its judgement.
        times: of each of its own lines, when it came to Kafka, in milliseconds since 1970.
        outcomes: what it came to, a partition each.
    """

    batch: Batch
    judged: Judged
    times: NDArray[np.int64]
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
            lines = batch.own_lines()
            self._metrics.lines_received.inc(lines)
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
            self._metrics.batch_lines.observe(lines)
            for stage, seconds in done.judged.seconds.items():
                self._metrics.stage_duration.labels(stage).observe(seconds)
            await self._judged.put(done)
        await self._judged.put(None)

    def _judge_batch(self, batch: Batch) -> _Done:
        """In the scoring thread: from lines to messages as they are published."""
        import polars as pl

        assignment, chunks = batch.assignment, batch.chunks
        sizes = [len(chunk.records) for chunk in chunks]
        records = [record for chunk in chunks for record in chunk.records]
        offsets = np.concatenate([chunk.offsets() for chunk in chunks])
        fresh = offsets >= np.repeat([chunk.partition.start for chunk in chunks], sizes)
        lines = Lines(
            chunks[0].partition.place.topic,
            pl.Series([record.value for record in records], dtype=pl.Binary),
            np.repeat([chunk.partition.place.partition for chunk in chunks], sizes),
            offsets,
            fresh,
        )
        times = np.array([record.timestamp for record in records], dtype=np.int64)[fresh]
        judged = self.judge.judge(lines, assignment.states, lambda: assignment.active)
        assignment.states = judged.states
        outcomes = self._outcomes(batch, records, judged)
        batch.chunks.clear()  # the records are memory
        return _Done(batch, judged, times, outcomes)

    def _outcomes(
        self, batch: Batch, records: Sequence[ConsumerRecord], judged: Judged
    ) -> list[Outcome]:
        """What the lines of each partition came to, in their order."""
        outputs = self._outputs
        found = [
            (row, _event_message(records[row], event, outputs))
            for row, event in zip(judged.rows, judged.events, strict=True)
        ]
        found += [
            (letter.row, dead_letter_message(letter, records[letter.row], outputs))
            for letter in judged.dead
        ]
        messages: dict[int, list[Message]] = {}
        for row, message in sorted(found, key=lambda one: one[0]):
            messages.setdefault(records[row].partition, []).append(message)
        return [
            Outcome(partition, messages.get(partition.place.partition, ()), next_offset)
            for partition, next_offset in batch.next_offsets().items()
        ]

    async def _deliver(self) -> None:
        last = False
        while not last:
            done, last = await self._some_judged()
            try:
                # What is left of an assignment that has ended is not delivered.
                alive = [one for one in done if one.batch.assignment.active]
                if alive and await self._deliver_unless_ended(alive):
                    for one in alive:
                        self._count(one)
            finally:
                for one in done:
                    one.batch.assignment.batch_settled()

    async def _some_judged(self) -> tuple[list[_Done], bool]:
        """Batches to deliver together, and whether no more will come.

        Under full load some are waited for: a transaction costs about the same however much is in
        it. A batch that was closed by its age goes at once.
        """
        done: list[_Done] = []
        lines = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as patience:
                while (one := await self._judged.get()) is not None:
                    done.append(one)
                    lines += one.batch.lines
                    assignment = one.batch.assignment
                    if not one.batch.full or assignment.closing or lines >= _TOGETHER:
                        if self._judged.empty():
                            return done, False
                        continue
                    if patience.when() is None:
                        patience.reschedule(asyncio.get_running_loop().time() + _PATIENCE_SECONDS)
                return done, True
        return done, False

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
        # A producer may send no time, which Kafka calls -1; clocks may differ.
        latency = np.maximum(time() - done.times[done.times >= 0] / 1000, 0)
        metrics.end_to_end_latency.observe(latency)


def _event_message(record: ConsumerRecord, event: dict[str, Any], outputs: Outputs) -> Message:
    """The message of an event; without a key of the line's, the host is the key."""
    key, host = record.key, event["resource"].get("host.name")
    return Message(
        event["anomaly"]["id"],
        outputs.events,
        record.partition % outputs.event_partitions,
        host.encode() if key is None and host is not None else key,
        to_json(event),
    )


def _merged(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """One outcome a partition, of several batches in their order."""
    merged: dict[Partition, Outcome] = {}
    for outcome in outcomes:
        before = merged.get(outcome.partition)
        messages = [*before.messages, *outcome.messages] if before else outcome.messages
        merged[outcome.partition] = Outcome(outcome.partition, messages, outcome.next_offset)
    return list(merged.values())


def _places(batch: Batch) -> str:
    first = {chunk.partition.place: chunk.first for chunk in reversed(batch.chunks)}
    return ", ".join(f"{tp.topic}/{tp.partition}/{first[tp]}" for tp in sorted(first))
