"""Scoring of one batch beside delivery of the ones before, while the next is read."""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from operator import attrgetter, itemgetter
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.dead_letters import LONGEST_KEY, DeadLetter, dead_letter_message
from agent.delivery import Outcome, PartitionLostError
from agent.judging import AbandonedError, Lines
from agent.publishing import Message, Outputs
from crosyslog.errors import CrosyslogError
from crosyslog.events import shortened, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiokafka import TopicPartition
    from numpy.typing import NDArray

    from agent.delivery import Delivery
    from agent.judging import Judge, Judged
    from agent.metrics import Metrics
    from agent.partition import Assignment, Batch, Partition
    from agent.records import Record

log = logging.getLogger(__name__)

#: Batches that wait to be scored. One is enough to keep the scoring busy; more would be memory.
_WAITING = 1

#: Batches that wait for the delivery, which takes all of them at once.
_JUDGED = 3

#: Lines that are delivered together under full load, and how long is waited for them: transactions
#: take the time of the broker and of the loop by their number. And how many bytes of messages.
_TOGETHER, _PATIENCE_SECONDS, _BYTES_TOGETHER = 300_000, 0.8, 32 * 1024 * 1024

#: How long a full batch is scored at most: a line of a quiet partition may wait for it.
_SCORING_SECONDS = 0.2

#: Smaller batches cost more than they bring; and a batch that had to be encoded tells no rate.
_FEWEST, _COLD_SECONDS = 2_000, 0.01


