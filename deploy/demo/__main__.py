"""`make demo`: the whole path on one machine, with a real Kafka, and nothing left running."""

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from crosyslog.errors import CrosyslogError, SettingError, StoreError
from crosyslog.manifest import load_manifest
from crosyslog.store import Store
from crosyslog.systems import System, load_system
from crosyslog.terminal import printable
from deploy.demo.processes import run_command, running_agent
from deploy.demo.replay import Replay, load_replay
from deploy.demo.show import EventView, Summary, say, show_summary
from deploy.demo.traffic import EventReader, send_lines
from deploy.kafka_topics import checked_servers
from deploy.local_kafka import LocalKafka, create_topics, delete_topics

#: What a run makes; emptied at the start, but for the encoder's cache.
_FOLDER = Path(".demo")
_CACHE = _FOLDER / "cache"
_STORE = _FOLDER / "models"
_SUPPORT = _FOLDER / "support.log"

#: The system that is simulated when the user names no log.
_SIMULATED = "thunderbird"


@dataclass(frozen=True)
class Route:
    """Where the lines go and the events come from."""

    kafka: str
    topic: str
    output: str


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    log: Path | None
    system: str
    kafka: str | None
    json: Path | None
    support: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and returns its exit status."""
    # What goes wrong is said once, by us.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    started = float(os.environ.get("CROSYSLOG_DEMO_STARTED") or time.time())
    try:
        options = _parse(arguments)
        system, replay = _prepare(options)
        asyncio.run(_run_until_interrupted(options, system, replay, started))
    except CrosyslogError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {printable(str(error))}: can this folder be written?\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _prepare(options: Options) -> tuple[System, Replay]:
    """Clears the folder, and cuts the log in support and replay."""
    system = load_system(options.system)
    # It holds log text.
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    for entry in _FOLDER.iterdir():
        if entry != _CACHE:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    replay = load_replay(options.log or _simulate(), system, options.support)
    _SUPPORT.write_bytes(b"".join(replay.support))
    return system, replay


def _simulate() -> Path:
    from trainer.simulation import write_simulated_log

    path = _FOLDER / "simulated.log"
    summary = write_simulated_log(
        system=_SIMULATED, lines=20_000, anomaly_rate=0.05, seed=7, output=path
    )
    say(
        f"Simulated {summary.lines:,} lines of {_SIMULATED}, {summary.alerts:,} of them alerts "
        "(a simulated log: its figures say little about a real one)"
    )
    return path


async def _run_until_interrupted(
    options: Options, system: System, replay: Replay, started: float
) -> None:
    try:
        await _run(options, system, replay, started)
    except (CrosyslogError, OSError):
        # Ctrl-C reaches the programs that we wait for as well: what they say of it is no failure.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from None
        raise


async def _run(options: Options, system: System, replay: Replay, started: float) -> None:
    environment = os.environ | {
        "CROSYSLOG_MODEL__STORE": str(_STORE),
        "CROSYSLOG_ENCODER__CACHE": str(_CACHE),
    }
    async with contextlib.AsyncExitStack() as stack:
        # On somebody's broker the topics get names that nobody else has, and go afterwards.
        topic = f"{system.name}-logs"
        if options.kafka is not None:
            topic = f"crosyslog-demo-{secrets.token_hex(4)}"
        output = f"{topic}.anomalies"
        starting = asyncio.create_task(_broker(stack, options.kafka, [topic, output]))
        if options.kafka is not None:
            await starting
        say(f"Adapting to {system.name} on the first {len(replay.support):,} labelled lines ...")
        adapt = ("trainer", "adapt", "--target", system.name, "--log", str(_SUPPORT))
        try:
            say((await run_command(environment, *adapt, "--system", options.system)).rstrip())
        finally:
            # Awaited also after an error: a broker that has started must be stopped.
            kafka = await starting
        await _replay(options, system, replay, environment, Route(kafka, topic, output), started)


async def _broker(stack: contextlib.AsyncExitStack, given: str | None, topics: list[str]) -> str:
    """A broker with these topics: the given one, or one of our own that ends with the stack."""
    if given is not None:
        await create_topics(given, dict.fromkeys(topics, 1))
        stack.push_async_callback(delete_topics, given, topics)
        return given
    kafka = LocalKafka(_FOLDER / "kafka")
    stack.callback(kafka.stop)
    await asyncio.to_thread(kafka.start)
    await create_topics(kafka.bootstrap_servers, dict.fromkeys(topics, 1))
    return kafka.bootstrap_servers


async def _replay(
    options: Options,
    system: System,
    replay: Replay,
    environment: Mapping[str, str],
    route: Route,
    started: float,
) -> None:
    port = _free_port()
    metrics = f"http://127.0.0.1:{port}/metrics"
    say(f"Starting crosyslog-agent --topic {route.topic}, metrics at {metrics} ...")
    command = ["--topic", route.topic, "--model", system.name]
    command += ["--bootstrap-servers", route.kafka, "--set", "kafka.start_from=earliest"]
    view = EventView()
    reader = EventReader(route.kafka, route.output, view.show)
    async with running_agent(environment, command, port=port, log=_FOLDER / "agent.log") as agent:
        reading = asyncio.create_task(reader.run())
        try:
            sent_at = time.monotonic()
            await send_lines(route.kafka, route.topic, replay.lines)
            scored = await agent.all_scored(len(replay.lines))
            seconds = time.monotonic() - sent_at
            await reader.until(await agent.metric("crosyslog_anomalies_total"))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await agent.stop()
    hits = sum(replay.labels[event["source"]["offset"]] for event in reader.events)
    events, alerts = len(reader.events), sum(replay.labels)
    first = None if reader.first_at is None else round(reader.first_at - started, 2)
    summary = Summary(
        first_event_s=first,
        total_s=round(time.time() - started, 2),
        support=len(replay.support),
        sent=len(replay.lines),
        scored=scored,
        lines_per_s=round(scored / seconds, 1),
        events=events,
        alerts=alerts,
        precision=round(hits / events, 4) if events else None,
        recall=round(hits / alerts, 4) if alerts else None,
        base=_base(system.name),
        metrics=metrics,
    )
    show_summary(summary, view.hidden)
    if options.json is not None:
        summary.write(options.json)


def _base(target: str) -> str:
    """The base that the model comes from, and what it was trained on."""
    store = Store(_STORE)
    version = store.current(target)
    if version is None:
        raise StoreError(f"{target} has no model in {store.root} although it was adapted")
    manifest, _ = load_manifest(store.path(target, version))
    return f"{manifest.base}, trained on {', '.join(manifest.sources)}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = _OneLineParser(prog="make demo", description=__doc__, add_help=True)
    parser.add_argument("--log", type=Path, help="a labelled log; without one, one is simulated")
    parser.add_argument("--system", help="the system that wrote it")
    parser.add_argument("--kafka", help="host:port of a broker that runs already")
    parser.add_argument("--json", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--support", type=int, default=1000, help="labelled lines to adapt on")
    given = parser.parse_args(arguments)
    if given.log is not None and given.system is None:
        parser.error(
            "LOG needs SYSTEM=name, the system that wrote it (`trainer systems` lists them)"
        )
    if given.log is None and given.system not in {None, _SIMULATED}:
        parser.error("SYSTEM needs LOG=path, a labelled log of that system")
    if given.json is not None and not given.json.absolute().parent.is_dir():
        parser.error(f"JSON={given.json}: its folder does not exist")
    if given.json is not None and given.json.is_dir():
        parser.error(f"JSON={given.json} is a folder: name a file")
    if given.support < 1:
        parser.error(f"--support {given.support}: it must be 1 or more")
    if given.kafka is not None:
        try:
            checked_servers(given.kafka)
        except SettingError as error:
            parser.error(f"KAFKA: {error}")
    system = given.system or _SIMULATED
    return Options(given.log, system, given.kafka, given.json, given.support)


if __name__ == "__main__":
    sys.exit(main())
