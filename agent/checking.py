"""`crosyslog-agent check`: whether an agent with these settings could work, and why not."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    for_code,
)

from agent.app import describe_model, load_judge
from agent.connection import client_options
from agent.publishing import stop_producer
from crosyslog.encoder import load_encoder
from crosyslog.errors import CrosyslogError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

    from agent.setting_parts import KafkaSettings
    from agent.settings import Settings
    from crosyslog.encoder import Encoder

#: How long one question may take.
_PATIENCE_SECONDS = 10.0

#: What a connection is given to come about.
_CONNECT_SECONDS = 4.0


class Finding(NamedTuple):
    """What one question came to.

    Attributes:
        what: was looked at.
        ok: whether it is as it should be; none if it could not be looked at.
        said: what was found, and what to do about it.
    """

    what: str
    ok: bool | None
    said: str


async def check(
    settings: Settings, load: Callable[[str, str, str], Encoder] = load_encoder
) -> list[Finding]:
    """Looks at all that an agent needs; changes nothing and joins no group.

    Args:
        settings: those of the agent.
        load: loads an encoder by name, device and precision.

    Raises:
        SettingError: a setting that is needed is missing.
    """
    kafka = settings.kafka
    topic = kafka.resolved_topic
    findings = [
        Finding(
            "settings",
            True,
            f"topic {topic}, group {kafka.resolved_group}, events to "
            f"{kafka.resolved_output_topic}, dead letters to {kafka.resolved_dead_letter_topic}, "
            f"{settings.delivery.guarantee}",
        )
    ]
    findings += await _of_kafka(settings)
    findings.append(await asyncio.to_thread(_model, settings, load))
    return findings


async def _of_kafka(settings: Settings) -> list[Finding]:
    kafka = settings.kafka
    later = ["topics", "read", "write"]
    async with AsyncExitStack() as stack:
        broker, admin = await _broker(kafka, stack)
        if admin is None:
            return [broker, *(Finding(what, None, "no broker") for what in later)]
        topics = await _asked("topics", lambda: _topics(admin, kafka))
        findings = [broker, topics]
        if not topics.ok:
            return [*findings, *(Finding(what, None, "no topic") for what in later[1:])]
        findings.append(await _asked("read", lambda: _reading(admin, kafka)))
        if settings.delivery.guarantee == "exactly-once":
            findings.append(await _asked("write", lambda: _transactions(kafka)))
        else:
            findings.append(await _asked("write", lambda: _writing(kafka)))
        return findings


async def _asked(what: str, question: Callable[[], Awaitable[str]]) -> Finding:
    """What an answer or its failure says."""
    with _heard() as heard:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                said = await question()
        except CrosyslogError as error:
            return Finding(what, False, str(error))
        except TimeoutError:
            return Finding(what, False, f"no answer within {_PATIENCE_SECONDS:.0f} s{_last(heard)}")
        except (KafkaError, OSError) as error:
            return Finding(what, False, f"{type(error).__name__}: {error}{_last(heard)}")
    return Finding(what, True, said)


async def _broker(
    kafka: KafkaSettings, stack: AsyncExitStack
) -> tuple[Finding, AIOKafkaAdminClient | None]:
    """Whether a broker can be reached, and step by step why not."""
    options = client_options(kafka)
    refused = []
    for server in kafka.bootstrap_servers.split(","):
        host, _, port = server.rpartition(":") if ":" in server else (server, "", "9092")
        why = await _connection(host.strip("[]"), int(port), options.get("ssl_context"))
        if why:
            refused.append(f"{server}: {why}")
    if len(refused) == len(kafka.bootstrap_servers.split(",")):
        return Finding("broker", False, "; ".join(refused)), None
    with _heard() as heard:
        admin = AIOKafkaAdminClient(**options)
        stack.push_async_callback(admin.close)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await admin.start()
                count = len((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError, TimeoutError, CrosyslogError) as error:
            said = f"{kafka.bootstrap_servers} is there, and refuses us"
            own = f": {error}" if isinstance(error, CrosyslogError) else ""
            return Finding("broker", False, said + own + _advice(kafka, heard)), None
    how: str = kafka.security_protocol
    if how.startswith("SASL"):
        how += f" {kafka.sasl_mechanism} as {kafka.sasl_username or 'its token says'}"
    brokers = f"{count} broker{'' if count == 1 else 's'}"
    said = f"{kafka.bootstrap_servers}, {brokers}, {how}"
    return Finding(
        "broker", True, said + "".join(f"; not reached: {one}" for one in refused)
    ), admin


async def _connection(host: str, port: int, context: ssl.SSLContext | None) -> str | None:
    """Why no connection comes about, up to TLS; none if one does."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except socket.gaierror as error:
        return f"the name is unknown ({error.strerror}): check kafka.bootstrap_servers"
    except TimeoutError:
        return "no answer: is a firewall between us?"
    except OSError as error:
        return f"{error.strerror or error}: does a broker run there? check kafka.bootstrap_servers"
    writer.close()
    return await _tls(host, port, context) if context is not None else None


