"""The command itself, as a process: what signals do to it, and a broker that goes and comes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from crosyslog.encoder import load_encoder
from crosyslog.store import Store
from deploy.local_kafka import create_topics
from tests.fakes import add_tiny_model
from tests.kafka.agents import (
    agent_settings,
    committed,
    letters,
    messages,
    produce,
    published,
    running,
    scored,
    some_lines,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from deploy.local_kafka import LocalKafka
    from tests.conftest import KafkaAddress

COMMAND = Path(sys.executable).with_name("crosyslog-agent")


class AgentProcess:
    """A `crosyslog-agent` that runs, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = ""
        self.address = ""
        self._reading = asyncio.create_task(self._read())

    async def ready(self) -> None:
        """Waits until the agent is ready; fails with what it said if it ends instead."""
        async with asyncio.timeout(60):
            while not (self.address and (await self.get("/readyz"))[0] == 200):
                assert self.process.returncode is None, self.log
                await asyncio.sleep(0.1)

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        status = await asyncio.wait_for(self.process.wait(), 15)
        await self._reading
        return status

    async def get(self, path: str) -> tuple[int, str]:
        """The status and body of an answer."""

        def ask() -> tuple[int, str]:
            try:
                with urlopen(self.address + path, timeout=5) as answer:  # noqa: S310 - http, ours
                    return answer.status, answer.read().decode()
            except HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(ask)

    async def scored(self, lines: int) -> None:
        """Waits until so many lines are scored and delivered."""
        await self.counted("scored", lines)

    async def received(self, lines: int) -> None:
        """Waits until so many lines are read; returns in the middle of the work."""
        async with asyncio.timeout(60):
            while not self.address:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        await self.counted("received", lines)

    async def counted(self, what: str, lines: int) -> None:
        """Waits until a count of lines is so high."""
        count = re.compile(rf"^crosyslog_lines_{what}_total (\S+)", re.MULTILINE)
        await self.until(
            lambda metrics: (
                (found := count.search(metrics)) is not None and float(found[1]) >= lines
            )
        )

    async def caught_up(self, topic: str) -> None:
        """Waits until all lines of the topic's first partition are scored and delivered."""
        lag = f'crosyslog_consumer_lag_lines{{partition="0",topic="{topic}"}} 0.0\n'
        await self.until(lambda metrics: lag in metrics)

    async def until(self, holds: Callable[[str], bool]) -> None:
        """Waits until something holds of the metrics."""
        async with asyncio.timeout(60):
            while not holds((await self.get("/metrics"))[1]):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log += line.decode()
            if found := re.search(r"health at (http://\S+)", line.decode()):
                self.address = found[1]


