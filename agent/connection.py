"""How to reach the brokers, and what must be there before the agent starts."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidConfigurationError,
    KafkaError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    for_code,
)

from agent.logs import quiet_client
from agent.tokens import token_provider
from crosyslog.errors import BrokerError, SettingError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agent.setting_parts import KafkaSettings

log = logging.getLogger(__name__)

#: How long brokers may take to answer at the start: those of a compose file start beside us.
_CONNECT_SECONDS = 10.0

#: Of these, for one attempt: an address that swallows packets gives no answer at all.
_ATTEMPT_SECONDS = 4.0

_RETRY_SECONDS = 0.5

#: How large a message, or a batch of them, a topic takes. A dead letter has headers beside its
#: line's own.
_LIMIT, _HEADERS_BYTES, _LARGEST = "max.message.bytes", 65_536, 2**31 - 1

#: Kafka's word for where a configuration comes from: it was set for this topic.
_SET_FOR_TOPIC = 1


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """What every aiokafka client is given to reach the brokers.

    Raises:
        SettingError: a certificate or key cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": "crosyslog-agent",
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.sasl_token_command is not None:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_oauth_token_provider": token_provider(settings.sasl_token_command),
        }
    if settings.sasl_password is not None:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return options


async def stop_within(seconds: float, stopping: Coroutine[None, None, None]) -> bool:
    """Lets a client stop, in a task of its own, and gives it up after a time.

    A client that has lost its brokers may raise the cancellation of one of its own tasks, which
    must not pass for a cancellation of whoever stops it.

    Returns:
        Whether it has stopped as it should.
    """
    task = asyncio.create_task(stopping)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if task.cancelled():
        return False
    error = task.exception()
    if error is not None and not isinstance(error, KafkaError | OSError):
        log.warning("a client did not stop cleanly: %s: %s", type(error).__name__, error)
    return error is None


async def prepare_topics(settings: KafkaSettings) -> None:
    """Makes sure that the topic to read exists, and creates those that are written to.

    A new topic gets as many partitions and replicas as the one that is read, and takes its largest
    messages.

    Raises:
        BrokerError: the brokers cannot be reached, or a topic is missing.
    """
    # What the client logs of failed attempts is said in one line by the error.
    with quiet_client():
        admin = await _connect(settings)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await _prepare(admin, settings)
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerError(_unreachable(settings, error)) from error
        finally:
            await admin.close()


async def _prepare(admin: AIOKafkaAdminClient, settings: KafkaSettings) -> None:
    topic, where = settings.resolved_topic, settings.bootstrap_servers
    there = await admin.list_topics()
    if topic not in there:
        raise BrokerError(
            f"the topic {topic!r} does not exist on {where}, or this user may not see it: "
            f"create it, or name another one with --topic{_some(there)}"
        )
    outputs = (settings.resolved_output_topic, settings.resolved_dead_letter_topic)
    missing = [output for output in outputs if output not in there]
    if not missing:
        return
    (described,) = await admin.describe_topics([topic])
    partitions = described["partitions"]
    limit = await _largest_message(admin, topic)
    for output in missing:
        await _create(admin, output, len(partitions), len(partitions[0]["replicas"]), limit, where)


async def _largest_message(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """The configuration of a topic that takes each message of this one with some headers more.

    Empty where it has none of its own, or this user may not see it.
    """
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {_LIMIT: None})
    (response,) = await admin.describe_configs([resource])
    ((*_, entries),) = response.resources
    for name, value, _read_only, source, *_rest in entries:
        if name == _LIMIT and source == _SET_FOR_TOPIC:
            return {_LIMIT: str(min(int(value) + _HEADERS_BYTES, _LARGEST))}
    return {}


async def _create(
    admin: AIOKafkaAdminClient,
    topic: str,
    partitions: int,
    replicas: int,
    limit: dict[str, str],
    where: str,
) -> None:
    new = NewTopic(topic, partitions, replicas, topic_configs=limit)
    for _, code, *_ in (await admin.create_topics([new])).topic_errors:
        error = for_code(code)
        if limit and error in {InvalidConfigurationError, PolicyViolationError}:
            # The brokers allow no such size: what does not fit goes in a smaller form.
            await _create(admin, topic, partitions, replicas, {}, where)
        elif code and error is not TopicAlreadyExistsError:
            raise BrokerError(
                f"the topic {topic!r} does not exist and cannot be created "
                f"({error.__name__}): create it with `kafka-topics.sh --bootstrap-server {where} "
                f"--create --topic {topic} --partitions {partitions}`"
            )


async def _connect(settings: KafkaSettings) -> AIOKafkaAdminClient:
    """An admin client that is connected.

    Raises:
        BrokerError: the brokers do not answer.
    """
    options = client_options(settings)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CONNECT_SECONDS
    while True:
        admin = AIOKafkaAdminClient(**options)
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + _ATTEMPT_SECONDS)):
                await admin.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await admin.close()
            if loop.time() + _RETRY_SECONDS >= deadline:
                raise BrokerError(_unreachable(settings, error)) from error
        except BaseException:
            await admin.close()
            raise
        else:
            return admin
        await asyncio.sleep(_RETRY_SECONDS)


def _unreachable(settings: KafkaSettings, error: BaseException) -> str:
    return (
        f"cannot use Kafka at {settings.bootstrap_servers} ({type(error).__name__} for "
        f"{_CONNECT_SECONDS:.0f} s): check kafka.bootstrap_servers, that a broker runs there, and "
        f"kafka.security_protocol={settings.security_protocol} with its credentials, since wrong "
        "ones look the same from here"
    )


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    except OSError as error:
        raise SettingError(
            f"kafka.ssl_ca_file={str(settings.ssl_ca_file)!r} cannot be used: {error}"
        ) from error
    if settings.ssl_certificate_file is not None:
        try:
            context.load_cert_chain(settings.ssl_certificate_file, settings.ssl_key_file)
        except OSError as error:
            raise SettingError(
                f"kafka.ssl_certificate_file={str(settings.ssl_certificate_file)!r} and "
                f"kafka.ssl_key_file={str(settings.ssl_key_file)!r} cannot be used: {error}"
            ) from error
    return context


def _some(topics: list[str]) -> str:
    named = sorted(topic for topic in topics if not topic.startswith("__"))[:5]
    return f" (there are {', '.join(named)})" if named else ""
