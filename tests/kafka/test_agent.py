"""The agent against a real Kafka: what it judges, publishes and commits."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from aiokafka import AIOKafkaProducer

from agent.app import App
from agent.scanning import scan
from crosyslog.errors import BrokerError, BundleCorruptError, CrosyslogError
from crosyslog.events import event_schema
from crosyslog.store import Store
from deploy.local_kafka import create_topics
from tests.fakes import FakeEncoder, add_tiny_model
from tests.kafka.agents import (
    agent_settings,
    all_scored,
    committed,
    letters,
    load_fake,
    messages,
    produce,
    published,
    running,
    scored,
    some_lines,
    until,
    value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy import float32
    from numpy.typing import NDArray

    from tests.conftest import KafkaAddress


async def test_agent_and_scan_give_the_same_events_whatever_the_batches(
    kafka: KafkaAddress, topic: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    lines = some_lines(130)
    await produce(servers, topic, lines)
    log = tmp_path / "machine.log"
    log.write_bytes(b"\n".join(lines))

    scan(str(log), agent_settings(servers, topic, tmp_path), load_fake)
    printed = capfdbinary.readouterr().out.splitlines()
    expected = judgements([json.loads(line) for line in printed])

    assert 10 < len(expected) < 120
    for size in (1, 7, 5_000):
        output = f"{topic}.by-{size}"
        settings = agent_settings(
            servers, topic, tmp_path, batch__max_lines=size,
            kafka__group_id=f"{topic}-{size}", kafka__output_topic=output,
        )  # fmt: skip
        async with running(settings) as app:
            await until(partial(all_scored, app, len(lines)))
        assert scored(app) == len(lines)
        found = judgements(await published(servers, output))
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, abs=1e-3)


async def test_a_restart_in_the_middle_of_a_window_changes_no_score(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    lines = some_lines(190)
    whole = agent_settings(
        servers, topic, tmp_path, kafka__group_id=f"{topic}-whole", kafka__output_topic=topic + ".w"
    )
    halves = agent_settings(servers, topic, tmp_path)

    await produce(servers, topic, lines[:150])
    async with running(halves) as first:
        await until(lambda: scored(first) == 150)
    await produce(servers, topic, lines[150:])
    async with running(halves) as second:
        await until(lambda: scored(second) == 40)
        assert value(second, "crosyslog_lines_received_total") == 40
    async with running(whole) as app:
        await until(lambda: scored(app) == 190)

    expected = judgements(await published(servers, topic + ".w"))
    assert any(int(key.rpartition("/")[2]) >= 150 for key in expected)
    assert judgements(await published(servers, topic + ".anomalies")) == pytest.approx(
        expected, abs=1e-3
    )


async def test_hostile_lines_pass_through_and_events_keep_to_their_schema(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    lines = [
        b"[/red] [bold]kernel[/bold]",
        b"\x1b[2J\x1b]0;title\x07 escape",
        b"<script>alert(1)</script>",
        b"broken \xff\xfe bytes",
        b"a NUL \x00 inside",
        "turned \u202e around".encode(),
        b"",
        b" \t ",
        b"x" * 60_000,
        b'{"json": "line"}',
    ]
    await produce(servers, topic, lines)

    # From a threshold of 0 on, every line is an anomaly.
    async with running(agent_settings(servers, topic, tmp_path, model__threshold=0)) as app:
        await until(lambda: scored(app) == len(lines))

    sent = await messages(servers, f"{topic}.anomalies")
    events = [json.loads(message.value) for message in sent]
    validator = jsonschema.Draft202012Validator(
        event_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for event in events:
        validator.validate(event)
    assert [event["attributes"]["log.record.original"] for event in events] == [
        line.decode("utf-8", "replace") for line in lines
    ]
    assert [event["source"]["offset"] for event in events] == list(range(len(lines)))
    assert {message.key for message in sent} == {b"key"}
    assert all(b"\x1b" not in message.value and b"\x00" not in message.value for message in sent)


async def test_without_a_key_the_host_is_the_key(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    line = b"- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond[2915]: disk failure"
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(topic, line)
    settings = agent_settings(
        servers, topic, tmp_path, model__target="thunderbird", model__threshold=0
    )
    add_tiny_model(Store(Path(settings.model.store)), "thunderbird", system="thunderbird")

    async with running(settings) as app:
        await until(lambda: scored(app) == 1)

    (message,) = await messages(servers, f"{topic}.anomalies")
    assert message.key == b"dn228"
    assert json.loads(message.value)["resource"]["host.name"] == "dn228"


async def test_transactions_leave_gaps_and_aborted_lines_are_not_read(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    async with AIOKafkaProducer(
        bootstrap_servers=servers, transactional_id=topic, retry_backoff_ms=5
    ) as producer:
        for number, end in enumerate(["commit", "abort", "commit"]):
            await producer.begin_transaction()
            for line in some_lines(5, seed=number):
                await producer.send(topic, line, partition=0)
            await getattr(producer, f"{end}_transaction")()

    async with running(agent_settings(servers, topic, tmp_path, model__threshold=0)) as app:
        await until(lambda: scored(app) >= 10)
        # The mark of the last transaction is no line that is behind.
        await until(lambda: lag(app, topic) == 0)

    offsets = [
        event["source"]["offset"] for event in await published(servers, f"{topic}.anomalies")
    ]
    assert offsets == [0, 1, 2, 3, 4, 12, 13, 14, 15, 16]
    assert scored(app) == 10


async def test_two_agents_share_partitions_and_hand_them_over(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 4})
    lines = some_lines(60)
    settings = agent_settings(servers, topic, tmp_path, model__threshold=0)

    async def send(part: slice) -> None:
        for partition in range(4):
            await produce(servers, topic, lines[part], partition)

    await send(slice(0, 20))
    async with running(settings) as first:
        await until(lambda: scored(first) == 80)
        async with running(settings) as second:
            await until(lambda: partitions_of(first) == partitions_of(second) == 2)
            await send(slice(20, 40))
            await until(lambda: scored(first) + scored(second) == 160)
            assert scored(second) == 40
        await until(lambda: partitions_of(first) == 4)
        await send(slice(40, 60))
        # 80 alone, 40 of the 80 that were shared, 80 alone again.
        await until(lambda: scored(first) == 200)
    assert value(first, "crosyslog_rebalances_total") >= 3

    sent = await messages(servers, f"{topic}.anomalies")
    for partition in range(4):
        sources = [
            json.loads(message.value)["source"]
            for message in sent
            if message.partition == partition
        ]
        assert {source["partition"] for source in sources} == {partition}
        assert [source["offset"] for source in sources] == list(range(60))


async def test_a_new_group_starts_at_the_end_and_commits_that_at_once(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    await produce(servers, topic, some_lines(10))
    settings = agent_settings(servers, topic, tmp_path, kafka__start_from="latest")

    async with running(settings):
        assert await committed(servers, f"crosyslog-{topic}", topic) == 10
    # What comes while no agent runs is not new to the group.
    await produce(servers, topic, some_lines(5))
    async with running(settings) as app:
        await until(lambda: scored(app) == 5)


async def test_a_new_group_can_start_at_a_time(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 2})
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        for number in range(10):
            await producer.send_and_wait(
                topic, b"line", partition=0, timestamp_ms=1_700_000_000_000 + number * 1000
            )
    settings = agent_settings(servers, topic, tmp_path, kafka__start_from="2023-11-14T22:13:27Z")

    async with running(settings) as app:
        await until(lambda: scored(app) >= 3)
    assert scored(app) == 3
    # Lines that come to nothing are committed now and then, and at the end.
    assert await committed(servers, f"crosyslog-{topic}", topic) == 10


async def test_a_missing_topic_is_named(kafka: KafkaAddress, topic: str, tmp_path: Path) -> None:
    settings = agent_settings(kafka.bootstrap_servers, topic, tmp_path)

    with pytest.raises(BrokerError, match=f"the topic '{topic}' does not exist"):
        await App(settings, load_fake).run()


async def test_a_corrupted_model_stops_the_start(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    await create_topics(kafka.bootstrap_servers, {topic: 1})
    settings = agent_settings(kafka.bootstrap_servers, topic, tmp_path)
    weights = Path(settings.model.store) / "tiny" / "0001" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")

    with pytest.raises(BundleCorruptError, match=r"weights\.safetensors"):
        await App(settings, load_fake).run()


class BrokenEncoder(FakeEncoder):
    """Fails whatever it is given."""

    def encode(self, texts: Sequence[str]) -> NDArray[float32]:
        raise RuntimeError(f"no memory for {len(texts)} texts")


async def test_an_encoder_that_is_broken_stops_the_agent_and_makes_no_dead_letters(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    settings = agent_settings(servers, topic, tmp_path)
    await produce(servers, topic, some_lines(5))
    async with running(settings) as app:
        await until(lambda: scored(app) == 5)
    await produce(servers, topic, [b"fine by", b"all means"])

    with pytest.raises(CrosyslogError, match=f"no line can be judged.*{topic}/0/"):
        await asyncio.wait_for(App(settings, lambda *_: BrokenEncoder()).run(), 20)

    assert await committed(servers, f"crosyslog-{topic}", topic) == 5
    assert await messages(servers, f"{topic}.dlq") == []


class SlowEncoder(FakeEncoder):
    """Takes a fifth of a second for any piece."""

    def encode(self, texts: Sequence[str]) -> NDArray[float32]:
        time.sleep(0.2)
        return super().encode(texts)


async def test_a_stop_does_not_wait_for_a_cold_batch(
    kafka: KafkaAddress, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.app._DRAIN_SECONDS", 0.5)
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    # 5,000 templates are hundreds of pieces: a minute.
    await produce(servers, topic, [line.encode() for line in letters(5_000)])
    settings = agent_settings(servers, topic, tmp_path, batch__linger="1s")

    async with running(settings, lambda *_: SlowEncoder()) as app:
        await until(lambda: value(app, "crosyslog_lines_received_total") > 0)
        began = asyncio.get_running_loop().time()
        app.stop()
        assert (app.not_ready(), scored(app)) == ("stopping", 0)
    assert asyncio.get_running_loop().time() - began < 5
    assert await committed(servers, f"crosyslog-{topic}", topic) == 0
    # What was encoded before the stop is not lost.
    assert value(app, "crosyslog_embedding_cache_entries") >= 16


async def test_a_line_that_comes_alone_waits_for_half_of_the_linger(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    settings = agent_settings(servers, topic, tmp_path, batch__linger="4s")
    async with running(settings) as app:
        began = asyncio.get_running_loop().time()
        await produce(servers, topic, [b"disk failure"])
        await until(lambda: scored(app) == 1)
        took = asyncio.get_running_loop().time() - began
    assert 1.9 < took < 3.8


async def test_a_busy_partition_does_not_starve_a_quiet_one(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 2})
    await produce(servers, topic, some_lines(3_000), 0)
    await produce(servers, topic, some_lines(20), 1)
    settings = agent_settings(servers, topic, tmp_path, batch__max_lines=100, model__threshold=0)

    async with running(settings) as app:
        await until(lambda: scored(app) == 3_020)

    order = sorted(await messages(servers, f"{topic}.anomalies"), key=lambda m: m.timestamp)
    quiet = max(row for row, message in enumerate(order) if message.partition == 1)
    assert quiet < 600


def judgements(events: list[dict[str, Any]]) -> dict[str, float]:
    """Scores by place in the log; every place must be there once."""
    scores = {
        "{partition}/{offset}".format(**event["source"]): event["anomaly"]["score"]
        for event in events
    }
    assert len(scores) == len(events)
    return scores


def partitions_of(app: App) -> int:
    """How many partitions an agent has."""
    assignment = app._fetching.assignment if app._fetching is not None else None
    return len(assignment.partitions) if assignment is not None and assignment.active else 0


def lag(app: App, topic: str) -> float | None:
    """The lag of the topic's first partition; none where it was not measured yet."""
    return app.metrics.registry.get_sample_value(
        "crosyslog_consumer_lag_lines", {"topic": topic, "partition": "0"}
    )