@asynccontextmanager
async def agent(
    topic: str, servers: str, folder: Path, *settings: str
) -> AsyncIterator[AgentProcess]:
    """The command on a tiny model of the shipped encoder; killed at the end if it still runs."""
    store = Store(folder / "store")
    if "tiny" not in store.targets():
        encoder = await asyncio.to_thread(load_encoder)
        add_tiny_model(store, "tiny", encoder=encoder, system="plain", bias=0.0)
    chosen = ["http.port=0", "kafka.start_from=earliest", "kafka.session_timeout=3s", *settings]
    process = await asyncio.create_subprocess_exec(
        COMMAND, "--topic", topic, "--model", "tiny", "--bootstrap-servers", servers,
        *(word for setting in chosen for word in ("--set", setting)),
        env=os.environ
        | {
            "CROSYSLOG_MODEL__STORE": str(store.root),
            "CROSYSLOG_ENCODER__CACHE": str(folder / "cache"),
        },
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    running_process = AgentProcess(process)
    try:
        yield running_process
    finally:
        if process.returncode is None:
            process.kill()
        await running_process.ended()


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
async def test_a_kill_loses_no_line_and_a_term_drains(
    kafka: KafkaAddress, topic: str, tmp_path: Path, guarantee: str
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    # Few templates, since a CPU encodes them slowly; the kill comes in the middle of a window.
    lines = some_lines(12) * 40
    options = (
        topic,
        servers,
        tmp_path,
        "batch.max_lines=15",
        "model.threshold=0",
        f"delivery.guarantee={guarantee}",
    )

    await produce(servers, topic, lines)
    async with agent(*options) as killed:
        await killed.ready()
        await killed.scored(130)
        killed.process.kill()
        assert await killed.ended() == -signal.SIGKILL

    async with agent(*options) as drained:
        await drained.ready()
        assert (await drained.get("/livez"))[0] == 200
        assert (await drained.get("/startupz"))[0] == 200
        assert (
            'crosyslog_model_info{adapted="true",target="tiny",version="0001"} 1.0'
            in (await drained.get("/metrics"))[1]
        )
        await drained.caught_up(topic)
        began = asyncio.get_running_loop().time()
        drained.process.terminate()
        assert await drained.ended() == 0
        assert asyncio.get_running_loop().time() - began < 10
    assert "stopped" in drained.log

    events = await published(servers, f"{topic}.anomalies")
    found = [event["source"]["offset"] for event in events]
    if guarantee == "exactly-once":
        assert found == list(range(len(lines)))
        return
    scores: dict[int, set[float]] = {}
    for event in events:
        scores.setdefault(event["source"]["offset"], set()).add(event["anomaly"]["score"])
    assert scores.keys() == set(range(len(lines)))
    # What was published twice was judged alike.
    assert all(max(found) - min(found) < 1e-3 for found in scores.values())


@pytest.mark.parametrize("moment", [0.0, 1.0, 2.5])
async def test_a_term_while_the_agent_starts_ends_it_cleanly(
    kafka: KafkaAddress, topic: str, tmp_path: Path, moment: float
) -> None:
    await create_topics(kafka.bootstrap_servers, {topic: 1})
    async with agent(topic, kafka.bootstrap_servers, tmp_path) as starting:
        while not starting.address:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
        await asyncio.sleep(moment)
        began = asyncio.get_running_loop().time()
        starting.process.terminate()
        assert await starting.ended() == 0
        assert asyncio.get_running_loop().time() - began < 10
    assert "Traceback" not in starting.log


async def test_a_term_ends_an_agent_whose_broker_is_gone(
    own_kafka: LocalKafka, topic: str, tmp_path: Path
) -> None:
    servers = own_kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    async with agent(topic, servers, tmp_path, "model.threshold=0") as left:
        await left.ready()
        await produce(servers, topic, some_lines(4) * 200)
        await left.scored(1)
        own_kafka.kill()
        await asyncio.sleep(2)
        began = asyncio.get_running_loop().time()
        left.process.terminate()
        assert await left.ended() == 0
        assert asyncio.get_running_loop().time() - began < 10
    assert "Traceback" not in left.log


async def test_a_broker_that_goes_and_comes_back_is_waited_for(
    own_kafka: LocalKafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.fetching._SILENCE_SECONDS", 1.0)
    servers = own_kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    await produce(servers, topic, some_lines(100))
    settings = agent_settings(servers, topic, tmp_path, model__threshold=0)

    async with running(settings) as app:
        await until(lambda: scored(app) == 100)
        await until(lambda: app.not_ready() is None)
        own_kafka.kill()
        await until(lambda: app.not_ready() is not None)
        await asyncio.to_thread(own_kafka.restart)
        await produce(servers, topic, some_lines(50))
        await until(lambda: scored(app) >= 150 and app.not_ready() is None)

    offsets = [message.offset for message in await messages(servers, f"{topic}.anomalies")]
    assert len(offsets) >= 150


async def test_a_term_under_full_load_loses_nothing(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 4})
    lines = [b"disk failure" if number % 50 == 0 else b"heartbeat ok" for number in range(60_000)]
    for partition in range(4):
        await produce(servers, topic, lines, partition)
    # In small batches: under full load, a fast machine delivers all of this at once.
    async with agent(topic, servers, tmp_path, "batch.max_lines=2000") as loaded:
        await loaded.received(20_000)
        began = asyncio.get_running_loop().time()
        loaded.process.terminate()
        assert await loaded.ended() == 0
        assert asyncio.get_running_loop().time() - began < 10
    done = sum([await committed(servers, f"crosyslog-{topic}", topic, n) or 0 for n in range(4)])
    assert 20_000 <= done < 4 * len(lines), "the load was over before the signal came"
    async with agent(topic, servers, tmp_path) as heir:
        await heir.ready()
        await heir.scored(4 * len(lines) - done)
    found = [
        (event["source"]["partition"], event["source"]["offset"])
        for event in await published(servers, f"{topic}.anomalies")
    ]
    assert found == [(partition, row) for partition in range(4) for row in range(0, 60_000, 50)]


async def test_a_term_in_the_middle_of_a_cold_batch_loses_nothing(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    """Twenty thousand templates that nobody has seen: the encoder needs half a minute."""
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    await produce(servers, topic, [line.encode() for line in letters(20_000)])
    async with agent(topic, servers, tmp_path, "batch.linger=2s") as cold:
        await cold.ready()
        received = "crosyslog_lines_received_total 20000.0"
        await cold.until(lambda metrics: received in metrics)
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        cold.process.terminate()
        assert await cold.ended() == 0
        assert asyncio.get_running_loop().time() - began < 10
    assert "Traceback" not in cold.log
    assert await committed(servers, f"crosyslog-{topic}", topic) == 0
