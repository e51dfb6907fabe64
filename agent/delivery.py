"""Publishing what a batch came to, and committing how far it was read: the promise of delivery."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from aiokafka import TopicPartition

    from agent.metrics import Metrics, Where
    from agent.partition import Partition
    from agent.publishing import Message

log = logging.getLogger(__name__)

#: Waits between attempts, in seconds; the last one is kept to.
_BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

#: A delivery that takes longer than this makes the agent not ready.
_SLOW_SECONDS = 5.0


class PartitionLostError(Exception):
    """Another agent has a partition by now: nothing of it may be delivered any more."""


class Outcome(NamedTuple):
    """What lines of one partition came to.

    Attributes:
        partition: that they are from.
        messages: events and dead letters, in the order of their lines.
        next_offset: behind the last of the lines.
    """

    partition: Partition
    messages: Sequence[Message]
    next_offset: int


class Delivery(ABC):
    """Delivers outcomes; how surely, a subclass decides.

    A partition without messages is committed once an interval, and not once a batch: its lines
    came to nothing, so that to read them again changes nothing.
    """

    def __init__(self, metrics: Metrics, commit_interval: float) -> None:
        self.metrics = metrics
        #: By topic, how large a batch may be, where that was learned.
        self.largest: dict[str, int] = {}
        self._interval = commit_interval
        self._waiting_since: float | None = None
        self._alone = asyncio.Lock()
        self._committed_at: dict[Partition, float] = {}
        self._at_times: asyncio.Task[None] | None = None

    def not_ready(self) -> str | None:
        """Why nothing can be delivered now; none if it can."""
        since = self._waiting_since
        if since is None or monotonic() - since < _SLOW_SECONDS:
            return None
        return f"a batch has been waiting for {monotonic() - since:.0f} s to be delivered"

    @abstractmethod
    async def open(self, places: Iterable[TopicPartition]) -> None:
        """Prepares to publish for partitions, before it is read how far they are committed.

        Raises:
            KafkaError, OSError: the brokers are away, or refuse.
        """

    async def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Publishes all messages and commits; keeps trying while brokers are away or refuse.

        Cancel it to give up: what is not committed then, the next owner judges again.

        Args:
            outcomes: one a partition.

        Raises:
            PartitionLostError: another agent has one of the partitions.
            BrokerError: the broker will never accept a message.
        """
        async with self._working():
            loud = [outcome for outcome in outcomes if outcome.messages]
            for partition, messages, next_offset in outcomes:
                if not messages:
                    partition.delivered = next_offset
                    self._committed_at.setdefault(partition, monotonic())
            held = {outcome.partition for outcome in loud}
            quiet = [outcome for outcome in self._overdue() if outcome.partition not in held]
            await self._settle_and_note([*loud, *quiet])

    async def run(self, lost: Callable[[PartitionLostError], None]) -> None:
        """Commits now and then, where no batch comes along to do so.

        Args:
            lost: is told where another agent has a partition.
        """
        try:
            while True:
                await asyncio.sleep(self._interval / 2)
                if not self._overdue():
                    continue
                self._at_times = asyncio.create_task(self._commit_overdue())
                await asyncio.wait({self._at_times})
                try:
                    self._at_times.result()
                except PartitionLostError as error:
                    lost(error)
                except asyncio.CancelledError:
                    pass  # the partitions are given up: see `close`
        finally:
            if self._at_times is not None:
                self._at_times.cancel()

    async def _commit_overdue(self) -> None:
        async with self._working():
            await self._settle_and_note(self._overdue())

    async def close(self, partitions: Iterable[Partition], seconds: float) -> None:
        """Commits what is delivered of partitions, and gives them up, within a time."""
        left = [one for one in partitions if one.delivered > one.committed]
        try:
            async with asyncio.timeout(seconds), self._alone:
                await self._settle_and_note(_without_messages(left))
        except (TimeoutError, PartitionLostError):
            # Whoever has them next reads these lines again, which came to nothing.
            pass
        if self._at_times is not None and not self._at_times.done():
            # It must not commit for an owner that this agent is not any more.
            self._at_times.cancel()
            await asyncio.wait({self._at_times})
        for partition in partitions:
            self._committed_at.pop(partition, None)

    async def stop(self) -> None:  # noqa: B027 - a subclass may have nothing to close
        """Closes what is open."""

    @abstractmethod
    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        """Publishes the messages of some partitions and commits their offsets."""

    async def _settle_and_note(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        await self._settle(outcomes)
        for partition, _, next_offset in outcomes:
            partition.committed = next_offset
            partition.delivered = max(partition.delivered, next_offset)
            self._committed_at[partition] = monotonic()

    def _overdue(self) -> list[Outcome]:
        now = monotonic()
        return _without_messages(
            partition
            for partition, at in self._committed_at.items()
            if partition.delivered > partition.committed and now - at >= self._interval
        )

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        async with self._alone:
            self._waiting_since = monotonic()
            try:
                yield
            finally:
                self._waiting_since = None

    async def pause(self, doing: Where, error: BaseException, failures: int) -> None:
        """Counts and logs a failure, and waits before the next attempt."""
        self.metrics.error(doing, error)
        seconds = _BACKOFF[min(failures, len(_BACKOFF) - 1)]
        log.warning(
            "cannot %s: %s: %s; trying again in %.1f s",
            doing, type(error).__name__, error, seconds,
        )  # fmt: skip
        await asyncio.sleep(seconds)


def _without_messages(partitions: Iterable[Partition]) -> list[Outcome]:
    return [Outcome(partition, (), partition.delivered) for partition in partitions]