class _Done(NamedTuple):
    """A batch that is judged.

    Attributes:
        batch: it.
        judged: its judgement.
        times: of each of its own lines, when it came to Kafka, in milliseconds since 1970.
        outcomes: what it came to, a partition each.
        anomalies: how many events these hold.
        bytes: of their messages.
    """

    batch: Batch
    judged: Judged
    times: NDArray[np.int64]
    outcomes: list[Outcome]
    anomalies: int
    bytes: int


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
        self._over = asyncio.Event()
        self._rate = math.inf
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")

    async def submit(self, batch: Batch) -> None:
        """Takes a batch in; waits until it is being scored.

        No more wait than the one that is read meanwhile: what waits is late.
        """
        batch.assignment.batch_taken()
        try:
            await self._read.put(batch)
        except BaseException:
            batch.assignment.batch_settled()
            raise
        await self._read.join()

    def appetite(self) -> float:
        """How many lines are scored in the time that a batch may take."""
        return max(_FEWEST, self._rate * _SCORING_SECONDS)

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
            self._over.set()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def finish(self) -> None:
        """Says that nothing more will be submitted; no matter if it has ended by itself."""
        saying = asyncio.create_task(self._read.put(None))
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait({saying, over}, return_when=asyncio.FIRST_COMPLETED)
        for task in (saying, over):
            task.cancel()

    async def _score(self) -> None:
        while (whole := await self._read.get()) is not None:
            whole.closed = True
            self._read.task_done()
            parts = whole.parts()
            for _ in parts[1:]:
                whole.assignment.batch_taken()
            for batch in parts:
                await self._score_one(batch)
        await self._judged.put(None)

    async def _score_one(self, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        if not batch.assignment.active:
            batch.assignment.batch_settled()
            return
        lines = batch.own_lines()
        self._metrics.lines_received.inc(lines)
        began = loop.time()
        try:
            done = await loop.run_in_executor(self._thread, self._judge_batch, batch)
        except AbandonedError:
            batch.assignment.batch_settled()
            return
        except CrosyslogError as error:
            self._metrics.error("score", error)
            raise CrosyslogError(
                f"{error}; the agent stops before {_places(batch)} and commits none of it"
            ) from error
        self._metrics.batch_lines.observe(lines)
        if batch.lines >= _FEWEST and not done.judged.seconds.get("encode", 0.0) > _COLD_SECONDS:
            rate = batch.lines / (loop.time() - began)
            self._rate = rate if self._rate == math.inf else 0.8 * self._rate + 0.2 * rate
        for stage, seconds in done.judged.seconds.items():
            self._metrics.stage_duration.labels(stage).observe(seconds)
        await self._judged.put(done)

    def _judge_batch(self, batch: Batch) -> _Done:
        """In the scoring thread: from lines to messages as they are published."""
        import polars as pl

        assignment, chunks = batch.assignment, batch.chunks
        sizes = [len(chunk.records) for chunk in chunks]
        records = list(chain.from_iterable(chunk.records for chunk in chunks))
        offsets = np.concatenate([chunk.offsets() for chunk in chunks])
        fresh = offsets >= np.repeat([chunk.partition.start for chunk in chunks], sizes)
        lines = Lines(
            chunks[0].partition.place.topic,
            pl.Series(list(map(attrgetter("value"), records)), dtype=pl.Binary),
            np.repeat([chunk.partition.place.partition for chunk in chunks], sizes),
            offsets,
            fresh,
        )
        times = np.fromiter(map(attrgetter("timestamp"), records), np.int64, len(records))[fresh]
        judged = self.judge.judge(lines, assignment.states, lambda: assignment.active)
        assignment.states = judged.states
        outcomes = self._outcomes(batch, records, judged)
        anomalies = len(judged.events)
        size = sum(message.bytes for one in outcomes for message in one.messages)
        # The records are memory, and so is what has become messages.
        batch.chunks.clear()
        judged.events.clear()
        return _Done(batch, judged, times, outcomes, anomalies, size)

    def _outcomes(self, batch: Batch, records: Sequence[Record], judged: Judged) -> list[Outcome]:
        """What the lines of each partition came to, in their order."""
        behind = np.cumsum([len(chunk.records) for chunk in batch.chunks])
        messages: dict[Partition, list[Message]] = {}
        found: list[tuple[int, dict[str, Any] | DeadLetter]] = [
            *zip(judged.rows, judged.events, strict=True),
            *((letter.row, letter) for letter in judged.dead),
        ]
        for row, one in sorted(found, key=itemgetter(0)):
            partition = batch.chunks[int(np.searchsorted(behind, row, side="right"))].partition
            place, record = partition.place, records[row]
            message = (
                dead_letter_message(one, place, record, self._outputs)
                if isinstance(one, DeadLetter)
                else _event_message(one, place, record, self._outputs)
            )
            messages.setdefault(partition, []).append(message)
        return [
            Outcome(partition, messages.get(partition, ()), next_offset)
            for partition, next_offset in batch.next_offsets().items()
        ]

    async def _deliver(self) -> None:
        """Delivers what is judged; under full load, several batches at once.

        A transaction costs about the same however much is in it. But a batch that was closed by
        its age goes at once, and of a full one, what is of partitions that are not busy.
        """
        held: list[_Done] = []
        deadline: float | None = None
        last = False
        try:
            while not last:
                due = True
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        one = await self._judged.get()
                    last = one is None
                    held += [one] if one is not None else []
                    # A batch that is there at once is taken whatever the time: the clock decides.
                    late = deadline is not None and asyncio.get_running_loop().time() >= deadline
                    due = last or late or not _can_wait(held)
                if due:
                    await self._deliver_all(held)
                    deadline = None
                else:
                    deadline = deadline or asyncio.get_running_loop().time() + _PATIENCE_SECONDS
                    await self._deliver_quiet(held)
        finally:
            for one in held:
                one.batch.assignment.batch_settled()

    async def _deliver_all(self, held: list[_Done]) -> None:
        # What is left of an assignment that has ended is not delivered.
        alive = [one for one in held if one.batch.assignment.active]
        outcomes = _merged(outcome for one in alive for outcome in one.outcomes)
        if alive and await self._deliver_unless_ended(alive[0].batch.assignment, outcomes):
            for one in alive:
                self._count(one)
        for one in held:
            one.batch.assignment.batch_settled()
        held.clear()

    async def _deliver_quiet(self, held: list[_Done]) -> None:
        """Delivers what the last batch has of partitions that nothing is held back of.

        A batch of which nothing is left is held no more.
        """
        last = held[-1]
        waiting = {outcome.partition for one in held[:-1] for outcome in one.outcomes}
        busy = waiting | last.batch.busy
        quiet = [outcome for outcome in last.outcomes if outcome.partition not in busy]
        if quiet and last.batch.assignment.active:
            if not await self._deliver_unless_ended(last.batch.assignment, quiet):
                return
            last.outcomes[:] = [one for one in last.outcomes if one.partition in busy]
            if not last.outcomes:
                self._count(held.pop())
                last.batch.assignment.batch_settled()

    async def _deliver_unless_ended(
        self, assignment: Assignment, outcomes: Sequence[Outcome]
    ) -> bool:
        """Delivers outcomes of an assignment; false if it has ended before that was done."""
        work = asyncio.create_task(self._delivery.deliver(outcomes))
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
        metrics.anomalies.inc(done.anomalies)
        metrics.novel_lines.inc(judged.novel)
        metrics.unsplit_lines.inc(judged.unsplit)
        metrics.score.observe(judged.scores)
        for letter in judged.dead:
            metrics.dead_letters.labels(letter.reason).inc()
        # A producer may send no time, which Kafka calls -1; clocks may differ.
        latency = np.maximum(time() - done.times[done.times >= 0] / 1000, 0)
        metrics.end_to_end_latency.observe(latency)


def _event_message(
    event: dict[str, Any], place: TopicPartition, record: Record, outputs: Outputs
) -> Message:
    """The message of an event; without a key of the line's, the host is the key."""
    key, host = record.key, event["resource"].get("host.name")
    return Message(
        event["anomaly"]["id"],
        outputs.events,
        place.partition,
        host.encode() if key is None and host is not None else key,
        to_json(event),
        smaller=_smaller_event,
    )


def _smaller_event(message: Message) -> Message:
    """The message of the same event with its texts cut; a long key is left out."""
    key = message.key if len(message.key or b"") <= LONGEST_KEY else None
    return message._replace(key=key, value=shortened(message.value or b"{}"))


def _can_wait(held: Sequence[_Done]) -> bool:
    """Whether more is to come soon that can be delivered with this."""
    batch = held[-1].batch
    if batch.assignment.closing or not (batch.full or batch.express):
        return False
    lines = sum(one.batch.lines for one in held)
    return lines < _TOGETHER and sum(one.bytes for one in held) < _BYTES_TOGETHER


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
