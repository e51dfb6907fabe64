"""The client that reads: how it is made, and how it is stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer

from agent.connection import client_options, stop_within
from agent.records import as_sent

if TYPE_CHECKING:
    from agent.setting_parts import KafkaSettings

#: New partitions are found, and a topic that was made anew, after at most this long.
_METADATA_SECONDS = 30.0

#: Leaving the group is a courtesy: without it the group waits for the session's end.
_LEAVE_SECONDS = 1.5

#: For what is left of a client that is cut off: its tasks, and then its connections, end at once.
#: Only under TLS a connection waits for an answer to its end; it goes on to close by itself.
_CUT_SECONDS = 0.5


def make_consumer(settings: KafkaSettings) -> AIOKafkaConsumer:
    """A member of the group that is to be started, and to be told what to read.

    Raises:
        SettingError: a certificate or key cannot be used.
    """
    session = int(settings.session_timeout * 1000)
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=settings.resolved_group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=session,
        heartbeat_interval_ms=session // 3,
        rebalance_timeout_ms=session,
        max_partition_fetch_bytes=2 * 1024 * 1024,
        fetch_max_bytes=16 * 1024 * 1024,
        metadata_max_age_ms=int(_METADATA_SECONDS * 1000),
        group_instance_id=settings.group_instance_id,
        value_deserializer=as_sent,
    )


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Closes a consumer, which leaves its group; one that does not in time is cut off."""
    if await stop_within(_LEAVE_SECONDS, consumer.stop()):
        return
    # Else its tasks would connect again: to fetch, and to tell the group that it is alive.
    if tasks := _tasks(consumer):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CUT_SECONDS)
    await stop_within(_CUT_SECONDS, consumer._client.close())  # noqa: SLF001 - it has no public name


def _tasks(consumer: AIOKafkaConsumer) -> list[asyncio.Task[Any]]:
    """What a consumer does by itself, as far as it was started."""
    # They have no public names.
    coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
    tasks = [getattr(coordinator, name, None) for name in names]
    tasks += [getattr(fetcher, "_fetch_task", None), *getattr(fetcher, "_pending_tasks", ())]
    return [task for task in tasks if task is not None]
