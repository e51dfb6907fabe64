"""Messages that a topic does not take as they are: nothing stops, and what is missing is said."""

from __future__ import annotations

import base64
import json
import random
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agent.app import App
from agent.replaying import Replay, replay
from crosyslog.errors import BrokerError
from tests.kafka.agents import (
    agent_settings,
    committed,
    load_fake,
    messages,
    produce,
    running,
    scored,
    some_lines,
    until,
    value,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import KafkaAddress

_GUARANTEES = pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])


async def create(servers: str, limits: dict[str, int | None], partitions: int = 1) -> None:
    """Makes topics, each with the size of the largest message that it takes."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    new = [
        NewTopic(name, partitions, 1, topic_configs={"max.message.bytes": limit} if limit else {})
        for name, limit in limits.items()
    ]
    await admin.create_topics(new)
    await admin.close()


def noise(size: int, seed: int = 0) -> bytes:
    """A line that hardly gets smaller when it is compressed."""
    drawn = random.Random(seed).randbytes(size)  # noqa: S311 - the same each time, nothing secret
    return base64.b64encode(drawn)[:size]


@_GUARANTEES
async def test_the_texts_of_an_event_that_is_too_large_are_cut(
    kafka: KafkaAddress, topic: str, tmp_path: Path, guarantee: str
) -> None:
    servers = kafka.bootstrap_servers
    await create(servers, {topic: None, f"{topic}.anomalies": 20_000})
    lines = [b"first", noise(60_000), b"last"]
    await produce(servers, topic, lines)
    settings = agent_settings(
        servers, topic, tmp_path, model__threshold=0, delivery__guarantee=guarantee
    )
    async with running(settings) as app:
        await until(lambda: scored(app) == len(lines))
        assert value(app, "crosyslog_ready") == 1

    events = [json.loads(one.value) for one in await messages(servers, f"{topic}.anomalies")]
    once = {event["source"]["offset"]: event for event in events}
    assert list(once) == [0, 1, 2]
    assert len(events) == 3 or guarantee == "at-least-once"
    assert [once[offset]["body"] for offset in once] == ["first", lines[1][:1_024].decode(), "last"]
    assert [once[offset]["attributes"].get("crosyslog.truncated") for offset in once] == [
        None,
        "true",
        None,
    ]
    assert await committed(servers, f"crosyslog-{topic}", topic) == 3


@_GUARANTEES
async def test_a_dead_letter_that_is_too_large_comes_without_its_value_and_stays(
    kafka: KafkaAddress, topic: str, tmp_path: Path, guarantee: str
) -> None:
    servers = kafka.bootstrap_servers
    await create(servers, {topic: None, f"{topic}.dlq": 20_000})
    lines = [b"too long to be judged", noise(60_000), b"too long again"]
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for line in lines:
            await producer.send_and_wait(topic, line, key=b"key", headers=[("trace", b"7")])
    settings = agent_settings(
        servers, topic, tmp_path, batch__max_line_bytes=10, delivery__guarantee=guarantee
    )

    async with running(settings) as app:
        await until(
            lambda: value(app, "crosyslog_dead_letters_total", {"reason": "oversized"}) == 3
        )

    letters = await messages(servers, f"{topic}.dlq")
    once = {dict(one.headers)["crosyslog.offset"]: one for one in letters}
    assert [one.value for one in once.values()] == [lines[0], None, lines[2]]
    assert len(letters) == 3 or guarantee == "at-least-once"
    headers = dict(once[b"1"].headers)
    assert headers["crosyslog.reason"] == b"oversized"
    assert headers["crosyslog.value-left-out"] == b"60000"
    assert headers["crosyslog.headers-left-out"] == b"1"
    assert once[b"1"].key == b"key"
    if guarantee == "exactly-once":
        # What is not there cannot go back; it is still in the topic, at the offset that is said.
        back = await replay(settings.kafka, "oversized", most_replays=1, dry_run=False)
        assert back == Replay(sent=2, looping=0, incomplete=1)


async def test_a_topic_that_takes_small_batches_alone_gets_every_event_whole(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create(servers, {topic: None, f"{topic}.anomalies": 4_000})
    lines = [noise(600, seed) for seed in range(40)]
    await produce(servers, topic, lines)
    refused = {"stage": "publish", "error_type": "TooLargeError"}
    async with running(agent_settings(servers, topic, tmp_path, model__threshold=0)) as app:
        await until(lambda: scored(app) == len(lines))
        learned = value(app, "crosyslog_errors_total", refused)
        # It is not learned anew each time.
        await produce(servers, topic, lines)
        await until(lambda: scored(app) == 2 * len(lines))
        assert 0 < learned == value(app, "crosyslog_errors_total", refused)
    events = [json.loads(one.value) for one in await messages(servers, f"{topic}.anomalies")]
    assert [event["body"].encode() for event in events] == [*lines, *lines]


async def test_a_topic_of_dead_letters_is_made_for_the_largest_lines(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create(servers, {topic: 3_000_000})
    line = noise(2_900_000)
    async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=4_000_000) as producer:
        await producer.send_and_wait(topic, line, headers=[("trace", b"7" * 30_000)])
    async with running(agent_settings(servers, topic, tmp_path)) as app:
        await until(
            lambda: value(app, "crosyslog_dead_letters_total", {"reason": "oversized"}) == 1
        )
    (letter,) = await messages(servers, f"{topic}.dlq")
    assert letter.value == line
    assert dict(letter.headers)["trace"] == b"7" * 30_000


async def test_topics_are_made_where_lines_may_be_of_any_size(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create(servers, {topic: 2**31 - 1})
    await produce(servers, topic, [b"a line"])
    async with running(agent_settings(servers, topic, tmp_path, model__threshold=0)) as app:
        await until(lambda: scored(app) == 1)
    assert len(await messages(servers, f"{topic}.anomalies")) == 1


async def test_letters_go_back_in_batches_that_their_topic_takes_and_what_is_too_large_stays(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create(servers, {topic: 100_000})
    lines = [noise(60_000, seed) for seed in range(5)]
    # With one more header, this one is too large for where it came from.
    await produce(servers, topic, [*lines, noise(99_910, 9)])
    settings = agent_settings(servers, topic, tmp_path, batch__max_line_bytes=10)
    async with running(settings) as app:
        await until(
            lambda: value(app, "crosyslog_dead_letters_total", {"reason": "oversized"}) == 6
        )
    back = await replay(settings.kafka, "oversized", most_replays=3, dry_run=False)
    assert back == Replay(sent=5, looping=0, incomplete=1)
    assert [one.value for one in await messages(servers, topic)][6:] == lines
    assert await replay(settings.kafka, "oversized", most_replays=3, dry_run=False) == Replay(0, 0)


async def test_an_event_that_stays_too_large_stops_the_agent_and_is_named(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create(servers, {topic: None, f"{topic}.anomalies": 500})
    await produce(servers, topic, [noise(60_000)])
    with pytest.raises(BrokerError, match=rf"{topic}/0/0 of \d+ bytes is too large.*max\.message"):
        await App(agent_settings(servers, topic, tmp_path, model__threshold=0), load_fake).run()
    assert await committed(servers, f"crosyslog-{topic}", topic) == 0


@_GUARANTEES
async def test_a_topic_of_events_that_is_made_anew_with_fewer_partitions_is_written_to(
    kafka: KafkaAddress,
    topic: str,
    tmp_path: Path,
    guarantee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.publishing._SILENCE_SECONDS", 3.0)
    servers = kafka.bootstrap_servers
    output = f"{topic}.anomalies"
    await create(servers, {topic: None, output: None}, partitions=3)
    first, later = some_lines(20), some_lines(20, seed=1)
    settings = agent_settings(
        servers, topic, tmp_path, model__threshold=0, delivery__guarantee=guarantee
    )
    async with running(settings) as app:
        await produce(servers, topic, first, partition=2)
        await until(lambda: scored(app) == len(first))
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        await admin.delete_topics([output])
        await create(servers, {output: None}, partitions=1)
        await admin.close()
        await produce(servers, topic, later, partition=2)
        await until(lambda: scored(app) >= len(first) + len(later))
    events = [json.loads(one.value) for one in await messages(servers, output)]
    offsets = [event["source"]["offset"] for event in events]
    assert sorted(set(offsets)) == list(range(len(first), len(first) + len(later)))
    assert len(offsets) == len(later) or guarantee == "at-least-once"
