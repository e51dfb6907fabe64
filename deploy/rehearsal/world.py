"""What a rehearsal runs and provokes.

A real Kafka, a model adapted to a simulated log, two agents, and a real Prometheus that scrapes
them each second under rules whose windows are seconds. Then lines flow, another agent joins, alerts
come in a storm, lines cannot be judged, a new version of the model is taken over and a broken one
refused, an agent is killed, the broker goes away and comes back.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING

from crosyslog.errors import CrosyslogError
from crosyslog.store import Store
from deploy.demo.processes import run_command, running_agent
from deploy.local_kafka import LocalKafka, create_topics
from deploy.prometheus.local_prometheus import LocalPrometheus
from deploy.prometheus.rules import build
from deploy.rehearsal.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy.demo.processes import Agent
    from deploy.prometheus.timing import Timing

TOPIC, TARGET, PARTITIONS = "spirit-logs", "spirit", 4

#: Lines of the simulated log, the first of which are the support.
_LINES, _SUPPORT = 40_000, 1_000

#: Lines a second, in peace and in a storm.
_RATE, _STORM = 400.0, 1_500.0

#: How long an alert is waited for, beyond its own windows.
_PATIENCE_SECONDS = 60.0

_POISON = 60


@dataclass
class Seen:
    """What was seen in a rehearsal.

    Attributes:
        began: Unix seconds of the first line.
        ended: Unix seconds of the last.
        happenings: what was provoked, by Unix seconds.
        fired: alerts that were seen to fire and to clear again, with how long each took, in
            seconds from what provoked it.
    """

    began: float = 0.0
    ended: float = 0.0
    happenings: list[tuple[float, str]] = field(default_factory=list)
    fired: dict[str, tuple[float, float]] = field(default_factory=dict)

    def note(self, what: str) -> None:
        """Something is provoked now."""
        self.happenings.append((time(), what))


class Rehearsal:
    """All of it, from the first process to the last.

    Attributes:
        prometheus: answers queries while the rehearsal runs.
        seen: what was seen.
    """

    def __init__(
        self, folder: Path, timing: Timing, ports: tuple[int, int], say: Callable[[str], None]
    ) -> None:
        """Prepares it.

        Args:
            folder: for logs, models and caches; it exists.
            timing: windows of the rules, in seconds rather than minutes.
            ports: free ones, of the agents' metrics.
            say: is told what happens.
        """
        self.seen = Seen()
        self.prometheus: LocalPrometheus
        self._folder = folder
        self._timing = timing
        self._ports = ports
        self._say = say
        self._environment = {
            **os.environ,
            "CROSYSLOG_MODEL__STORE": str(folder / "models"),
            "CROSYSLOG_MODEL__RELOAD_INTERVAL": "1s",
            "CROSYSLOG_ENCODER__CACHE": str(folder / "cache"),
            "CROSYSLOG_BATCH__MAX_LINE_BYTES": "4096",
            "CROSYSLOG_KAFKA__START_FROM": "earliest",
            "CROSYSLOG_KAFKA__SESSION_TIMEOUT": "4s",
        }

    async def run(self, look: Callable[[Rehearsal], None]) -> Seen:
        """Runs through it.

        Args:
            look: is called at its end, while Prometheus still answers.

        Raises:
            CrosyslogError: something did not come about: an alert that should fire, say.
        """
        lines, alerts = await self._adapt()
        async with AsyncExitStack() as stack:
            kafka = stack.enter_context(LocalKafka())
            servers = kafka.bootstrap_servers
            await create_topics(servers, {TOPIC: PARTITIONS})
            self._environment["CROSYSLOG_KAFKA__BOOTSTRAP_SERVERS"] = servers
            await self._start_agent(stack, 0)
            self.prometheus = stack.enter_context(
                LocalPrometheus(build(self._timing), [f"127.0.0.1:{port}" for port in self._ports])
            )
            traffic = await stack.enter_async_context(Traffic(servers, TOPIC, lines, alerts, _RATE))
            self.seen.began = time()
            async with AsyncExitStack() as second:
                self._provoke("another agent joins")
                await self._start_agent(second, 1)
                await self._quiet()
                await self._storm(traffic)
                await self._poison(traffic)
                await self._reload()
                await self._calm("CrosyslogAgentDown")
                # Leaving this block is a SIGKILL.
                self._provoke("an agent is killed")
                began = monotonic()
            await self._fires("CrosyslogAgentDown", began)
            second = await stack.enter_async_context(AsyncExitStack())
            await self._start_agent(second, 1)
            await self._clears("CrosyslogAgentDown", began)
            await self._lose_broker(kafka)
            await self._quiet()
            self.seen.ended = time()
            await asyncio.to_thread(look, self)
        return self.seen

    async def _adapt(self) -> tuple[list[bytes], list[bytes]]:
        """A model of the first lines of a log; the others without labels, and alerts it knows."""
        log, support = self._folder / "spirit.log", self._folder / "support.log"
        simulate = ["trainer", "simulate", "--system", "spirit", "--anomaly-rate", "0.02"]
        await run_command(
            self._environment, *simulate, "--lines", str(_LINES), "--output", str(log)
        )
        whole = log.read_bytes().splitlines()
        support.write_bytes(b"\n".join(whole[:_SUPPORT]) + b"\n")
        adapt = ["trainer", "adapt", "--target", TARGET, "--log", str(support)]
        await run_command(self._environment, *adapt, "--store", str(self._folder / "models"))
        alerts = [line for line in whole[:_SUPPORT] if not line.startswith(b"- ")]
        return [_unlabelled(line) for line in whole[_SUPPORT:]], list(map(_unlabelled, alerts))

    async def _start_agent(self, stack: AsyncExitStack, number: int) -> Agent:
        return await stack.enter_async_context(
            running_agent(
                self._environment,
                ["--topic", TOPIC],
                port=self._ports[number],
                log=self._folder / f"agent-{number}-{time():.0f}.log",
            )
        )

    async def _quiet(self) -> None:
        """Lines flow, and nothing happens: longer than the history that alerts look at."""
        timing = self._timing
        await asyncio.sleep(timing.history_min + timing.recent + 2 * timing.rate)

    async def _storm(self, traffic: Traffic) -> None:
        await self._calm("CrosyslogAnomalyStorm")
        self._provoke("a storm of alerts")
        began = monotonic()
        traffic.storm, traffic.rate = True, _STORM
        await self._fires("CrosyslogAnomalyStorm", began)
        traffic.storm, traffic.rate = False, _RATE
        self._provoke("the storm is over")
        await self._clears("CrosyslogAnomalyStorm", began)

    async def _poison(self, traffic: Traffic) -> None:
        await self._calm("CrosyslogDeadLetters")
        self._provoke("lines that cannot be judged")
        began = monotonic()
        traffic.poison([None, b"x" * 5_000] * (_POISON // 2))
        await self._fires("CrosyslogDeadLetters", began)
        await self._clears("CrosyslogDeadLetters", began)

    async def _reload(self) -> None:
        store = Store(self._folder / "models")
        good = store.path(TARGET, "0001")
        self._provoke("a new version of the model")
        adapt = ["trainer", "adapt", "--target", TARGET, "--log", str(self._folder / "support.log")]
        await run_command(self._environment, *adapt, "--store", str(store.root))
        await self._holds('crosyslog_model_info{version="0002"} == 1')
        await self._calm("CrosyslogModelReloadFailed")
        self._provoke("a broken version of the model")
        began = monotonic()

        def write_broken(folder: Path, _version: str) -> None:
            shutil.copytree(good, folder)
            weights = folder / "weights.safetensors"
            weights.write_bytes(weights.read_bytes()[:-100])

        store.add(TARGET, write_broken)
        await self._fires("CrosyslogModelReloadFailed", began)
        use = ["trainer", "models", "use", TARGET, "0002", "--store", str(store.root)]
        await run_command(self._environment, *use)
        await self._clears("CrosyslogModelReloadFailed", began)

    async def _lose_broker(self, kafka: LocalKafka) -> None:
        # An agent that starts is not ready either.
        await self._calm("CrosyslogNotReady")
        self._provoke("the broker is killed")
        began = monotonic()
        await asyncio.to_thread(kafka.kill)
        await self._fires("CrosyslogNotReady", began)
        self._provoke("the broker is back")
        await asyncio.to_thread(kafka.restart)
        await self._clears("CrosyslogNotReady", began)

    def _provoke(self, what: str) -> None:
        self._say(what)
        self.seen.note(what)

    async def _calm(self, alert: str) -> None:
        """Waits until an alert does not fire: only then does it say anything that it does later."""
        await self._until(lambda: alert not in self.prometheus.firing(), f"{alert} fires already")

    async def _fires(self, alert: str, began: float) -> None:
        await self._until(lambda: alert in self.prometheus.firing(), f"{alert} does not fire")
        took = monotonic() - began
        self._say(f"{alert} fires after {took:.0f} s")
        self.seen.fired[alert] = took, 0.0

    async def _clears(self, alert: str, began: float) -> None:
        await self._until(lambda: alert not in self.prometheus.firing(), f"{alert} does not clear")
        took = monotonic() - began
        self._say(f"{alert} has cleared after {took:.0f} s")
        self.seen.fired[alert] = self.seen.fired[alert][0], took

    async def _holds(self, expr: str) -> None:
        await self._until(lambda: bool(self.prometheus.query(expr)), f"it never holds: {expr}")

    async def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = monotonic() + _PATIENCE_SECONDS
        while not await asyncio.to_thread(condition):
            if monotonic() > deadline:
                raise CrosyslogError(
                    f"{otherwise} within {_PATIENCE_SECONDS:.0f} s; logs are in {self._folder}"
                )
            await asyncio.sleep(0.25)


def free_ports() -> tuple[int, int]:
    """Two ports of loopback that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _unlabelled(line: bytes) -> bytes:
    return line.partition(b" ")[2]
