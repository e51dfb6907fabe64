"""What a chaos run is made of: a broker, models, agents as processes, and the faults."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from crosyslog.store import Store
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder, add_tiny_model
from tests.kafka.chaos.lines import MAX_LINE_BYTES, numbered_lines
from tests.trainer.evidenced import PARTS, RIGHT, WRONG, evidence_base

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.local_kafka import LocalKafka

TOPIC, TARGET = "chaos-logs", "chaos"
PARTITIONS = 4
GROUP = f"crosyslog-{TOPIC}"

#: A stopped agent is out of the group after this long.
_SESSION_SECONDS = 3.0

PROGRAM = Path(__file__).with_name("program.py")

#: More agents than this are not of interest: there are four partitions.
_MOST_AGENTS = 5


class Plan(NamedTuple):
    """How much happens.

    Attributes:
        lines: of the input.
        poison: the share of them that cannot be judged.
        kills: of agents, by SIGKILL.
        stops: of agents, by SIGSTOP, for longer than the session.
        joins: agents that come and go in order.
        broker_kills: of the broker, by SIGKILL, each followed by a restart.
        swaps: new versions of the model, with the same weights.
        pause: seconds between two faults.
        seed: of lines and faults.
    """

    lines: int
    poison: float = 0.001
    kills: int = 20
    stops: int = 4
    joins: int = 10
    broker_kills: int = 3
    swaps: int = 3
    pause: float = 4.0
    seed: int = 0

    @property
    def faults(self) -> list[str]:
        """In the order in which they come."""
        counts = {
            "kill": self.kills,
            "stop": self.stops,
            "join": (self.joins + 1) // 2,
            "leave": self.joins // 2,
            "broker": self.broker_kills,
            "swap": self.swaps,
        }
        found = [kind for kind, count in counts.items() for _ in range(count)]
        random.Random(self.seed).shuffle(found)  # noqa: S311 - the same order each time
        return found


class World:
    """One run."""

    def __init__(self, folder: Path, kafka: LocalKafka, plan: Plan, detector: str) -> None:
        self.folder, self.kafka, self.plan = folder, kafka, plan
        self.store = Store(folder / "models")
        self.faults: list[dict[str, Any]] = []
        self._detector = detector
        self._agents: list[asyncio.subprocess.Process] = []
        self._draw = random.Random(plan.seed + 1)  # noqa: S311 - nothing secret
        self._began = time.monotonic()
        self._sending = asyncio.Event()
        self._log = (folder / "agents.log").open("ab")

    def add_model(self) -> None:
        """Another version of the model, with the same weights."""
        if self._detector == "maml_lstm":
            # A bias of 0: whether a line is an anomaly depends on the lines before it.
            add_tiny_model(self.store, TARGET, system="json", bias=0.0)
            return
        import polars as pl

        from crosyslog.bundle import write_bundle
        from crosyslog.embedding_cache import EmbeddingCache
        from trainer.adaptation import adapt

        words = [(part, state) for part in PARTS for state in (*RIGHT, *WRONG)]
        support = pl.DataFrame(
            {
                "text": [f"{part} {state} by nodea" for part, state in words],
                "label": [state in WRONG for _, state in words],
            }
        )
        bundle = adapt(
            evidence_base("one", "two", "three"),
            support,
            system=load_system("json"),
            target=TARGET,
            encoder=FakeEncoder(),
            cache=EmbeddingCache(),
        )

        def write(folder: Path, version: str) -> None:
            manifest = bundle.manifest.model_copy(update={"version": version})
            write_bundle(folder, manifest, bundle.detector, bundle.support)

        self.store.add(TARGET, write)

    def settings(self) -> list[str]:
        """Those that agents and `scan` share, as words of the command line."""
        chosen = {
            "model.store": self.store.root,
            "model.target": TARGET,
            "encoder.cache": self.folder / "cache",
            "batch.max_line_bytes": MAX_LINE_BYTES,
        }
        return [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]

    async def start_agent(self) -> asyncio.subprocess.Process:
        """One more agent."""
        chosen = {
            "kafka.bootstrap_servers": self.kafka.bootstrap_servers,
            "kafka.topic": TOPIC,
            "kafka.start_from": "earliest",
            "kafka.session_timeout": f"{_SESSION_SECONDS}s",
            "batch.max_lines": 500,
            "model.reload_interval": "1s",
            "http.port": 0,
        }
        words = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), *self.settings(), *words,
            stderr=self._log, stdout=self._log, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._agents.append(process)
        return process

    async def send(self) -> None:
        """Sends the lines, spread over the time that the faults take; in order, each once."""
        plan = self.plan
        seconds = max(1.0, len(plan.faults) * plan.pause)
        producer = AIOKafkaProducer(
            bootstrap_servers=self.kafka.bootstrap_servers, enable_idempotence=True, linger_ms=5
        )
        async with producer:
            self._sending.set()
            began, sent = time.monotonic(), []
            for number, line in enumerate(numbered_lines(plan.lines, plan.seed, plan.poison)):
                ahead = number / plan.lines * seconds - (time.monotonic() - began)
                if ahead > 0.02:
                    await asyncio.sleep(ahead)
                headers = [("poison", line.reason.encode())] if line.reason else []
                sent.append(
                    await producer.send(
                        TOPIC, line.value, key=str(number).encode(),
                        partition=number % PARTITIONS, headers=headers,
                    )
                )  # fmt: skip
            await asyncio.gather(*sent)

    async def disturb(self) -> None:
        """All faults, one after another."""
        acts: dict[str, Callable[[], Any]] = {
            "kill": self._kill, "stop": self._stop, "join": self._join, "leave": self._leave,
            "broker": self._bounce, "swap": self._swap,
        }  # fmt: skip
        await self._sending.wait()
        for kind in self.plan.faults:
            began = time.monotonic()
            self.faults.append({"at": round(began - self._began, 3), "fault": kind})
            await acts[kind]()
            await asyncio.sleep(max(0.0, self.plan.pause - (time.monotonic() - began)))

    async def caught_up(self, seconds: float) -> bool:
        """Whether the group comes to the end of every partition in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(KafkaError):
                if await self._lag() == 0:
                    return True
            self._agents = [one for one in self._agents if one.returncode is None]
            if not self._agents:
                await self.start_agent()
            await asyncio.sleep(1)
        return False

    async def end(self) -> list[int]:
        """Stops all agents in order; the exit statuses of those that ran."""
        running = [one for one in self._agents if one.returncode is None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        statuses = await asyncio.gather(*(one.wait() for one in running))
        self._log.close()
        return [int(status) for status in statuses]

    def kill_all(self) -> None:
        """Leaves no process behind."""
        for process in self._agents:
            with suppress(ProcessLookupError):
                process.kill()

    async def _one(self) -> asyncio.subprocess.Process:
        """An agent that runs; one that ended by itself is replaced, as a supervisor would."""
        self._agents = [one for one in self._agents if one.returncode is None]
        if not self._agents:
            await self.start_agent()
        return self._draw.choice(self._agents)

    async def _kill(self) -> None:
        victim = await self._one()
        victim.kill()
        await victim.wait()
        await asyncio.sleep(self._draw.random())
        await self.start_agent()

    async def _stop(self) -> None:
        victim = await self._one()
        victim.send_signal(signal.SIGSTOP)
        if len(self._agents) == 1:
            await self.start_agent()
        await asyncio.sleep(_SESSION_SECONDS + 2)
        with suppress(ProcessLookupError):
            victim.send_signal(signal.SIGCONT)

    async def _join(self) -> None:
        if len(self._agents) < _MOST_AGENTS:
            await self.start_agent()

    async def _leave(self) -> None:
        if len(self._agents) == 1:
            await self.start_agent()
        (await self._one()).terminate()

    async def _bounce(self) -> None:
        self.kafka.kill()
        await asyncio.sleep(self._draw.random() * 2)
        await asyncio.to_thread(self.kafka.restart)

    async def _swap(self) -> None:
        await asyncio.to_thread(self.add_model)

    async def _lag(self) -> int:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap_servers,
            group_id=GROUP,
            enable_auto_commit=False,
        )
        async with consumer:
            places = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            committed = [await consumer.committed(place) or 0 for place in places]
            return sum(ends[place] - at for place, at in zip(places, committed, strict=True))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as JSON, a line each."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
