"""Agents in the test's own process, on a tiny model, and what goes into and comes out of Kafka."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from agent.app import App
from agent.settings import Settings, load_settings
from crosyslog.store import Store
from tests.fakes import SUPPORT, FakeEncoder, add_tiny_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from crosyslog.encoder import Encoder

#: Long enough for a machine that is busy with other work.
PATIENCE_SECONDS = 90.0


def agent_settings(servers: str, topic: str, folder: Path, **settings: object) -> Settings:
    """Settings of an agent on the tiny model `tiny` in a store below `folder`, made if missing.

    Args:
        servers: of Kafka.
        topic: to read, from its start.
        folder: of the test.
        settings: others, as `part__name=value`.
    """
    store = Store(folder / "store")
    if "tiny" not in store.targets():
        # A bias of 0: whether a line is an anomaly depends on the lines before it.
        add_tiny_model(store, "tiny", system="plain", bias=0.0)
    chosen = {
        "kafka.bootstrap_servers": servers,
        "kafka.topic": topic,
        "kafka.start_from": "earliest",
        "kafka.session_timeout": "3s",
        "model.target": "tiny",
        "model.store": str(store.root),
        "encoder.cache": str(folder / "cache"),
        "batch.linger": "20ms",
        "http.port": "0",
    }
    chosen |= {name.replace("__", "."): str(value) for name, value in settings.items()}
    return load_settings(flags=chosen)


def load_fake(name: str, device: str, precision: str) -> Encoder:
    """In place of `load_encoder`."""
    assert (name, device, precision) == ("fake", "auto", "fp32")
    return FakeEncoder()


@asynccontextmanager
async def running(
    settings: Settings, load: Callable[[str, str, str], Encoder] = load_fake
) -> AsyncIterator[App]:
    """An agent that runs; it is stopped at the end, and must end well."""
    app = App(settings, load)
    task = asyncio.create_task(app.run())
    try:
        await until(lambda: task.done() or app.not_started() is None)
        if task.done():
            task.result()
        yield app
    finally:
        app.stop()
        await asyncio.wait_for(task, 10)


async def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


def scored(app: App) -> int:
    """How many lines the agent has scored and delivered."""
    return int(value(app, "crosyslog_lines_scored_total"))


def all_scored(app: App, lines: int) -> bool:
    """Whether the agent has scored so many lines, or more."""
    return scored(app) >= lines


def letters(count: int) -> list[str]:
    """Texts of letters alone, so that masking leaves them all different."""
    alphabet = "abcdefghij"
    return ["node " + "".join(alphabet[int(digit)] for digit in f"{n:05}") for n in range(count)]


def value(app: App, metric: str, labels: Mapping[str, str] | None = None) -> float:
    """A metric's value; 0 where it was never set."""
    return app.metrics.registry.get_sample_value(metric, dict(labels or {})) or 0.0


async def produce(
    servers: str, topic: str, lines: Sequence[bytes | None], partition: int = 0
) -> None:
    """Sends lines, all to one partition, in order."""
    async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5) as producer:
        sent = [await producer.send(topic, line, key=b"key", partition=partition) for line in lines]
        await asyncio.gather(*sent)


async def published(servers: str, topic: str) -> list[dict[str, Any]]:
    """All events of a topic, as they stand now."""
    return [json.loads(message.value) for message in await messages(servers, topic)]


async def messages(servers: str, topic: str) -> list[Any]:
    """All messages of a topic, as they stand now, partition by partition."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    # A commit is acknowledged before its mark is written: the end is asked for without regard to
    # transactions, and what is before it is waited for.
    whole = AIOKafkaConsumer(bootstrap_servers=servers)
    async with consumer, whole:
        found = []
        for partition in sorted(consumer.assignment()):
            (end,) = (await whole.end_offsets([partition])).values()
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(partition, timeout_ms=500)).values():
                    found.extend(records)
        return found


def some_lines(count: int, seed: int = 0) -> list[bytes]:
    """Lines of a small vocabulary, some of them the support's."""
    draw = random.Random(seed)  # noqa: S311 - the same lines each time, nothing secret
    words = ["disk", "node", "fan", "error", "retry", "link", "reset", "ok", "cache", "parity"]
    known = [text.replace("#", "17") for text in SUPPORT]
    return [
        (draw.choice(known) if draw.random() < 0.1 else " ".join(draw.choices(words, k=4))).encode()
        for _ in range(count)
    ]


async def committed(servers: str, group: str, topic: str, partition: int = 0) -> int | None:
    """The offset that a group has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    async with consumer:
        consumer.assign([TopicPartition(topic, partition)])
        offset: int | None = await consumer.committed(TopicPartition(topic, partition))
        return offset