async def _tls(host: str, port: int, context: ssl.SSLContext) -> str | None:
    """Why TLS does not come about; none if it does."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.close()
    except TimeoutError:
        return "it does not speak TLS: check kafka.security_protocol and the port"
    except OSError as error:
        return (
            f"TLS fails ({error}): check kafka.ssl_ca_file, and that the port is one for "
            "kafka.security_protocol"
        )
    return None


def _advice(kafka: KafkaSettings, heard: list[str]) -> str:
    said = _last(heard)
    if "Authentication" in said or "authentication" in said:
        return f"{said}: check kafka.sasl_mechanism, kafka.sasl_username and the password or token"
    if "UnsupportedSaslMechanism" in said:
        return f"{said}: check kafka.sasl_mechanism"
    return (
        f"{said}: check kafka.security_protocol={kafka.security_protocol}, with its certificate or "
        "credentials; a port is for one protocol"
    )


async def _topics(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> str:
    """Whether the topics are there, or could be made."""
    there = await admin.list_topics()
    topic, where = kafka.resolved_topic, kafka.bootstrap_servers
    if topic not in there:
        raise _RefusedError(
            f"{topic} does not exist, or this user may not see it: create it, name another with "
            f"--topic, or give the right: {_acl(where, 'Describe', f'--topic {topic}')}"
        )
    (described,) = await admin.describe_topics([topic])
    partitions = described["partitions"]
    said = [f"{topic} has {_partitions(len(partitions))}"]
    for output in (kafka.resolved_output_topic, kafka.resolved_dead_letter_topic):
        if output in there:
            (found,) = await admin.describe_topics([output])
            said.append(f"{output} {_partitions(len(found['partitions']))}")
            continue
        wanted = NewTopic(output, len(partitions), len(partitions[0]["replicas"]))
        answer = await admin.create_topics([wanted], validate_only=True)
        for _, code, *_ in answer.topic_errors:
            if code:
                raise _RefusedError(
                    f"{output} does not exist and cannot be created ({for_code(code).__name__}): "
                    f"kafka-topics.sh --bootstrap-server {where} --create --topic {output} "
                    f"--partitions {len(partitions)}"
                )
        said.append(f"{output} will be created")
    return ", ".join(said)


async def _reading(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> str:
    """Whether lines and committed offsets can be read, as a member of no group."""
    topic, where = kafka.resolved_topic, kafka.bootstrap_servers
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=kafka.resolved_group,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        isolation_level="read_committed",
    )
    try:
        await consumer.start()
        (described,) = await admin.describe_topics([topic])
        places = [TopicPartition(topic, one["partition"]) for one in described["partitions"]]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        firsts = await consumer.beginning_offsets(places)
        for place in places:
            consumer.seek(place, max(firsts[place], ends[place] - 1))
        await consumer.getmany(timeout_ms=500, max_records=1)
        offsets = [await consumer.committed(place) for place in places]
    except TopicAuthorizationFailedError as error:
        raise _RefusedError(
            f"no right to read {topic}: {_acl(where, 'Read', f'--topic {topic}')}"
        ) from error
    except GroupAuthorizationFailedError as error:
        raise _RefusedError(
            f"no right to the group: {_acl(where, 'Read', f'--group {kafka.resolved_group}')}"
        ) from error
    finally:
        await consumer.stop()
    held = sum(ends[place] - firsts[place] for place in places)
    if all(offset is None for offset in offsets):
        return f"{held:,} offsets; the group is new and begins at {kafka.start_from}"
    behind = sum(
        ends[place] - (offset if offset is not None else firsts[place])
        for place, offset in zip(places, offsets, strict=True)
    )
    return f"{held:,} offsets, {behind:,} of them before the group"


async def _transactions(kafka: KafkaSettings) -> str:
    """Whether a transaction over all topics can be begun; it is aborted, and nothing written."""
    where, group = kafka.bootstrap_servers, kafka.resolved_group
    prefix = f"{group}-{kafka.resolved_topic}-"
    producer = AIOKafkaProducer(
        **client_options(kafka), transactional_id=f"{prefix}check-{uuid4()}"
    )
    rights = _acl(where, "Write --operation Describe", f"--transactional-id {prefix}", prefix=True)
    try:
        await producer.start()
        await producer.begin_transaction()
        there = (await producer.client.fetch_all_metadata()).topics()
        for topic in (kafka.resolved_output_topic, kafka.resolved_dead_letter_topic):
            if topic in there:
                # What `send` does first: the broker looks at the right to write.
                manager = producer._txn_manager  # noqa: SLF001 - or something would be written
                manager.maybe_add_partition_to_txn(TopicPartition(topic, 0))
        place = TopicPartition(kafka.resolved_topic, 0)
        await producer.send_offsets_to_transaction({place: 0}, group)
        await producer.abort_transaction()
    except TransactionalIdAuthorizationFailed as error:
        raise _RefusedError(f"no right to transactions: {rights}") from error
    except TopicAuthorizationFailedError as error:
        raise _RefusedError(_no_right_to_write(kafka)) from error
    except GroupAuthorizationFailedError as error:
        raise _RefusedError(
            f"no right to the group: {_acl(where, 'Read', f'--group {group}')}"
        ) from error
    finally:
        await stop_producer(producer)
    return "a transaction over the topics could be begun; it was aborted"


async def _writing(kafka: KafkaSettings) -> str:
    """Whether an idempotent producer can be started; rights to a topic show at the first event."""
    producer = AIOKafkaProducer(**client_options(kafka), enable_idempotence=True)
    try:
        await producer.start()
        for topic in (kafka.resolved_output_topic, kafka.resolved_dead_letter_topic):
            await producer.client.add_topic(topic)
    except TopicAuthorizationFailedError as error:
        raise _RefusedError(_no_right_to_write(kafka)) from error
    finally:
        await stop_producer(producer)
    return (
        "a producer could be started; the rights to write were not tried, since nothing is written"
    )


def _no_right_to_write(kafka: KafkaSettings) -> str:
    rights = [
        _acl(kafka.bootstrap_servers, "Write", f"--topic {topic}")
        for topic in (kafka.resolved_output_topic, kafka.resolved_dead_letter_topic)
    ]
    return "no right to write: " + " and ".join(rights)


def _model(settings: Settings, load: Callable[[str, str, str], Encoder]) -> Finding:
    try:
        loaded = load_judge(settings, load)
    except CrosyslogError as error:
        return Finding("model", False, str(error))
    loaded.cache.close()
    return Finding("model", True, describe_model(loaded.judge.model, settings))


class _RefusedError(CrosyslogError):
    """Something is not as it should be."""


def _acl(where: str, operation: str, resource: str, *, prefix: bool = False) -> str:
    pattern = " --resource-pattern-type prefixed" if prefix else ""
    return (
        f"`kafka-acls.sh --bootstrap-server {where} --add --allow-principal User:NAME --operation "
        f"{operation} {resource}{pattern}`"
    )


def _partitions(count: int) -> str:
    return f"{count} partition{'' if count == 1 else 's'}"


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the client logs meanwhile, which is often the only place where it says why."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                heard.append(record.getMessage())

    client, listener = logging.getLogger("aiokafka"), Listener()
    before, level = client.propagate, client.level
    client.addHandler(listener)
    # Whatever else it is to tell: this has to be heard.
    client.setLevel(logging.ERROR)
    client.propagate = False
    try:
        yield heard
    finally:
        client.removeHandler(listener)
        client.setLevel(level)
        client.propagate = before


def _last(heard: list[str]) -> str:
    return f" ({heard[-1]})" if heard else ""
