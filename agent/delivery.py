"""Publishing events and committing what they came from: the one place that promises delivery."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
)

from agent.connection import client_options, stop_within
from crosyslog.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiokafka import TopicPartition

    from agent.metrics import Metrics
    from agent.setting_parts import KafkaSettings

log = logging.getLogger(__name__)

#: Waits between attempts, in seconds; the last one is kept to.
_BACKOFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

#: A delivery that takes longer than this makes the agent not ready.
_SLOW_SECONDS = 5.0

#: Bounds the flush of a producer whose broker may be away.
_CLOSE_SECONDS = 1.5

#: The broker judges how large a message may be (1 MiB unless it is told otherwise), after
#: compression; this is only far above it. An event holds its line twice.
_MAX_REQUEST_BYTES = 32 * 1024 * 1024


class Event(NamedTuple):
    """An event on its way.

    Attributes:
        id: topic/partition/offset of its line, for messages about it.
        partition: of the line, which decides the event's.
        key: of the message.
        value: JSON.
    """

    id: str
    partition: int
    key: bytes | None
    value: bytes


class Delivery:
    """Publishes the events of a batch, then commits its offsets: at least once, in order.

    A crash between the two repeats events, which carry the same id then.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        output_partitions: int,
        commit: Callable[[Mapping[TopicPartition, int]], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._topic = settings.resolved_output_topic
        self._output_partitions = output_partitions
        self._commit = commit
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._waiting_since: float | None = None

    def not_ready(self) -> str | None:
        """Why events cannot be delivered now; none if they can."""
        since = self._waiting_since
        if since is None or monotonic() - since < _SLOW_SECONDS:
            return None
        return f"a batch has been waiting for {monotonic() - since:.0f} s to be delivered"

    async def deliver(self, events: Sequence[Event], offsets: Mapping[TopicPartition, int]) -> bool:
        """Publishes the events and, once every one is acknowledged, commits the offsets.

        It keeps trying while brokers are away or refuse; cancel it to give up.

        Returns:
            Whether all is done. It is not if another agent has the partitions by now.

        Raises:
            BrokerError: the broker will never accept an event, since it is too large.
        """
        self._waiting_since = monotonic()
        try:
            with self._metrics.time("publish"):
                await self._insist("publish", lambda: self._publish(events))
            with self._metrics.time("commit"):
                return await self._insist("commit", lambda: self._commit_or_lose(offsets))
        finally:
            self._waiting_since = None

    async def stop(self) -> None:
        """Closes the producer."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if not await stop_within(_CLOSE_SECONDS, producer.stop()):
            await producer.client.close()

    async def _insist(self, stage: str, attempt: Callable[[], Awaitable[bool]]) -> bool:
        for number in range(10**9):
            try:
                return await attempt()
            except (KafkaError, OSError) as error:
                self._metrics.error(stage, error)
                pause = _BACKOFF[min(number, len(_BACKOFF) - 1)]
                log.warning(
                    "cannot %s: %s: %s; trying again in %.1f s",
                    stage, type(error).__name__, error, pause,
                )  # fmt: skip
                await asyncio.sleep(pause)
        return False

    async def _publish(self, events: Sequence[Event]) -> bool:
        """Sends all events and waits until every one is acknowledged.

        After a failure all are sent again, by a new producer: only so they stay in order.
        """
        if not events:
            return True
        try:
            producer = await self._started()
            sent = [
                await producer.send(
                    self._topic, event.value, event.key, event.partition % self._output_partitions
                )
                for event in events
            ]
            for event, answer in zip(events, await _all(sent), strict=True):
                if isinstance(answer, MessageSizeTooLargeError):
                    raise BrokerError(
                        f"the event {event.id} of {len(event.value)} bytes is too large for the "
                        f"topic {self._topic!r}: raise its max.message.bytes"
                    ) from answer
                if isinstance(answer, BaseException):
                    raise answer
        except KafkaError:
            await self.stop()
            raise
        return True

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **client_options(self._settings),
                enable_idempotence=True,
                compression_type="lz4",
                max_batch_size=256 * 1024,
                max_request_size=_MAX_REQUEST_BYTES,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _commit_or_lose(self, offsets: Mapping[TopicPartition, int]) -> bool:
        if not offsets:
            return True
        try:
            await self._commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            # A rebalance came first: whoever has the partitions now judges these lines again.
            self._metrics.error("commit", error)
            log.warning("%s: its partitions belong to another agent by now", type(error).__name__)
            return False
        return True


async def _all(sent: Sequence[asyncio.Future[object]]) -> list[object]:
    return await asyncio.gather(*sent, return_exceptions=True)
