"""Reading lines: the group's member, where it starts, and batches that are fair to partitions."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import suppress
from datetime import datetime
from time import monotonic, time
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from agent.connection import client_options, stop_within
from agent.partition import Assignment, Batch, Chunk
from agent.records import as_sent
from crosyslog.windows import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from agent.delivery import Delivery
    from agent.metrics import Metrics
    from agent.setting_parts import BatchSettings, KafkaSettings

log = logging.getLogger(__name__)

#: How long a read waits for the first line of a batch.
_IDLE_SECONDS = 0.5

#: A batch waits for more lines because the one before it is at work. Where none is, it waits for
#: this share of the time: some lines are worth a batch of their own, one at a time is not.
_IDLE_SHARE = 0.5

#: How often it is seen whether partitions were assigned.
_JOIN_SECONDS = 0.1

#: While a batch waits to be scored, how often lines of quiet partitions are looked for, and how
#: many at most; a partition with more is busy.
_JOINING_SECONDS, _MOST_JOINING = 0.02, 500

#: A member that does not ask for records for five minutes is put out of the group: while the
#: pipeline is full, one asks this often without taking any.
_SIGN_OF_LIFE_SECONDS = 30.0

#: A broker answers an empty fetch after half a second; without an answer for this long it is away.
_SILENCE_SECONDS = 5.0

#: New partitions are found, and a topic that was made anew, after at most this long.
_METADATA_SECONDS = 30.0

#: Waits between attempts to come back, in seconds; the last one is kept to.
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)

#: Leaving the group is a courtesy: without it the group waits for the session's end.
_LEAVE_SECONDS = 1.5

#: A client that fetches nothing for this long, although there are lines, is made anew: after some
#: broken connections it never fetches again.
_STUCK_SECONDS = 60.0

#: Of the time that the group waits for us at a rebalance, what batches in flight may take, and of
#: that, what the last commit may; a producer whose broker is away needs some more.
_DRAIN_SHARE, _SETTLE_SHARE = 0.4, 0.25


class RejoinError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """The group has to be joined anew."""


class Fetching:
    """Reads the topic as a member of the group, and hands batches over in order.

    Attributes:
        assignment: the partitions it has now; none before the first and during a rebalance.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        batch: BatchSettings,
        metrics: Metrics,
    ) -> None:
        self.assignment: Assignment | None = None
        self._settings = kafka
        self._batch = batch
        self._metrics = metrics
        self._topic = kafka.resolved_topic
        self._delivery: Delivery | None = None
        self._appetite: Callable[[], float] = lambda: math.inf
        self._rejoin: str | None = None
        self._waits = False
        self._left: list[Chunk] = []
        self._fetched_at = monotonic()
        self._consumer: AIOKafkaConsumer | None = None
        self._pending: frozenset[TopicPartition] | None = None
        self._assigned_before = False
        self._idle_since: float | None = None
        self._measured: Assignment | None = None

    def not_started(self) -> str | None:
        """Why reading has not begun; none if it has."""
        return None if self._assigned_before else "no partitions are assigned yet"

    def not_ready(self) -> str | None:
        """Why no lines can be read now; none if they can."""
        assignment, consumer = self.assignment, self._consumer
        if assignment is None or consumer is None or not assignment.active:
            return "no partitions are assigned"
        if not consumer.partitions_for_topic(self._topic):
            return f"the topic {self._topic} is gone"
        idle = self._idle_since
        if idle is None or monotonic() - idle < _SILENCE_SECONDS or not assignment.partitions:
            return None
        with suppress(AssertionError, IllegalStateError):
            heard = max(consumer.last_poll_timestamp(tp) or 0 for tp in assignment.partitions)
            silence = time() - heard / 1000 if heard else monotonic() - idle
            if silence >= _SILENCE_SECONDS:
                return f"no broker has answered for {silence:.0f} s"
        return None

    async def run(
        self,
        delivery: Delivery,
        submit: Callable[[Batch], Coroutine[None, None, None]],
        appetite: Callable[[], float],
    ) -> None:
        """Reads until it is cancelled; comes back by itself whatever happens to the brokers.

        Args:
            delivery: is told of partitions that come and go.
            submit: takes a batch; waits while there is no room for it.
            appetite: how many lines are scored in good time: a batch has no more.
        """
        self._delivery = delivery
        self._appetite = appetite
        failures = 0
        while True:
            try:
                await self._connect()
                while True:
                    await self._round(submit)
                    failures = 0
            except (KafkaError, OSError) as error:
                self._metrics.error("fetch", error)
                pause = _BACKOFF[min(failures, len(_BACKOFF) - 1)]
                failures += 1
                log.warning(
                    "cannot read %s: %s: %s; trying again in %.1f s",
                    self._topic, type(error).__name__, error, pause,
                )  # fmt: skip
                await self.leave()
                await asyncio.sleep(pause)

    async def leave(self) -> None:
        """Gives up the partitions and leaves the group; a static member only goes away."""
        self._pending = None
        if self.assignment is not None:
            await self.let_go(self.assignment, 0.0)
            self.assignment = None
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_within(_LEAVE_SECONDS, consumer.stop())

    def lost(self, error: Exception) -> None:
        """Another agent has one of the partitions: all are given up, and the group joined anew."""
        log.warning("giving up all partitions: %s", error)
        if self.assignment is not None:
            self.assignment.end()
        self._rejoin = str(error)

    async def committed(self, place: TopicPartition) -> int | None:
        """How far the group has committed a partition, asked of the brokers.

        Raises:
            IllegalStateError: the agent is not a member of the group.
            KafkaError: another failure; it may be tried again.
        """
        if self._consumer is None:
            raise IllegalStateError("the agent is not a member of the group")
        found: int | None = await self._consumer.committed(place)
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits offsets for the group.

        Raises:
            CommitFailedError, IllegalStateError: the partitions are not this agent's any more.
            KafkaError: another failure; it may be tried again.
        """
        if self._consumer is None:
            raise IllegalStateError("the agent is not a member of the group")
        await self._consumer.commit(dict(offsets))

    async def measure_lag(self) -> None:
        """Sets the lag of each partition: from what is delivered to the end of its log."""
        assignment, consumer = self.assignment, self._consumer
        if assignment is not self._measured:
            # What another agent has by now is not ours to report.
            self._metrics.consumer_lag.clear()
            self._measured = assignment
        if assignment is None or consumer is None or not assignment.active:
            return
        unread = 0
        for tp, partition in assignment.partitions.items():
            position = partition.delivered
            try:
                end = consumer.highwater(tp)
                if position == partition.read:
                    # Nothing is in flight, so the position is behind what holds no lines, too:
                    # the marks of transactions.
                    position = max(position, await consumer.position(tp))
            except (AssertionError, KafkaError):
                return
            if end is not None:
                lag = max(0, end - position)
                unread += max(0, end - max(partition.read, position))
                self._metrics.consumer_lag.labels(tp.topic, tp.partition).set(lag)
        if not unread or self._waits:
            self._fetched_at = monotonic()
        elif monotonic() - self._fetched_at > _STUCK_SECONDS:
            self._fetched_at = monotonic()
            self._rejoin = f"nothing was fetched for {_STUCK_SECONDS:.0f} s, {unread} lines wait"

    async def _connect(self) -> None:
        session = int(self._settings.session_timeout * 1000)
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            group_id=self._settings.resolved_group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 3,
            rebalance_timeout_ms=session,
            max_partition_fetch_bytes=2 * 1024 * 1024,
            fetch_max_bytes=16 * 1024 * 1024,
            metadata_max_age_ms=int(_METADATA_SECONDS * 1000),
            group_instance_id=self._settings.group_instance_id,
            value_deserializer=as_sent,
        )
        self._consumer = consumer
        await consumer.start()
        consumer.subscribe([self._topic], listener=_Listener(self))

    async def _round(self, submit: Callable[[Batch], Coroutine[None, None, None]]) -> None:
        """Begins with what was assigned, or reads one batch."""
        if self._rejoin is not None:
            why, self._rejoin = self._rejoin, None
            raise RejoinError(why)
        try:
            if self._pending is not None:
                await self._begin(self._pending)
            elif self.assignment is None or self.assignment.closing:
                # Raises what goes wrong with the group. What it returns is read again, since every
                # beginning goes to its own position.
                await self._connected.getmany(timeout_ms=int(_JOIN_SECONDS * 1000))
            elif (batch := await self._gather(self.assignment)) is not None:
                await self._hand_over(batch, submit(batch))
        except NoOffsetForPartitionError:
            # The client looked for a position before `_begin` gave it one.
            pass
        except OffsetOutOfRangeError as error:
            await self._go_on_after_loss(error.args[0])
        except (CommitFailedError, IllegalStateError):
            # A rebalance took the partitions away while they were asked about.
            await asyncio.sleep(_JOIN_SECONDS)

    @property
    def _connected(self) -> AIOKafkaConsumer:
        assert self._consumer is not None  # noqa: S101 - set by _connect, which comes first
        return self._consumer

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """The group gave these partitions; the reading loop begins with them."""
        self._metrics.rebalances.inc()
        self._pending = frozenset(partitions)

    async def revoked(self) -> None:
        """The group takes all partitions back: what is in flight may finish, for a short time."""
        self._pending = None
        if self.assignment is not None:
            await self.let_go(self.assignment, self._settings.session_timeout * _DRAIN_SHARE)
            self.assignment = None

    async def restart(self) -> None:
        """Begins anew with the partitions there are, from the start of their windows."""
        assignment = self.assignment
        if assignment is not None and assignment.active:
            await self.let_go(assignment, self._settings.session_timeout * _DRAIN_SHARE)
            if self.assignment is assignment:
                self.assignment = None
                self._pending = frozenset(assignment.partitions)

    async def let_go(self, assignment: Assignment, seconds: float) -> None:
        """Gives partitions up, after what is in flight is delivered, or that many seconds."""
        if assignment.active:
            await assignment.drain(seconds)
        assignment.end()
        if self._delivery is not None:
            await self._delivery.close(assignment.partitions.values(), seconds * _SETTLE_SHARE)

    async def _begin(self, partitions: frozenset[TopicPartition]) -> None:
        """Finds where each partition goes on, and reads from the start of that window."""
        consumer = self._connected
        assert self._delivery is not None  # noqa: S101 - set by run
        # Before the committed offsets are read: from here on, no earlier owner can move them.
        await self._delivery.open(partitions)
        first = await consumer.beginning_offsets(list(partitions)) if partitions else {}
        found = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
        starts = dict(zip(partitions, found, strict=True))
        new = [tp for tp, offset in starts.items() if offset is None]
        if new:
            starts.update(await self._first_positions(new))
            # At once, so that a crash before the first batch loses nothing.
            await consumer.commit({tp: starts[tp] for tp in new})
        for tp, offset in starts.items():
            if offset < first[tp]:
                self._lost(tp, first[tp] - offset)
                starts[tp] = first[tp]
        assignment = Assignment(starts)
        if self._pending is not partitions:
            await self.let_go(assignment, 0.0)
            return
        for tp, offset in starts.items():
            consumer.seek(tp, max(first[tp], offset - offset % WINDOW))
            assignment.partitions[tp].begin(offset)
        self._pending = None
        self.assignment = assignment
        self._fetched_at = monotonic()
        self._assigned_before = True
        log.info(
            "reading %s as %s from %s", self._topic, self._settings.resolved_group,
            ", ".join(f"{tp.partition}:{starts[tp]}" for tp in sorted(starts)) or "no partition",
        )  # fmt: skip

    async def _first_positions(self, new: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where partitions start that the group has not read yet.

        `start_from` is for a new group. In a group that reads the topic already, the partition
        is new, and all of it is to be read.
        """
        consumer = self._connected
        everything = {
            TopicPartition(self._topic, number)
            for number in consumer.partitions_for_topic(self._topic) or ()
        }
        others = await asyncio.gather(*(consumer.committed(tp) for tp in everything - set(new)))
        start = self._settings.start_from
        if self._assigned_before or any(offset is not None for offset in others):
            start = "earliest"
        if start == "earliest":
            return dict(await consumer.beginning_offsets(new))
        ends = dict(await consumer.end_offsets(new))
        if isinstance(start, datetime):
            moment = int(start.timestamp() * 1000)
            at = await consumer.offsets_for_times(dict.fromkeys(new, moment))
            ends.update({tp: found.offset for tp, found in at.items() if found is not None})
        return ends

    async def _gather(self, assignment: Assignment) -> Batch | None:
        """The next batch, closed by its size or its age; none if no line came."""
        if not assignment.partitions:
            # More agents than partitions: this one stands by.
            await self._connected.getmany(timeout_ms=int(_IDLE_SECONDS * 1000))
            return None
        batch = Batch(assignment)
        most = int(min(self._batch.max_lines, self._appetite()))
        for chunk in self._left:
            if assignment.partitions.get(chunk.partition.place) is chunk.partition:
                batch.add(chunk)
        self._left.clear()
        began = monotonic() if batch.lines else None
        while batch.lines < most:
            wait = _IDLE_SECONDS
            if began is not None:
                share = _IDLE_SHARE if assignment.idle else 1.0
                wait = began + share * self._batch.linger - monotonic()
            if wait <= 0:
                break
            await self._fill(batch, wait, most)
            if assignment.closing:
                return None
            if not batch.lines:
                return None
            if began is None:
                began = monotonic()
        batch.full = batch.lines >= most
        return batch

    async def _fill(self, batch: Batch, wait: float, most: int) -> None:
        """Adds what is there, in equal shares of the batch's room; waits for the first of it.

        What a quiet partition leaves of its share goes to those that have more: a busy one
        neither starves the others nor waits for them.
        """
        consumer, assignment = self._connected, batch.assignment
        asked = assignment.in_turn()
        share = math.ceil((most - batch.lines) / len(asked))
        if self._idle_since is None:
            self._idle_since = monotonic()
        found = await consumer.getmany(*asked, timeout_ms=math.ceil(wait * 1000), max_records=share)
        if not found:
            return
        self._idle_since = None
        self._fetched_at = monotonic()
        while asked and batch.lines < most:
            share = math.ceil((most - batch.lines) / len(asked))
            hungry = []
            for tp in asked:
                room = min(share, most - batch.lines)
                records = found.pop(tp, None)
                if records is None and room > 0:
                    records = (await consumer.getmany(tp, max_records=room)).get(tp)
                # It is tens of milliseconds in all: others have their turn in between.
                await asyncio.sleep(0)
                if assignment.closing:
                    return
                if records:
                    batch.add(Chunk(assignment.partitions[tp], records))
                    if len(records) >= room:
                        hungry.append(tp)
                        batch.busy.add(assignment.partitions[tp])
            asked = hungry

    async def _hand_over(self, batch: Batch, submitting: Coroutine[None, None, None]) -> None:
        """Gives a batch to the pipeline; while that is full, lines of quiet partitions join it."""
        handing = asyncio.create_task(submitting)
        self._waits = True
        alive = monotonic()
        failure: KafkaError | None = None
        try:
            while not handing.done():
                await asyncio.wait(
                    {handing, batch.assignment.ended},
                    timeout=_JOINING_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if handing.done() or not batch.assignment.active:
                    break
                if failure is not None or batch.assignment.closing:
                    continue
                try:
                    if not batch.closed:
                        await self._join(batch)
                    if monotonic() - alive > _SIGN_OF_LIFE_SECONDS:
                        alive = monotonic()
                        await self._show_life()
                except KafkaError as error:
                    failure = error  # the batch comes first: it is read, and not delivered
        finally:
            if not handing.done():
                handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)
            self._waits = False
        if failure is not None:
            raise failure

    async def _show_life(self) -> None:
        """Asks for records without taking any."""
        consumer = self._connected
        # A rebalance forgets what was paused, so it is paused each time.
        consumer.pause(*consumer.assignment())
        try:
            await consumer.getmany(timeout_ms=0)
        finally:
            consumer.resume(*consumer.paused())

    async def _join(self, batch: Batch) -> None:
        """Adds what has come to partitions that are not busy."""
        partitions = batch.assignment.partitions
        quiet = [place for place, one in partitions.items() if one not in batch.busy]
        if not quiet:
            return
        found = await self._connected.getmany(*quiet, timeout_ms=0, max_records=_MOST_JOINING)
        for place, records in found.items():
            if partitions.get(place) is None or not batch.assignment.active:
                continue
            chunk = Chunk(partitions[place], records)
            if batch.closed:
                self._left.append(chunk)  # it is scored already: they go with the next one
            else:
                batch.add(chunk)
                if len(records) >= _MOST_JOINING:
                    batch.busy.add(chunk.partition)

    async def _go_on_after_loss(self, positions: Mapping[TopicPartition, int]) -> None:
        """Goes on at what is left of partitions whose next line is gone."""
        assignment = self.assignment
        if assignment is None:
            return
        self._left.clear()
        first = await self._connected.beginning_offsets(list(positions))
        for tp, position in positions.items():
            if position < first[tp]:
                self._lost(tp, first[tp] - position)
            else:
                log.warning(
                    "%s/%d ends before offset %d, where reading was: reading it from its start",
                    tp.topic, tp.partition, position,
                )  # fmt: skip
            assignment.partitions[tp].begin(first[tp])
            self._connected.seek(tp, first[tp])

    def _lost(self, tp: TopicPartition, offsets: int) -> None:
        self._metrics.lost_offsets.inc(offsets)
        log.warning(
            "%s/%d: %d offsets were removed by retention before they were read",
            tp.topic, tp.partition, offsets,
        )  # fmt: skip


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        await self._fetching.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._fetching.assigned(assigned)
