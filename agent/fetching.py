"""Reading lines: the group's member, and the partitions that come to it and go."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from agent.beginning import find_beginnings
from agent.consuming import make_consumer, stop_consumer
from agent.gathering import Gathering
from agent.partition import Assignment
from agent.watching import Watching
from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from agent.delivery import Delivery
    from agent.metrics import Metrics
    from agent.partition import Batch
    from agent.setting_parts import BatchSettings, KafkaSettings

log = logging.getLogger(__name__)

#: How often it is seen whether partitions were assigned.
_JOIN_SECONDS = 0.1

#: A broker answers an empty fetch after half a second; without an answer for this long it is away.
_SILENCE_SECONDS = 5.0

#: Waits between attempts to come back, in seconds; the last one is kept to.
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)

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
        self._watching = Watching(self._gathering, metrics)
        self._consumer: AIOKafkaConsumer | None = None
        self._pending: frozenset[TopicPartition] | None = None
        self._taken_back: Assignment | None = None
        self._assigned_before = False

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
        silence = self._watching.silence(consumer, assignment)
        if silence < _SILENCE_SECONDS:
            return None
        return f"no broker has answered for {silence:.0f} s"

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
            await stop_consumer(consumer)
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
        """Sets the lag of each partition; a client that has got stuck is made anew."""
        why = await self._watching.measure_lag(self._consumer, lambda: self.assignment)
        if why is not None:
            self._rejoin = why

    async def _connect(self) -> None:
        consumer = self._consumer = make_consumer(self._settings)
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
        """Reads each partition from where it goes on, with what is before it in its window."""
        consumer = self._connected
        assert self._delivery is not None  # noqa: S101 - set by run
        # Before the committed offsets are read: from here on, no earlier owner can move them.
        await self._delivery.open(partitions)
        found = await find_beginnings(
            consumer, partitions, self._settings, self._metrics,
            assigned_before=self._assigned_before,
        )  # fmt: skip
        starts = {tp: beginning.start for tp, beginning in found.items()}
        assignment = Assignment(starts)
        if self._pending is not partitions:
            await self.let_go(assignment, 0.0)
            return
        for tp, beginning in found.items():
            consumer.seek(tp, beginning.window)
            assignment.partitions[tp].begin(beginning.start)
        self._pending = None
        self.assignment = assignment
        self._gathering.begin_anew()
        self._assigned_before = True
        log.info(
            "reading %s as %s from %s", self._topic, self._settings.resolved_group,
            ", ".join(f"{tp.partition}:{starts[tp]}" for tp in sorted(starts)) or "no partition",
        )  # fmt: skip


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        await self._fetching.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._fetching.assigned(assigned)
