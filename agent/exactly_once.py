"""Exactly once: for each input partition, one transaction of messages and offset.

The client cannot fence by the group's generation (it lacks KIP-447), so each input partition has a
transactional id: whoever starts its producer fences every earlier owner. So a producer is started
before it is read how far the partition is committed, and after every failure, whose outcome nobody
knows, a new one is started and the committed offset tells what became of the transaction.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError, ProducerFenced

from agent.delivery import Delivery, PartitionLostError
from agent.publishing import (
    SlowError,
    TooLargeError,
    fitted,
    send_all,
    start_producer,
    stop_producer,
)
from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from aiokafka import AIOKafkaProducer, TopicPartition

    from agent.delivery import Outcome
    from agent.metrics import Metrics
    from agent.partition import Partition
    from agent.publishing import Message
    from agent.setting_parts import KafkaSettings

log = logging.getLogger(__name__)

#: A produce that comes while the last transaction's markers are still being written is refused and
#: tried again after this long (KIP-890; the client's default is 100).
_RETRY_BACKOFF_MS = 5

#: After this long without an end, the broker aborts a transaction and fences its producer. An
#: agent that was killed holds readers back for as long, unless another one takes its partitions.
_TRANSACTION_TIMEOUT_MS = 30_000

#: How long it may take to send what one transaction holds, which has to end before that timeout;
#: how much it holds at most, and at least where brokers are slow; and how it grows again.
_SEND_SECONDS = 20.0
_MOST_BYTES, _LEAST_BYTES, _GROWTH = 16 * 1024 * 1024, 64 * 1024, 1.1

#: To abort what is open is a courtesy to readers: the next producer's start does it too.
_ABORT_SECONDS = 1.0


class ExactlyOnce(Delivery):
    """On a healthy Kafka of version 4 or later, a reader of committed messages sees each once."""

    def __init__(
        self,
        settings: KafkaSettings,
        committed: Callable[[TopicPartition], Awaitable[int | None]],
        metrics: Metrics,
        commit_interval: float,
    ) -> None:
        """Prepares it.

        Args:
            settings: how to reach the brokers, and the group.
            committed: reads from the brokers how far a partition is committed.
            metrics: what is counted.
            commit_interval: seconds after which a partition without messages is committed.
        """
        super().__init__(metrics, commit_interval)
        self._settings = settings
        self._group = settings.resolved_group
        self._committed = committed
        self._producers: dict[TopicPartition, AIOKafkaProducer] = {}
        self._most_bytes = _MOST_BYTES

    async def open(self, places: Iterable[TopicPartition]) -> None:
        """Starts a producer for each partition: no earlier owner can publish after that."""
        await asyncio.gather(*(self._start(place) for place in places))

    async def close(self, partitions: Iterable[Partition], seconds: float) -> None:
        """Commits what is left, and closes the producers of these partitions."""
        partitions = list(partitions)
        await super().close(partitions, seconds)
        await asyncio.gather(*(self._drop(one.place) for one in partitions))

    async def stop(self) -> None:
        """Closes every producer."""
        await asyncio.gather(*(self._drop(place) for place in list(self._producers)))

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        with self.metrics.time("commit"):
            await _together(*(self._transact(outcome) for outcome in outcomes))

    async def _transact(self, outcome: Outcome) -> None:
        """Brings an outcome to its end, in as many transactions, however often that takes."""
        place = outcome.partition.place
        left: Outcome | None = outcome
        failures = 0
        while left is not None:
            piece, later = _parted(left, self._most_bytes)
            try:
                if place in self._producers or not await self._resumed(piece):
                    await self._attempt(self._producers[place], piece)
            except ProducerFenced as error:
                self.metrics.transactions.labels("fenced").inc()
                await self._drop(place)
                raise PartitionLostError(f"{place.topic}/{place.partition}: {error}") from error
            except (KafkaError, OSError, SettingError) as error:
                self.metrics.transactions.labels("aborted").inc()
                await self._drop(place)
                if isinstance(error, TooLargeError):
                    left = left._replace(messages=fitted(left.messages, error))
                if isinstance(error, SlowError):
                    # Nothing of it was committed, since that comes later: it may be less.
                    self._most_bytes = max(_LEAST_BYTES, self._most_bytes // 2)
                await self.pause("publish", error, failures)
                failures += 1
            except BaseException:
                # Cancelled in the middle, or a message that is never accepted.
                await self._drop(place)
                raise
            else:
                self.metrics.transactions.labels("committed").inc()
                piece.partition.committed = piece.next_offset
                self._most_bytes = min(_MOST_BYTES, int(self._most_bytes * _GROWTH))
                left, failures = later, 0

    async def _resumed(self, outcome: Outcome) -> bool:
        """Starts a producer after a failure; whether the transaction had been committed."""
        place, before = outcome.partition.place, outcome.partition.committed
        await self._start(place)
        found = await self._committed(place)
        if found == outcome.next_offset:
            return True
        if found != before:
            # Another owner has come by in the meantime, or somebody has set the group's offset.
            raise PartitionLostError(
                f"{place.topic}/{place.partition} is committed to {found}, and {before} was left"
            )
        return False

    async def _attempt(self, producer: AIOKafkaProducer, outcome: Outcome) -> None:
        offsets = {outcome.partition.place: outcome.next_offset}
        await producer.begin_transaction()
        # Side by side: the offset is on its way while the messages are.
        await _together(
            self._publish(producer, outcome.messages),
            producer.send_offsets_to_transaction(offsets, self._group),
        )
        await producer.commit_transaction()

    async def _publish(self, producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
        if messages:
            with self.metrics.time("publish"):
                try:
                    async with asyncio.timeout(_SEND_SECONDS):
                        await send_all(producer, messages, self.largest)
                except TimeoutError:
                    raise SlowError(f"not all was sent within {_SEND_SECONDS:.0f} s") from None

    async def _start(self, place: TopicPartition) -> None:
        await self._drop(place)
        self._producers[place] = await start_producer(
            self._settings,
            transactional_id=f"{self._group}-{place.topic}-{place.partition}",
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
        )

    async def _drop(self, place: TopicPartition) -> None:
        """Closes a producer; a transaction that is open is aborted."""
        producer = self._producers.pop(place, None)
        if producer is None:
            return
        # By whatever this fails: the transaction ends with the next producer, or its timeout.
        with suppress(Exception):
            async with asyncio.timeout(_ABORT_SECONDS):
                await producer.abort_transaction()
        await stop_producer(producer)


def _parted(outcome: Outcome, most_bytes: int) -> tuple[Outcome, Outcome | None]:
    """As much of an outcome as a transaction may hold, one message at least, and the rest."""
    size = 0
    for number, message in enumerate(outcome.messages):
        size += message.bytes
        if number and size > most_bytes:
            first, rest = outcome.messages[:number], outcome.messages[number:]
            # Lines between two messages came to nothing.
            behind = first[-1].offset + 1
            return outcome._replace(messages=first, next_offset=behind), outcome._replace(
                messages=rest
            )
    return outcome, None


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Waits for all; where one fails, the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
