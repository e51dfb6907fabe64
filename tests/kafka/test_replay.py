"""Dead letters back to their topic: once, by reason, and not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from agent.dead_letters import REPLAYS
from agent.replaying import Replay, replay
from crosyslog.errors import BrokerError
from deploy.local_kafka import create_topics
from tests.kafka.agents import agent_settings, messages, running, until, value

if TYPE_CHECKING:
    from pathlib import Path

    from agent.settings import Settings
    from tests.conftest import KafkaAddress


async def send(servers: str, topic: str, value: bytes | None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(
            topic, value, key=b"key", partition=1, headers=[("trace", b"7")]
        )


async def dead_lettered(settings: Settings, count: int) -> None:
    """Runs an agent until it has made so many dead letters."""
    async with running(settings) as app:
        await until(
            lambda: (
                sum(
                    value(app, "crosyslog_dead_letters_total", {"reason": reason})
                    for reason in ("null", "oversized")
                )
                >= count
            )
        )


async def test_letters_go_back_once_by_reason_and_not_for_ever(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 2})
    settings = agent_settings(servers, topic, tmp_path, batch__max_line_bytes=10)
    for line in (b"too long to be judged", None, b"too long again"):
        await send(servers, topic, line)
    await dead_lettered(settings, 3)

    async def back(reason: Any, *, dry_run: bool = False) -> Replay:  # noqa: ANN401 - a reason
        return await replay(settings.kafka, reason, most_replays=2, dry_run=dry_run)

    assert await back("oversized", dry_run=True) == Replay(2, 0)
    assert await back("oversized") == Replay(2, 0)
    assert await back("oversized") == Replay(0, 0)
    assert await back("scoring") == Replay(0, 0)
    # The other reason waits for its own turn.
    assert await back("null") == Replay(1, 0)
    sent = (await messages(servers, topic))[3:]
    assert [message.value for message in sent] == [
        b"too long to be judged",
        b"too long again",
        None,
    ]
    assert {(message.partition, message.key) for message in sent} == {(1, b"key")}
    assert [dict(message.headers) for message in sent] == [{"trace": b"7", REPLAYS: b"1"}] * 3

    await dead_lettered(settings, 3)
    assert await back("oversized") == Replay(2, 0)
    await dead_lettered(settings, 2)
    assert await back("oversized") == Replay(0, 2)
    assert len(await messages(servers, topic)) == 8


async def test_letters_that_come_meanwhile_are_for_the_next_time(
    kafka: KafkaAddress, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 2})
    settings = agent_settings(servers, topic, tmp_path, batch__max_line_bytes=10)
    for _ in range(5):
        await send(servers, topic, b"too long to be judged")
    await dead_lettered(settings, 5)

    async def earlier(_consumer: object, places: Any) -> dict[Any, int]:  # noqa: ANN401 - of the client
        # As they were when two of the letters were there.
        return {place: 2 if place.partition == 1 else 0 for place in places}

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaConsumer, "end_offsets", earlier)
        assert await replay(settings.kafka, "oversized", most_replays=2, dry_run=False) == Replay(
            2, 0
        )
    assert await replay(settings.kafka, "oversized", most_replays=2, dry_run=False) == Replay(3, 0)


async def test_a_longer_limit_lets_them_be_judged(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 2})
    await send(servers, topic, b"too long to be judged")
    await dead_lettered(agent_settings(servers, topic, tmp_path, batch__max_line_bytes=10), 1)
    settings = agent_settings(servers, topic, tmp_path, model__threshold=0)
    await replay(settings.kafka, "oversized", most_replays=1, dry_run=False)
    async with running(settings) as app:
        await until(lambda: value(app, "crosyslog_anomalies_total") == 1)


async def test_without_dead_letters_it_says_so(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    settings = agent_settings(kafka.bootstrap_servers, topic, tmp_path)
    with pytest.raises(BrokerError, match=rf"'{topic}.dlq' does not exist"):
        await replay(settings.kafka, "null", most_replays=1, dry_run=True)


async def test_a_broker_that_is_away_is_one_line(topic: str, tmp_path: Path) -> None:
    settings = agent_settings("127.0.0.1:1", topic, tmp_path)
    with pytest.raises(BrokerError, match=r"cannot replay .*crosyslog-agent check"):
        await replay(settings.kafka, "null", most_replays=1, dry_run=True)
