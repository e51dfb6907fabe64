"""Connections that break around the commit of a transaction: nothing is lost, nothing twice."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from deploy.local_kafka import LocalKafka, create_topics
from tests.kafka.agents import (
    agent_settings,
    all_scored,
    committed,
    produce,
    published,
    running,
    scored,
    some_lines,
    until,
    value,
)
from tests.kafka.test_large_messages import noise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

#: What a client asks for when it ends a transaction.
_END_TXN = 26


class Proxy:
    """Passes bytes between clients and the broker, and cuts connections when it is told to.

    Attributes:
        cut: `before` the next end of a transaction reaches the broker, `during`, when the broker
            has it and the client has no answer, or `after` the answer.
        cuts: how many there were.
        bytes_a_second: how much each client may send; as much as it likes if none.
    """

    def __init__(self, broker: int) -> None:
        self.cut: str | None = None
        self.cuts = 0
        self.bytes_a_second: float | None = None
        self._broker = broker

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker)
        except OSError:
            to_client.close()
            return
        answers = asyncio.create_task(self._pass(broker, to_client))
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    head = await client.readexactly(4)
                    body = await client.readexactly(struct.unpack(">i", head)[0])
                    (kind,) = struct.unpack_from(">h", body)
                    how = self.cut if kind == _END_TXN else None
                    if how is not None:
                        self.cut = None
                        self.cuts += 1
                    if how == "before":
                        return
                    if how == "during":
                        answers.cancel()
                    if self.bytes_a_second is not None:
                        await asyncio.sleep(len(body) / self.bytes_a_second)
                    to_broker.write(head + body)
                    await to_broker.drain()
                    if how is not None:
                        await asyncio.sleep(0.2)
                        return
        finally:
            answers.cancel()
            for writer in (to_client, to_broker):
                writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
def port() -> int:
    """A free one, for the proxy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def hidden_kafka(java_and_maven: None, port: int) -> Iterator[LocalKafka]:  # noqa: ARG001 - it skips or fails
    with LocalKafka(behind=port) as broker:
        yield broker


@asynccontextmanager
async def proxy_before(broker: LocalKafka, port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(int(broker.bootstrap_servers.rpartition(":")[2]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()


async def test_a_connection_that_breaks_around_a_commit_changes_nothing(
    hidden_kafka: LocalKafka, port: int, topic: str, tmp_path: Path
) -> None:
    servers = f"127.0.0.1:{port}"
    async with proxy_before(hidden_kafka, port) as proxy:
        await create_topics(servers, {topic: 1})
        settings = agent_settings(servers, topic, tmp_path, model__threshold=0)
        async with running(settings) as app:
            for number, how in enumerate(("before", "during", "after"), start=1):
                proxy.cut = how
                await produce(servers, topic, some_lines(20, seed=number))
                lines = 20 * number
                await until(partial(all_scored, app, lines))
                assert scored(app) == lines
                assert proxy.cuts == number
        events = await published(servers, f"{topic}.anomalies")
        assert [event["source"]["offset"] for event in events] == list(range(60))
        assert await committed(servers, f"crosyslog-{topic}", topic) == 60


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
async def test_a_storm_over_a_slow_line_is_delivered_piece_by_piece(
    hidden_kafka: LocalKafka,
    port: int,
    topic: str,
    tmp_path: Path,
    guarantee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it takes many times as long as one transaction may."""
    monkeypatch.setattr("agent.exactly_once._SEND_SECONDS", 1.5)
    monkeypatch.setattr("agent.exactly_once._MOST_BYTES", 512 * 1024)
    monkeypatch.setattr("agent.publishing._SILENCE_SECONDS", 5.0)
    servers = f"127.0.0.1:{port}"
    async with proxy_before(hidden_kafka, port) as proxy:
        await create_topics(servers, {topic: 1})
        lines = [noise(600, seed) for seed in range(300)]
        await produce(servers, topic, lines)
        settings = agent_settings(
            servers, topic, tmp_path, model__threshold=0, delivery__guarantee=guarantee
        )
        proxy.bytes_a_second = 50_000
        async with running(settings) as app:
            await until(partial(all_scored, app, len(lines)))
            aborted = value(app, "crosyslog_transactions_total", {"result": "aborted"})
        proxy.bytes_a_second = None
        events = await published(servers, f"{topic}.anomalies")
    assert [event["source"]["offset"] for event in events] == list(range(len(lines)))
    assert (aborted > 0) == (guarantee == "exactly-once")
