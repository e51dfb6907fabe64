"""Messages on their way to Kafka, and producers that carry them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agent.connection import client_options, stop_within
from crosyslog.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from agent.setting_parts import KafkaSettings

#: Bounds the flush of a producer whose broker may be away.
_CLOSE_SECONDS = 1.5

#: For the connections of one that is cut off, which close at once.
_CUT_SECONDS = 0.5

#: A batch of messages is closed at this size, before compression.
_BATCH_BYTES = 256 * 1024

#: The broker judges how large a message may be (1 MiB unless it is told otherwise), after
#: compression; this is only far above it. An event holds its line twice.
_MAX_REQUEST_BYTES = 32 * 1024 * 1024


#: Without an acknowledgement for this long, a client asks for a partition that is gone for ever, or
#: a broker is; a new client knows what there is.
_SILENCE_SECONDS = 25.0

#: What a message takes beside key, value and headers, more or less.
_FRAME_BYTES = 64


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
    """

    id: str
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    smaller: Callable[[Message], Message] | None = None

    @property
    def offset(self) -> int:
        """Of the line that it is about."""
        return int(self.id.rpartition("/")[2])

    @property
    def bytes(self) -> int:
        """Its size, before compression."""
        headers = sum(len(name) + len(content or b"") for name, content in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + _FRAME_BYTES


class TooLargeError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """The broker does not take some messages as they were sent: see `fitted`.

    Attributes:
        refused: those that were refused although they were sent alone. What was refused together
            with others is to be sent again: in smaller batches, it may be taken.
    """

    def __init__(self, topic: str, refused: Sequence[Message]) -> None:
        self.refused = refused
        said = [f"the message about {one.id} of {one.bytes} bytes" for one in refused]
        super().__init__(f"too large for the topic {topic!r}: {said[0] if said else 'a batch'}")


class SlowError(KafkaError):  # type: ignore[misc]
    """No message was acknowledged for a long time."""


def fitted(messages: Iterable[Message], error: TooLargeError) -> list[Message]:
    """The messages as they are to be sent after some were refused: those in their smaller form.

    Raises:
        BrokerError: there is no smaller form of one.
    """
    large = {message.id for message in error.refused}
    found = []
    for message in messages:
        if message.id not in large:
            found.append(message)
        elif message.smaller is not None:
            found.append(message.smaller(message)._replace(smaller=None))
        else:
            raise BrokerError(
                f"the message about {message.id} of {message.bytes} bytes is too large for the "
                f"topic {message.topic!r}: raise its max.message.bytes"
            ) from error
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
        # Under TLS, a connection waits for an answer to its end: it goes on to close by itself.
        await stop_within(_CUT_SECONDS, producer.client.close())


async def send_all(
    producer: AIOKafkaProducer, messages: Sequence[Message], largest: dict[str, int]
) -> None:
    """Sends messages, those to one partition in their order, until every one is acknowledged.

    They go in batches of our own making: one by one, aiokafka takes ten times the time.

    Args:
        producer: that is started.
        messages: to be sent.
        largest: by topic, how large a batch may be, before compression; what is learned of it is
            kept there.

    Raises:
        TooLargeError: the broker will never accept some as they are.
        SlowError: nothing was acknowledged for a long time.
        KafkaError: one was not acknowledged; any of the others may have been.
    """
    # Asked each time: a topic may be made anew, with another number of partitions.
    counts = {
        topic: len(await producer.partitions_for(topic))
        for topic in {message.topic for message in messages}
    }
    by_place: dict[tuple[str, int], list[Message]] = {}
    for message in messages:
        place = message.partition % counts[message.topic]
        by_place.setdefault((message.topic, place), []).append(message)
    sent: list[tuple[asyncio.Future[Any], Sequence[Message]]] = []
    for (topic, partition), some in by_place.items():
        for batch, inside in _batches(producer, some, largest.get(topic, _BATCH_BYTES)):
            # It waits for the batch before it, if that is for the same partition.
            answer = await _in_time(producer.send_batch(batch, topic, partition=partition))
            sent.append((answer, inside))
    await _all_answered([answer for answer, _ in sent])
    refused: list[Message] = []
    topics = []
    for answer, inside in sent:
        error = answer.exception()
        if isinstance(error, MessageSizeTooLargeError):
            topics.append(inside[0].topic)
            if len(inside) > 1:
                size = sum(message.bytes for message in inside)
                largest[topics[-1]] = min(largest.get(topics[-1], _BATCH_BYTES), size // 4)
            else:
                refused += inside
    if topics:
        raise TooLargeError(topics[0], refused)
    for answer, _ in sent:
        answer.result()


def _batches(
    producer: AIOKafkaProducer, messages: Sequence[Message], largest: int
) -> Iterator[tuple[Any, Sequence[Message]]]:
    """Batches of the client, and what is inside; a message that is larger has one of its own."""
    first = size = 0
    batch = producer.create_batch()
    for number, message in enumerate(messages):
        if number > first and (size + message.bytes > largest or not _added(batch, message)):
            yield batch, messages[first:number]
            batch, first, size = producer.create_batch(), number, 0
        if number == first:
            _added(batch, message)
        size += message.bytes
    yield batch, messages[first:]


async def _in_time(sending: Awaitable[asyncio.Future[Any]]) -> asyncio.Future[Any]:
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            return await sending
    except TimeoutError:
        raise _slow() from None


async def _all_answered(answers: Sequence[asyncio.Future[Any]]) -> None:
    """Waits for all, as long as one comes now and then; their errors are left to the caller."""
    pending = {answer for answer in answers if not answer.done()}
    while pending:
        done, pending = await asyncio.wait(
            pending, timeout=_SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            for answer in answers:
                # An error that comes later is nobody's any more.
                answer.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise _slow()


def _slow() -> SlowError:
    return SlowError(f"no message was acknowledged for {_SILENCE_SECONDS:.0f} s")


def _added(batch: Any, message: Message) -> bool:  # noqa: ANN401 - aiokafka has no types
    found = batch.append(
        timestamp=None, key=message.key, value=message.value, headers=list(message.headers)
    )
    return found is not None
