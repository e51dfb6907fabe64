"""Makes and deletes the topics of a demo or a test, and returns when they can be used."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from crosyslog.errors import BrokerError, SettingError

# A topic takes tens of milliseconds; with a broker that was just restarted it may take seconds.
_LIMIT_SECONDS = 30.0
_RETRY_SECONDS = 0.05


def checked_servers(servers: str) -> str:
    """Addresses of brokers, without anything that could be a secret.

    Raises:
        SettingError: it is more than that; it is not repeated.
    """
    if "@" in servers or "/" in servers:
        raise SettingError(
            "the address of a Kafka is HOST:PORT, or several with commas, without user, password "
            "or `//`"
        )
    return servers


async def create_topics(bootstrap_servers: str, topics: Mapping[str, int]) -> None:
    """Makes topics of one replica, by name and number of partitions, and waits for their leaders.

    A topic that is already there is left as it is.

    Raises:
        BrokerError: Kafka cannot be reached, refuses, or has no leader for each after 30 s.
    """
    from aiokafka.admin import NewTopic
    from aiokafka.errors import TopicAlreadyExistsError

    def all_lead(described: list[dict[str, Any]]) -> bool:
        partitions = [partition for topic in described for partition in topic["partitions"]]
        return (
            len(described) == len(topics)
            and all(answer["error_code"] == 0 for answer in (*described, *partitions))
            and all(partition["leader"] >= 0 for partition in partitions)
        )

    async with _admin(bootstrap_servers) as admin:
        answer = await admin.create_topics(
            [NewTopic(name, partitions, 1) for name, partitions in topics.items()]
        )
        _check(answer.topic_errors, but=TopicAlreadyExistsError.errno)
        await _until(all_lead, admin, topics)


async def delete_topics(bootstrap_servers: str, topics: Collection[str]) -> None:
    """Deletes topics and waits until Kafka knows them no more; one it never knew is no error.

    Raises:
        BrokerError: Kafka cannot be reached, refuses, or still knows one after 30 s.
    """
    from aiokafka.errors import UnknownTopicOrPartitionError

    unknown = UnknownTopicOrPartitionError.errno

    def all_unknown(described: list[dict[str, Any]]) -> bool:
        return all(topic["error_code"] == unknown for topic in described)

    async with _admin(bootstrap_servers) as admin:
        answer = await admin.delete_topics(list(topics))
        _check(answer.topic_error_codes, but=unknown)
        await _until(all_unknown, admin, topics)


@asynccontextmanager
async def _admin(bootstrap_servers: str) -> AsyncIterator[Any]:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise BrokerError(
            f"Kafka at {bootstrap_servers} cannot be used ({type(error).__name__}): is it running, "
            "and is this its host:port?"
        ) from error
    finally:
        await admin.close()


def _check(answers: list[tuple[Any, ...]], but: int) -> None:
    from aiokafka.errors import for_code

    for topic, code, *message in answers:
        if code not in {0, but}:
            why = (message and message[0]) or for_code(code).description
            raise BrokerError(f"Kafka refused the topic {topic}: {why}")


async def _until(
    is_done: Callable[[list[dict[str, Any]]], bool],
    admin: Any,  # noqa: ANN401  aiokafka has no types
    topics: Collection[str],
) -> None:
    for _ in range(int(_LIMIT_SECONDS / _RETRY_SECONDS)):
        if is_done(await admin.describe_topics(list(topics))):
            return
        await asyncio.sleep(_RETRY_SECONDS)
    raise BrokerError(
        f"Kafka did not settle the topics {', '.join(topics)} within {_LIMIT_SECONDS:.0f} s"
    )
