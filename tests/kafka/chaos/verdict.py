"""What a chaos run came to: the topics, compared with `scan` over what was sent."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.kafka.agents import messages
from tests.kafka.chaos.world import PARTITIONS, PROGRAM, TOPIC, World, write_jsonl

if TYPE_CHECKING:
    from pathlib import Path

#: Float noise of another batch: a score so near the threshold may fall on either side.
_NOISE = 1e-3


async def verdict(world: World, folder: Path) -> dict[str, int]:
    """Compares, and leaves everything that it compared as JSON lines.

    Args:
        world: a run that has ended.
        folder: for `input.jsonl`, `events.jsonl`, `dead_letters.jsonl`, `faults.jsonl`, and
            `scan-N.jsonl` of each partition.

    Returns:
        Counts, of which all but the first two have to be 0.
    """
    servers = world.kafka.bootstrap_servers
    sent = await messages(servers, TOPIC)
    events = [json.loads(one.value) for one in await messages(servers, f"{TOPIC}.anomalies")]
    dead = await messages(servers, f"{TOPIC}.dlq")
    write_jsonl(folder / "input.jsonl", [_row(message) for message in sent])
    write_jsonl(folder / "events.jsonl", events)
    write_jsonl(folder / "dead_letters.jsonl", [_row(message) for message in dead])
    write_jsonl(folder / "faults.jsonl", world.faults)
    found = {
        "lines": len(sent),
        "anomalies": len(events),
        "dead_letters": len(dead),
        **_events(events, _expected(world, folder, sent)),
        **_dead_letters(dead, sent),
    }
    found["input_not_as_sent"] = _input(sent, world.plan.lines)
    return found


def _input(sent: list[Any], lines: int) -> int:
    """How many lines of the input are not there exactly once, in order."""
    numbers: dict[int, list[int]] = {number: [] for number in range(PARTITIONS)}
    for message in sent:
        numbers[message.partition].append(int(message.key))
    wanted = {number: list(range(number, lines, PARTITIONS)) for number in range(PARTITIONS)}
    return sum(numbers[number] != wanted[number] for number in range(PARTITIONS))


def _expected(world: World, folder: Path, sent: list[Any]) -> dict[tuple[int, int], float]:
    """The score of every line that `scan` calls an anomaly, or nearly one, by its place."""
    expected: dict[tuple[int, int], float] = {}
    for partition in range(PARTITIONS):
        values = [message.value or b"" for message in sent if message.partition == partition]
        log = folder / f"partition-{partition}.log"
        log.write_bytes(b"".join(value + b"\n" for value in values))
        words = [sys.executable, str(PROGRAM), "scan", str(log), *world.settings()]
        # Nearly anomalies too: they are allowed, and not asked for.
        threshold = _threshold(world) - _NOISE
        done = subprocess.run(
            [*words, "--set", f"model.threshold={threshold}"], capture_output=True, check=True
        )
        (folder / f"scan-{partition}.jsonl").write_bytes(done.stdout)
        for row in map(json.loads, done.stdout.splitlines()):
            expected[partition, row["source"]["offset"]] = row["anomaly"]["score"]
    return expected


def _threshold(world: World) -> float:
    from crosyslog.manifest import load_manifest
    from tests.kafka.chaos.world import TARGET

    version = world.store.current(TARGET)
    assert version is not None
    manifest, _ = load_manifest(world.store.path(TARGET, version))
    return manifest.threshold.value


def _events(events: list[dict[str, Any]], expected: dict[tuple[int, int], float]) -> dict[str, int]:
    places = [(event["source"]["partition"], event["source"]["offset"]) for event in events]
    scores = {place: event["anomaly"]["score"] for place, event in zip(places, events, strict=True)}
    counts = Counter(places)
    threshold = max((event["anomaly"]["threshold"] for event in events), default=0.5)
    sure = {place for place, score in expected.items() if score >= threshold + _NOISE}
    last: dict[int, int] = {}
    disordered = 0
    for partition, offset in places:
        disordered += offset < last.get(partition, -1)
        last[partition] = offset
    return {
        "lost": len(sure - counts.keys()),
        "twice": sum(count - 1 for count in counts.values()),
        "unexpected": len(counts.keys() - expected.keys()),
        "out_of_order": disordered,
        "other_score": sum(
            abs(score - expected[place]) > _NOISE
            for place, score in scores.items()
            if place in expected
        ),
    }


def _dead_letters(dead: list[Any], sent: list[Any]) -> dict[str, int]:
    wanted = {
        (message.partition, message.offset): dict(message.headers)["poison"].decode()
        for message in sent
        if dict(message.headers).get("poison")
    }
    values = {(message.partition, message.offset): message.value for message in sent}
    found: Counter[tuple[int, int]] = Counter()
    wrong = 0
    for message in dead:
        headers = {name: content.decode() for name, content in message.headers}
        place = (int(headers["crosyslog.partition"]), int(headers["crosyslog.offset"]))
        found[place] += 1
        wrong += headers["crosyslog.reason"] != wanted.get(place)
        wrong += message.value != values[place]
    return {
        "dead_letters_lost": len(wanted.keys() - found.keys()),
        "dead_letters_twice": sum(count - 1 for count in found.values()),
        "dead_letters_wrong": wrong,
    }


def _row(message: Any) -> dict[str, Any]:  # noqa: ANN401 - aiokafka has no types
    value = message.value
    return {
        "partition": message.partition,
        "offset": message.offset,
        "key": message.key.decode() if message.key is not None else None,
        "value_base64": base64.b64encode(value).decode() if value is not None else None,
        "headers": {name: content.decode(errors="replace") for name, content in message.headers},
    }
