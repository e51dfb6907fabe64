"""Reading lines: the group's member, what it is assigned, and where it starts."""

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
from agent.gathering import Gathering
from agent.partition import Assignment
from agent.records import as_sent
from crosyslog.errors import SettingError
from crosyslog.windows import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from agent.delivery import Delivery
    from agent.metrics import Metrics
    from agent.partition import Batch, Partition
    from agent.setting_parts import BatchSettings, KafkaSettings

log = logging.getLogger(__name__)

#: How often it is seen whether partitions were assigned.
_JOIN_SECONDS = 0.1

#: A broker answers an empty fetch after half a second; without an answer for this long it is away.
_SILENCE_SECONDS = 5.0

#: For the ends of the partitions, which are asked for each second.
_ENDS_SECONDS = 5.0

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
        self._metrics = metrics
        self._topic = kafka.resolved_topic
        self._delivery: Delivery | None = None
        self._appetite: Callable[[], float] = lambda: math.inf
        self._rejoin: str | None = None
        self._gathering = Gathering(batch)
        self._consumer: AIOKafkaConsumer | None = None
        self._pending: frozenset[TopicPartition] | None = None
        self._taken_back: Assignment | None = None
        self._assigned_before = False
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
        silence = self._silence(assignment, consumer)
        if silence < _SILENCE_SECONDS:
            return None
        return f"no broker has answered for {silence:.0f} s"

    def _silence(self, assignment: Assignment, consumer: AIOKafkaConsumer) -> float:
        """For how many seconds lines have been waited for without an answer of any broker."""
        if self._gathering.idle_since is None or not assignment.partitions:
            return 0.0
        waited = monotonic() - self._gathering.idle_since
        with suppress(AssertionError, IllegalStateError):
            heard = max(consumer.last_poll_timestamp(tp) or 0 for tp in assignment.partitions)
            return min(waited, time() - heard / 1000) if heard else waited
        return 0.0

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
            except (KafkaError, OSError, SettingError) as error:
                # The settings were good at the start: a token or a certificate is missing for now.
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
        if self.assignment is not None:
            await self.let_go(self.assignment, 0.0)
            self.assignment = None
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_within(_LEAVE_SECONDS, consumer.stop())
        # A client that was about to join may have been given partitions until then: the next client
        # does not have them, and to begin with them would fence whoever has.
        self._pending = None

    def lost(self, error: Exception) -> None:
        """Another agent has one of the partitions: all are given up, and the group joined anew."""
        log.warning("giving up all partitions: %s", error)
        if self._taken_back is not None:
            # What is in flight has to end here, too: the offset of a batch behind the one that is
            # lost would be committed, and nobody would judge the lines of that one. The group is
            # being joined anew already.
            self._taken_back.end()
            return
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
        for partition, end in (await _ends(consumer, assignment)).items():
            tp, position = partition.place, partition.delivered
            try:
                if position == partition.read:
                    # Nothing is in flight, so the position is behind what holds no lines, too:
                    # the marks of transactions.
                    position = max(position, await consumer.position(tp))
            except (AssertionError, KafkaError):
                return
            if assignment is not self.assignment:
                return
            unread += max(0, end - max(partition.read, position))
            self._metrics.consumer_lag.labels(tp.topic, tp.partition).set(max(0, end - position))
        if not unread or self._gathering.waits:
            self._gathering.fetched_at = monotonic()
        elif monotonic() - self._gathering.fetched_at > _STUCK_SECONDS:
            self._gathering.fetched_at = monotonic()
            self._rejoin = f"nothing was fetched for {_STUCK_SECONDS:.0f} s, {unread} lines wait"
        if self._silence(assignment, consumer) >= _STUCK_SECONDS:
            self._rejoin = f"no broker has answered for {_STUCK_SECONDS:.0f} s"

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
            else:
                consumer, gathering = self._connected, self._gathering
                batch = await gathering.gather(consumer, self.assignment, self._appetite())
                if batch is not None:
                    await gathering.hand_over(consumer, batch, submit(batch))
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            # The client looked for a position before `_begin` gave it one, or what comes next is
            # gone. Lines of other partitions may be read and in no batch: all begin anew.
            await self.restart()
        except (CommitFailedError, IllegalStateError):
            # A rebalance took the partitions away while they were asked about.
            await asyncio.sleep(_JOIN_SECONDS)
            await self.restart()

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
        # Nobody else is to begin with them again meanwhile.
        assignment, self.assignment = self.assignment, None
        if assignment is not None:
            self._taken_back = assignment
            try:
                await self.let_go(assignment, self._settings.session_timeout * _DRAIN_SHARE)
            finally:
                # Also where the client is stopped meanwhile, which cancels this.
                assignment.end()
                self._taken_back = None

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
        lost = not assignment.active
        assignment.end()
        if self._delivery is not None:
            # What another agent has by now is not committed: that would fence it.
            settling = 0.0 if lost else seconds * _SETTLE_SHARE
            await self._delivery.close(assignment.partitions.values(), settling)

    async def _begin(self, partitions: frozenset[TopicPartition]) -> None:
        """Finds where each partition goes on, and reads from the start of that window."""
        consumer = self._connected
        assert self._delivery is not None  # noqa: S101 - set by run
        # Before the committed offsets are read: from here on, no earlier owner can move them.
        await self._delivery.open(partitions)
        first = await consumer.beginning_offsets(list(partitions)) if partitions else {}
        ends = await consumer.end_offsets(list(partitions)) if partitions else {}
        found = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
        starts = dict(zip(partitions, found, strict=True))
        new = {tp for tp, offset in starts.items() if offset is None}
        if new:
            starts.update(await self._first_positions(sorted(new)))
        for tp in starts.keys() - new:
            if starts[tp] < first[tp]:
                self._lost(tp, first[tp] - starts[tp])
            elif starts[tp] > ends[tp]:
                log.warning(
                    "%s/%d ends before offset %d, where reading was: reading it from its start",
                    tp.topic, tp.partition, starts[tp],
                )  # fmt: skip
            else:
                continue
            new.add(tp)
            starts[tp] = first[tp]
        if new:
            # At once, so that a crash before the first batch loses nothing, nor counts it twice.
            await consumer.commit({tp: starts[tp] for tp in new})
        assignment = Assignment(starts)
        if self._pending is not partitions:
            await self.let_go(assignment, 0.0)
            return
        for tp, offset in starts.items():
            consumer.seek(tp, max(first[tp], offset - offset % WINDOW))
            assignment.partitions[tp].begin(offset)
        self._pending = None
        self.assignment = assignment
        self._gathering.begin_anew()
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
        # Of agents that start together, another may have been quicker to commit: the group is
        # new all the same in its first generation.
        joined = any(offset is not None for offset in others) and _generation(consumer) != 1
        if self._assigned_before or joined:
            start = "earliest"
        if start == "earliest":
            return dict(await consumer.beginning_offsets(new))
        ends = dict(await consumer.end_offsets(new))
        if isinstance(start, datetime):
            moment = int(start.timestamp() * 1000)
            at = await consumer.offsets_for_times(dict.fromkeys(new, moment))
            ends.update({tp: found.offset for tp, found in at.items() if found is not None})
        return ends

    def _lost(self, tp: TopicPartition, offsets: int) -> None:
        self._metrics.lost_offsets.inc(offsets)
        log.warning(
            "%s/%d: %d offsets were removed by retention before they were read",
            tp.topic, tp.partition, offsets,
        )  # fmt: skip


async def _ends(consumer: AIOKafkaConsumer, assignment: Assignment) -> dict[Partition, int]:
    """How far each partition can be read, as far as brokers tell.

    They are asked: what came with the last lines is old where none are fetched. Where one partition
    has no leader, the client gives no answer for any, and what came last has to do. Behind a
    transaction that is open, nothing can be read yet.
    """
    if not assignment.partitions:
        return {}
    try:
        async with asyncio.timeout(_ENDS_SECONDS):
            ends = await consumer.end_offsets(list(assignment.partitions))
    except (KafkaError, OSError):
        ends = {}
        with suppress(AssertionError):  # they were taken away a moment ago
            ends = {tp: consumer.last_stable_offset(tp) for tp in assignment.partitions}
    return {assignment.partitions[tp]: end for tp, end in ends.items() if end is not None}


def _generation(consumer: AIOKafkaConsumer) -> int:
    """How many times the group has been balanced; 0 where the client does not tell."""
    # It has no public name.
    return int(getattr(consumer._coordinator, "generation", 0))  # noqa: SLF001


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        await self._fetching.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._fetching.assigned(assigned)
