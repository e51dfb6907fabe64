"""Messages on their way to Kafka, and producers that carry them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agent.connection import client_options, stop_within
from crosyslog.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.setting_parts import KafkaSettings

#: Bounds the flush of a producer whose broker may be away.
_CLOSE_SECONDS = 1.5

#: A batch of messages is closed at this size, before compression.
_BATCH_BYTES = 256 * 1024

#: The broker judges how large a message may be (1 MiB unless it is told otherwise), after
#: compression; this is only far above it. An event holds its line twice.
_MAX_REQUEST_BYTES = 32 * 1024 * 1024


#: A client asks for a partition that is gone for ever. A new one knows what there is; after longer
#: than this, the broker aborts the transaction anyway.
_SEND_SECONDS = 25.0


class Outputs(NamedTuple):
    """The topics that messages go to."""

    events: str
    dead_letters: str


class Message(NamedTuple):
    """A message on its way.

    Attributes:
        id: topic/partition/offset of the line that it is about, for messages about it.
        topic: where it goes.
        partition: of the line; in a topic with fewer partitions, the remainder is its place.
        key: of the message.
        value: JSON of an event, or a dead letter as it came.
        headers: names and values.
        smaller: makes what is sent in its place where it is too large for the topic.
        alone: whether it is sent in a batch of its own.
    """

    id: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    smaller: Callable[[Message], Message] | None = None
    alone: bool = False


class TooLargeError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """The broker will not take some messages in the batches that they were sent in.

    Attributes:
        refused: batches of messages.
    """

    def __init__(self, refused: Sequence[Sequence[Message]]) -> None:
        self.refused = refused
        one = max((one for batch in refused for one in batch), key=_size)
        super().__init__(
            f"too large for the topic {one.topic!r}, the message about {one.id} of {_size(one)} "
            "bytes, or those sent with it"
        )


def fitted(messages: Iterable[Message], error: TooLargeError) -> list[Message]:
    """The messages as they are to be sent after some were refused.

    What was refused with others goes alone; what went alone, in a smaller form.

    Raises:
        BrokerError: there is no smaller form of one.
    """
    together = {one.id for batch in error.refused if len(batch) > 1 for one in batch}
    large = {batch[0].id for batch in error.refused if len(batch) == 1}
    found = []
    for message in messages:
        if message.id in large:
            if message.smaller is None:
                raise BrokerError(
                    f"the message about {message.id} of {_size(message)} bytes is too large for "
                    f"the topic {message.topic!r}: raise its max.message.bytes"
                ) from error
            found.append(message.smaller(message)._replace(smaller=None, alone=True))
        else:
            found.append(message._replace(alone=True) if message.id in together else message)
    return found


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
        TooLargeError: the broker will never accept some as they are: see `fitted`.
        KafkaError, TimeoutError: one was not acknowledged; any of the others may have been.
    """
    async with asyncio.timeout(_SEND_SECONDS):
        await _send_all(producer, messages)


async def _send_all(producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
    # Asked each time: a topic may be made anew, with another number of partitions.
    counts = {
        topic: len(await producer.partitions_for(topic))
        for topic in {message.topic for message in messages}
    }
    sent = []
    by_place: dict[tuple[str, int], list[Message]] = {}
    for message in messages:
        place = message.partition % counts[message.topic]
        by_place.setdefault((message.topic, place), []).append(message)
    for (topic, partition), some in by_place.items():
        batch, first = producer.create_batch(), 0
        for number, message in enumerate(some):
            parted = number > first and (message.alone or some[number - 1].alone)
            if not parted and _added(batch, message):
                continue
            answer = await producer.send_batch(batch, topic, partition=partition)
            sent.append((answer, some[first:number]))
            batch, first = producer.create_batch(), number
            _added(batch, message)
        answer = await producer.send_batch(batch, topic, partition=partition)
        sent.append((answer, some[first:]))
    answers = await asyncio.gather(*(answer for answer, _ in sent), return_exceptions=True)
    refused = [
        some
        for answer, (_, some) in zip(answers, sent, strict=True)
        if isinstance(answer, MessageSizeTooLargeError)
    ]
    if refused:
        raise TooLargeError(refused)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


def _size(message: Message) -> int:
    """Bytes of key, value and headers."""
    headers = sum(len(name) + len(content or b"") for name, content in message.headers)
    return len(message.key or b"") + len(message.value or b"") + headers


def _added(batch: object, message: Message) -> bool:
    found = batch.append(  # type: ignore[attr-defined]  # aiokafka has no types
        timestamp=None, key=message.key, value=message.value, headers=list(message.headers)
    )
    return found is not None
