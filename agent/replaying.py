"""`crosyslog-agent replay-dlq`: dead letters back to the topic that they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agent.connection import client_options
from agent.dead_letters import PREFIX, REPLAYS, VALUE_LEFT_OUT
from agent.publishing import Message, TooLargeError, send_all, start_producer, stop_producer
from crosyslog.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka import AIOKafkaProducer, ConsumerRecord

    from agent.reasons import Reason
    from agent.setting_parts import KafkaSettings

#: Dead letters that are looked at together, and go back in one transaction.
_AT_ONCE = 500

#: How long a read waits for more.
_WAIT_MS = 1_000


class Replay(NamedTuple):
    """What became of the dead letters of one reason that were not looked at before.

    Attributes:
        sent: how many went back, or would have.
        looping: how many stay, since they had gone back too often.
        incomplete: how many stay, since their value was too large for the topic of dead letters, or
            is for the one that they would go back to.
    """

    sent: int
    looping: int
    incomplete: int = 0


async def replay(
    kafka: KafkaSettings, reason: Reason, *, most_replays: int, dry_run: bool
) -> Replay:
    """Sends dead letters of a reason back to the partition they came from.

    Key, value and headers go as they came, with a count of how often. How far the dead letters
    were looked at is committed in the same transaction, for a group of the reason's own, so that
    an interruption sends nothing twice, and the other reasons wait for their turn.

    Args:
        kafka: where, and which topics.
        reason: which ones.
        most_replays: a letter that went back so often stays where it is.
        dry_run: only count.

    Raises:
        BrokerError: Kafka cannot be used, or there is no topic of dead letters.
    """
    source, group = kafka.resolved_dead_letter_topic, f"{kafka.resolved_group}-replay-{reason}"
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer: AIOKafkaProducer | None = None
    largest: dict[str, int] = {}

    async def start() -> AIOKafkaProducer:
        return await start_producer(
            kafka, transactional_id=f"{group}-{source}", retry_backoff_ms=20
        )

    sent = looping = incomplete = 0
    try:
        if not dry_run:
            # Before the committed offsets are read: of two at once, the second ends the first.
            producer = await start()
        places = await _places(kafka, source)
        await consumer.start()
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while not all([await consumer.position(place) >= end for place, end in ends.items()]):
            found = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=_AT_ONCE)
            records = [
                record
                for place, some in found.items()
                for record in some
                # What is sent back meanwhile may have become a dead letter again.
                if record.offset < ends[place] and _header(record, f"{PREFIX}reason") == reason
            ]
            whole = [record for record in records if not _header(record, VALUE_LEFT_OUT)]
            back = [record for record in whole if _times(record) < most_replays]
            looping += len(whole) - len(back)
            messages = _messages(back, kafka.resolved_topic)
            # What has come meanwhile is for the next time.
            behind = {place: min(some[-1].offset + 1, ends[place]) for place, some in found.items()}
            while producer is not None and behind:
                try:
                    async with producer.transaction():
                        await send_all(producer, messages, largest)
                        await producer.send_offsets_to_transaction(behind, group)
                    break
                except TooLargeError as error:
                    # In smaller batches; and without what is too large alone, which stays.
                    refused = {message.id for message in error.refused}
                    messages = [message for message in messages if message.id not in refused]
                    await stop_producer(producer)
                    producer = await start()
            sent += len(messages)
            incomplete += len(records) - len(whole) + len(back) - len(messages)
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerError(
            f"cannot replay {source} at {kafka.bootstrap_servers}: {type(error).__name__}: "
            f"{error}; `crosyslog-agent check` says what is missing"
        ) from error
    finally:
        await consumer.stop()
        if producer is not None:
            await stop_producer(producer)
    return Replay(sent, looping, incomplete)


async def _places(kafka: KafkaSettings, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if described["error_code"]:
        raise BrokerError(
            f"the topic {topic!r} does not exist, or this user may not see it: there are no dead "
            "letters to send"
        )
    return [TopicPartition(topic, one["partition"]) for one in described["partitions"]]


def _messages(records: Iterable[ConsumerRecord], topic: str) -> list[Message]:
    """Lines as they came, each with how often it was sent back."""
    messages = []
    for record in records:
        partition = _header(record, f"{PREFIX}partition")
        own = [(name, content) for name, content in record.headers if not name.startswith(PREFIX)]
        messages.append(
            Message(
                f"{record.topic}/{record.partition}/{record.offset}",
                topic,
                int(partition) if partition.isdecimal() else 0,
                record.key,
                record.value,
                [*own, (REPLAYS, str(_times(record) + 1).encode())],
            )
        )
    return messages


def _times(record: ConsumerRecord) -> int:
    """How often a line was sent back before."""
    before = _header(record, REPLAYS)
    return int(before) if before.isdecimal() else 0


def _header(record: ConsumerRecord, name: str) -> str:
    """The last header of a name; nothing where there is none."""
    found = [content for other, content in record.headers if other == name]
    return (found[-1] or b"").decode("ascii", "replace") if found else ""
