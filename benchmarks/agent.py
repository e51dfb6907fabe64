"""How fast the agent is beside reading alone, what exactly-once costs, and how long an event takes.

A real Kafka, a simulated Spirit log on a topic of eight partitions, and one process after another
that reads all of it: a null pipeline (uvloop, `getmany`, the agent's fetch sizes, a commit every
20,000 lines), and the agent with a warm cache, exactly-once and at-least-once, with each detector.
Rates are of the time from the first lines that are counted to the last. All share the machine's
cores with the broker, so ratios of one run are what counts; each is the median of some rounds.

The latency is from a line's time in Kafka to its event at a reader of committed messages, at a
tenth of the exactly-once rate. The first lines after a start, which find nothing warm, are left
out, as they are of rates; with them, it is printed, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from time import monotonic, sleep, time
from typing import Any, NamedTuple
from urllib.request import urlopen

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local_kafka import LocalKafka, create_topics

PARTITIONS = 8
TOPIC = "bench-logs"

#: What both pipelines ask for at once.
_FETCH = {"max_partition_fetch_bytes": 2 * 1024 * 1024, "fetch_max_bytes": 16 * 1024 * 1024}

_GUARANTEES = ("exactly-once", "at-least-once")

#: How often the agent is asked how far it is.
_EVERY_S = 0.1

#: How long lines are sent for the latency, and how long of this it is not counted.
_LATENCY_S, _COLD_S = 25.0, 5.0


class Run(NamedTuple):
    """One process that read the topic.

    Attributes:
        rate: lines a second.
        cpu: CPU-seconds a million lines, user and system.
        peak: resident memory at most, MB.
        stages: seconds in each stage, of the scoring thread and the delivery.
        delay: the event loop's delay, 99.9 %, in seconds; an upper bound.
    """

    rate: float
    cpu: float
    peak: float
    stages: dict[str, float]
    delay: float


def main() -> None:
    """Measures, prints, and writes the figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000_000, help="on the topic")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts")
    parser.add_argument("--detector", action="append", choices=("evidence", "maml_lstm"))
    parser.add_argument("--set", action="append", default=[], help="a setting of the agent")
    parser.add_argument(
        "--memory", action="store_true", help="only: memory after a fifth of the lines and all"
    )
    parser.add_argument("--json", type=Path, help="the file for the figures")
    parser.add_argument("--null", metavar="SERVERS", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.null:
        import uvloop

        uvloop.run(null_pipeline(chosen.null, chosen.lines))
        return
    with tempfile.TemporaryDirectory() as folder, LocalKafka(benchmark=True) as kafka:
        detectors = chosen.detector or ["evidence", "maml_lstm"]
        where = (Path(folder), kafka.bootstrap_servers)
        if chosen.memory:
            figures = measure_memory(*where, chosen.lines, detectors, chosen.set)
        else:
            figures = measure(*where, chosen.lines, chosen.rounds, detectors, chosen.set)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(
    folder: Path, servers: str, lines: int, rounds: int, detectors: list[str], settings: list[str]
) -> dict[str, float]:
    """All runs; returns the figures by name, and prints them on the way."""
    log = prepare(folder, servers, lines, detectors)
    found: dict[str, list[Run]] = defaultdict(list)
    for number in range(rounds):
        found["null"].append(of_null(servers, lines))
        for detector in detectors:
            for guarantee in _GUARANTEES:
                name = f"{detector} {guarantee}"
                options = [*settings, f"delivery.guarantee={guarantee}"]
                found[name].append(of_agent(servers, detector, options, lines))
                ratio = found[name][-1].rate / found["null"][-1].rate
                rate = found[name][-1].rate
                print(f"round {number + 1}: {name}: {rate:,.0f} lines/s, {ratio:.2f}", flush=True)
    return report(found, detectors, servers, log, settings)


def measure_memory(
    folder: Path, servers: str, lines: int, detectors: list[str], settings: list[str]
) -> dict[str, float]:
    """Resident memory after a fifth of the lines, and after all."""
    log = prepare(folder, servers, lines // 5, detectors)
    for _ in range(4):
        asyncio.run(fill(servers, log))
    figures = {}
    for detector in detectors:
        agent = Agent(servers, detector, ["kafka.start_from=earliest", *settings])
        held = []
        for count in (lines // 5, lines):
            while agent.metrics()["crosyslog_lines_scored_total"] < count:
                sleep(_EVERY_S)
            held.append(agent.resident())
        agent.end()
        growth = held[1] / held[0] - 1
        print(
            f"{detector}: {held[0]:,.0f} MB after {lines // 5:,} lines, {held[1]:,.0f} MB after "
            f"{lines:,}: {growth:+.1%}",
            flush=True,
        )
        figures[f"{detector}_memory_growth"] = growth
    return figures


def prepare(folder: Path, servers: str, lines: int, detectors: list[str]) -> Path:
    """A log on the topic, models that know its first lines, and a warm cache; the log's path."""
    programs = Path(sys.executable).parent
    os.environ |= {
        "CROSYSLOG_MODEL__STORE": str(folder / "models"),
        "CROSYSLOG_ENCODER__CACHE": str(folder / "cache"),
    }
    log, support = folder / "spirit.log", folder / "support.log"
    said = [programs / "trainer", "simulate", "--system", "spirit", "--anomaly-rate", "0.01"]
    run([*said, "--lines", lines, "--output", log])
    with log.open("rb") as source:
        support.write_bytes(b"".join(source.readline() for _ in range(1_000)))
    for detector in detectors:
        adapt = [programs / "trainer", "adapt", "--target", detector, "--system", "spirit"]
        run([*adapt, "--log", support, "--detector", detector])
    scan = [programs / "crosyslog-agent", "scan", "--model", detectors[0], log]
    run(scan, stdout=subprocess.DEVNULL)
    asyncio.run(create_topics(servers, {TOPIC: PARTITIONS}))
    asyncio.run(fill(servers, log))
    return log


def report(
    found: dict[str, list[Run]], detectors: list[str], servers: str, log: Path, settings: list[str]
) -> dict[str, float]:
    """Prints the medians, measures latencies, and gathers the figures."""
    figures: dict[str, float] = {"null_lines_per_s": median(run.rate for run in found["null"])}
    print(f"\n{'':<26}{'lines/s':>10}{'of null':>9}{'CPU-s/M':>9}{'peak MB':>9}{'loop p99.9':>12}")
    for name, runs in found.items():
        # Of one round each, so that what else the machine did falls on both.
        shares = [one.rate / null.rate for one, null in zip(runs, found["null"], strict=True)]
        row = [median(getattr(one, field) for one in runs) for field in ("rate", "cpu", "peak")]
        delay = max(one.delay for one in runs)
        print(
            f"{name:<26}{row[0]:>10,.0f}{median(shares):>9.2f}{row[1]:>9.2f}{row[2]:>9,.0f}"
            + (f"{delay:>11.3f}s" if delay else "")
        )
        if name == "null":
            continue
        detector, guarantee = name.split(" ")
        key = guarantee.replace("-", "_")
        key = key if detector == detectors[0] else f"{detector}_{key}"
        figures |= {
            f"{key}_share_of_null": median(shares),
            f"{key}_lines_per_s": row[0],
            f"{key}_cpu_s_per_million": row[1],
            f"{key}_peak_mb": row[2],
            f"{key}_loop_delay_p999_s": delay,
        }
    for detector in detectors:
        pairs = zip(
            found[f"{detector} exactly-once"], found[f"{detector} at-least-once"], strict=True
        )
        cost = 1 - median(one.rate / other.rate for one, other in pairs)
        stages = found[f"{detector} exactly-once"][-1].stages
        whole = sum(stages.values())
        shown = ", ".join(f"{stage} {seconds / whole:.0%}" for stage, seconds in stages.items())
        print(f"\n{detector}: exactly-once costs {cost:.1%}; time in stages: {shown}")
        rate = median(run.rate for run in found[f"{detector} exactly-once"]) / 10
        cold, warm = asyncio.run(latencies(servers, detector, log, rate, settings))
        p50, p99 = warm[len(warm) // 2], warm[int(len(warm) * 0.99)]
        p99_cold = sorted(cold + warm)[int(len(cold + warm) * 0.99)]
        latency = f"p50 {p50:.3f} s, p99 {p99:.3f} s"
        print(
            f"{detector}: {len(warm):,} events at {rate:,.0f} lines/s: {latency} (with those of "
            f"the first {_COLD_S:.0f} s: p99 {p99_cold:.3f} s)"
        )
        prefix = "" if detector == detectors[0] else f"{detector}_"
        figures |= {
            f"{prefix}exactly_once_cost": cost,
            f"{prefix}p50_s": p50,
            f"{prefix}p99_s": p99,
            f"{prefix}p99_from_start_s": p99_cold,
        }
    return figures


def run(words: list[Any], stdout: int | None = None) -> None:
    """A command that has to succeed."""
    subprocess.run([str(word) for word in words], check=True, stdout=stdout)


async def fill(servers: str, log: Path) -> None:
    """Sends the log, in turn to each partition."""
    async with AIOKafkaProducer(
        bootstrap_servers=servers, max_batch_size=512 * 1024, compression_type="lz4"
    ) as producer:
        with log.open("rb") as source:
            batches = [producer.create_batch() for _ in range(PARTITIONS)]
            for number, line in enumerate(source):
                place = number % PARTITIONS
                value = line.rstrip(b"\n")
                if batches[place].append(key=None, value=value, timestamp=None) is None:
                    await producer.send_batch(batches[place], TOPIC, partition=place)
                    batches[place] = producer.create_batch()
                    batches[place].append(key=None, value=value, timestamp=None)
            for place, batch in enumerate(batches):
                await producer.send_batch(batch, TOPIC, partition=place)
        await producer.flush()


async def null_pipeline(servers: str, lines: int) -> None:
    """Reads all lines and commits; prints lines a second, and CPU-seconds meanwhile."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=servers,
        group_id=f"null-{os.getpid()}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        **_FETCH,
    )
    async with consumer:
        count = uncommitted = touched = first = 0
        began, cpu = 0.0, 0.0
        while count < lines:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=20_000)).values():
                touched += sum(len(record.value) for record in records)
                count += len(records)
                uncommitted += len(records)
            if count and not began:
                began, cpu, first = monotonic(), sum(os.times()[:2]), count
            if uncommitted >= 20_000:
                await consumer.commit()
                uncommitted = 0
        await consumer.commit()
        took = monotonic() - began
    print((lines - first) / took, sum(os.times()[:2]) - cpu, touched)


def of_null(servers: str, lines: int) -> Run:
    """A run of the null pipeline."""
    words = [sys.executable, __file__, "--null", servers, "--lines", str(lines)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    rate, cpu, _ = map(float, done.stdout.split())
    return Run(rate, cpu / lines * 1e6, 0.0, {}, 0.0)


class Agent:
    """A `crosyslog-agent` that runs, in a group of its own."""

    def __init__(self, servers: str, model: str, settings: list[str]) -> None:
        chosen = [
            f"kafka.group_id=bench-{monotonic()}",
            f"kafka.output_topic=bench-{time():.0f}-{model}",
            "http.port=0",
            *settings,
        ]
        words = [Path(sys.executable).with_name("crosyslog-agent"), "--topic", TOPIC]
        words += ["--model", model, "--bootstrap-servers", servers]
        words += [word for one in chosen for word in ("--set", one)]
        self.output_topic = chosen[1].partition("=")[2]
        self.process = subprocess.Popen([str(w) for w in words], stderr=subprocess.PIPE, text=True)
        said, self.address = "", ""
        for line in self.process.stderr or ():
            said += line
            if found := re.search(r"health at (http://\S+)", line):
                self.address = found[1]
                break
        else:
            raise SystemExit(said)

    def metrics(self) -> dict[str, float]:
        """All samples by their text, such as `name{label="x"}`."""
        with urlopen(f"{self.address}/metrics", timeout=10) as answer:  # noqa: S310 - http, ours
            lines = answer.read().decode().splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    def cpu(self) -> float:
        """CPU-seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """Resident memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else 0.0

    def peak(self) -> float:
        """Resident memory at most so far, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else 0.0

    def end(self) -> None:
        """SIGTERM, and what it says."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=30)
        if self.process.returncode:
            raise SystemExit(said)


def of_agent(servers: str, model: str, settings: list[str], lines: int) -> Run:
    """A run of the agent over all lines."""
    agent = Agent(servers, model, ["kafka.start_from=earliest", *settings])
    metrics = agent.metrics()
    while not metrics["crosyslog_lines_scored_total"]:
        sleep(_EVERY_S)
        metrics = agent.metrics()
    began, before, cpu = monotonic(), metrics["crosyslog_lines_scored_total"], agent.cpu()
    while metrics["crosyslog_lines_scored_total"] < lines:
        sleep(_EVERY_S)
        metrics = agent.metrics()
    rate = (lines - before) / (monotonic() - began)
    spent = (agent.cpu() - cpu) / (lines - before) * 1e6
    peak = agent.peak()
    agent.end()
    stages = {
        stage: metrics[f'crosyslog_stage_duration_seconds_sum{{stage="{stage}"}}']
        for stage in ("decode", "mask", "encode", "detect", "events", "publish", "commit")
        if f'crosyslog_stage_duration_seconds_sum{{stage="{stage}"}}' in metrics
    }
    return Run(rate, spent, peak, stages, quantile(metrics, "crosyslog_loop_delay_seconds", 0.999))


def quantile(metrics: dict[str, float], name: str, share: float) -> float:
    """An upper bound of a histogram's quantile: the bucket's end; infinite beyond the last."""
    buckets = [
        (float(found[1]), value)
        for key, value in metrics.items()
        if (found := re.fullmatch(name + r'_bucket\{le="([^"]+)"\}', key))
    ]
    total = max((value for _, value in buckets), default=0.0)
    return min((end for end, value in buckets if value >= share * total), default=0.0)


async def latencies(
    servers: str, model: str, log: Path, rate: float, settings: list[str]
) -> tuple[list[float], list[float]]:
    """Seconds from a line's time to its event, at a steady rate, sorted: first ones and later."""
    joined = "crosyslog_rebalances_total"
    agent = await asyncio.to_thread(Agent, servers, model, ["kafka.start_from=latest", *settings])
    try:
        while not (await asyncio.to_thread(agent.metrics)).get(joined):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await asyncio.sleep(1)
        found: list[tuple[float, float]] = []
        reading = asyncio.create_task(read_events(servers, agent.output_topic, found))
        await asyncio.sleep(1)
        warm_from = time() + _COLD_S
        await send_steadily(servers, log, rate)
        await asyncio.sleep(2)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    finally:
        await asyncio.to_thread(agent.end)
    cold = sorted(delay for sent, delay in found if sent < warm_from)
    return cold, sorted(delay for sent, delay in found if sent >= warm_from)


async def send_steadily(servers: str, log: Path, rate: float) -> None:
    """Sends lines in small batches, each with the time of its sending."""
    every = 0.01
    size = max(1, int(rate * every))
    async with AIOKafkaProducer(bootstrap_servers=servers, compression_type="lz4") as producer:
        with log.open("rb") as source:
            began = monotonic()
            for number in range(int(_LATENCY_S / every)):
                batch = producer.create_batch()
                for _ in range(size):
                    value = source.readline().rstrip(b"\n")
                    batch.append(key=None, value=value, timestamp=int(time() * 1000))
                await producer.send_batch(batch, TOPIC, partition=number % PARTITIONS)
                await asyncio.sleep(max(0.0, began + (number + 1) * every - monotonic()))
        await producer.flush()


async def read_events(servers: str, topic: str, found: list[tuple[float, float]]) -> None:
    """Notes of each event when its line was sent, and how old it is when a reader has it."""
    times: dict[tuple[int, int], int] = {}
    async with (
        AIOKafkaConsumer(
            topic, bootstrap_servers=servers, isolation_level="read_committed"
        ) as events,
        AIOKafkaConsumer(TOPIC, bootstrap_servers=servers) as lines,
    ):

        async def note_times() -> None:
            while True:
                for place, records in (await lines.getmany(timeout_ms=1000)).items():
                    times.update({(place.partition, one.offset): one.timestamp for one in records})

        noting = asyncio.create_task(note_times())
        try:
            while True:
                for records in (await events.getmany(timeout_ms=1000)).values():
                    now = time()
                    for record in records:
                        source = json.loads(record.value)["source"]
                        sent = times.get((source["partition"], source["offset"]))
                        if sent is not None:
                            found.append((sent / 1000, now - sent / 1000))
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)


if __name__ == "__main__":
    main()
