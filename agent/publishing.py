"""Messages on their way to Kafka, and producers that carry them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from agent.connection import client_options, stop_within
from crosyslog.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.setting_parts import KafkaSettings

#: Bounds the flush of a producer whose broker may be away.
_CLOSE_SECONDS = 1.5

#: A batch of messages is closed at this size, before compression.
_BATCH_BYTES = 256 * 1024

#: The broker judges how large a message may be (1 MiB unless it is told otherwise), after
#: compression; this is only far above it. An event holds its line twice.
_MAX_REQUEST_BYTES = 32 * 1024 * 1024


class Outputs(NamedTuple):
    """The topics that messages go to, and how many partitions they have."""

    events: str
    event_partitions: int
    dead_letters: str
    dead_letter_partitions: int


class Message(NamedTuple):
    """A message on its way.

    Attributes:
        id: topic/partition/offset of the line that it is about, for messages about it.
        topic: where it goes.
        partition: of that topic.
        key: of the message.
        value: JSON of an event, or a dead letter as it came.
        headers: names and values.
    """

    id: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


async def start_producer(settings: KafkaSettings, **options: object) -> AIOKafkaProducer:
    """A producer that is connected; with a transactional id, it has fenced any earlier one.

    Args:
        settings: how to reach the brokers.
        options: those that aiokafka has besides.

    Raises:
        KafkaError, OSError: the brokers are away, or refuse.
    """
    producer = AIOKafkaProducer(
        **client_options(settings),
        enable_idempotence=True,
        compression_type="lz4",
        max_batch_size=_BATCH_BYTES,
        max_request_size=_MAX_REQUEST_BYTES,
        **options,
    )
    try:
        await producer.start()
    except BaseException:
        await stop_producer(producer)
        raise
    return producer


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Closes a producer; one that does not flush in time is cut off."""
    if not await stop_within(_CLOSE_SECONDS, producer.stop()):
        # Else it would connect again, and send what is left behind what a later producer sends.
        sender = producer._sender.sender_task  # noqa: SLF001 - it has no public name
        if sender is not None:
            sender.cancel()
        await producer.client.close()


async def send_all(producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
    """Sends messages, those to one partition in their order, until every one is acknowledged.

    They go in batches of our own making: one by one, aiokafka takes ten times the time.

    Raises:
        BrokerError: the broker will never accept a message, since it is too large.
        KafkaError: one was not acknowledged; any of the others may have been.
    """
    sent = []
    by_place: dict[tuple[str, int], list[Message]] = {}
    for message in messages:
        by_place.setdefault((message.topic, message.partition), []).append(message)
    for (topic, partition), some in by_place.items():
        batch, first = producer.create_batch(), 0
        for number, message in enumerate(some):
            if _added(batch, message):
                continue
            answer = await producer.send_batch(batch, topic, partition=partition)
            sent.append((answer, some[first:number]))
            batch, first = producer.create_batch(), number
            _added(batch, message)
        answer = await producer.send_batch(batch, topic, partition=partition)
        sent.append((answer, some[first:]))
    answers = await asyncio.gather(*(answer for answer, _ in sent), return_exceptions=True)
    for answer, (_, some) in zip(answers, sent, strict=True):
        if isinstance(answer, MessageSizeTooLargeError):
            largest = max(some, key=lambda message: len(message.value or b""))
            raise BrokerError(
                f"the message about {largest.id} of {len(largest.value or b'')} bytes is too large "
                f"for the topic {largest.topic!r}: raise its max.message.bytes"
            ) from answer
        if isinstance(answer, BaseException):
            raise answer


def _added(batch: object, message: Message) -> bool:
    found = batch.append(  # type: ignore[attr-defined]  # aiokafka has no types
        timestamp=None, key=message.key, value=message.value, headers=list(message.headers)
    )
    return found is not None
