"""`crosyslog-agent scan`: the agent's scoring on a file or standard input, without Kafka."""

from __future__ import annotations

import os
import select
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from agent.app import describe_model, load_judge
from agent.judging import Lines
from agent.session_scanning import Scanned, find_session_model, scan_sessions
from crosyslog.encoder import load_encoder
from crosyslog.errors import InputError
from crosyslog.events import to_json
from crosyslog.lines import compression_of, is_binary, read_raw
from crosyslog.store import target_of_topic
from crosyslog.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.reasons import Reason
    from agent.setting_parts import BatchSettings
    from agent.settings import Settings
    from crosyslog.encoder import Encoder
    from crosyslog.windows import PartitionState

_READ_BYTES = 1 << 20

#: How much of standard input is looked at to tell a log from binary data.
_PROBE_BYTES = 65_536

#: What a log's name ends in beside the system's.
_ENDINGS = (".gz", ".zst", ".log", ".txt")


def scan(
    source: str, settings: Settings, load: Callable[[str, str, str], Encoder] = load_encoder
) -> None:
    """Judges the lines of a file, or of standard input for `-`; their sessions if the model does.

    Events go to standard output, a JSON line each, as soon as their batch is judged, or their
    session is complete: topic is the file's name or `stdin`, partition 0, offset the number of the
    line from 0.

    Args:
        source: a path, or `-`.
        settings: those of the batch, the encoder and the model count.
        load: loads an encoder by name, device and precision.

    Raises:
        InputError: the file cannot be read, is empty, or is no text.
        CrosyslogError: the model or encoder cannot be loaded.
    """
    began = monotonic()
    name = "stdin" if source == "-" else Path(source).name
    if settings.model.target is None:
        target = target_of_topic(_without_endings(name))
        settings = settings.model_copy(
            update={"model": settings.model.model_copy(update={"target": target})}
        )
    if source == "-":
        chunks = _standard_input(settings.batch)
    else:
        chunks = read_raw(Path(source), settings.batch.max_lines)
    # Before the model is loaded, which takes seconds: a file that is not there is said at once.
    first = next(chunks, None)
    if first is None:
        raise InputError(f"{name} is empty: a log with at least one line is needed")
    chunks = chain([first], chunks)
    model = find_session_model(settings)
    if model is not None:
        scanned = scan_sessions(name, chunks, model, settings, load, _say)
    else:
        scanned = _scan_lines(name, chunks, settings, load)
    _say(f"{scanned.counts}, {monotonic() - began:.1f} s")
    for note in scanned.notes:
        _say(note)
    if dead := scanned.dead:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dead.most_common())
        _say(f"{dead.total():,} of {scanned.lines:,} lines cannot be judged: {reasons}")


def _scan_lines(
    name: str,
    chunks: Iterator[list[bytes]],
    settings: Settings,
    load: Callable[[str, str, str], Encoder],
) -> Scanned:
    import polars as pl

    loaded = load_judge(settings, load)
    judge, system = loaded.judge, loaded.judge.model.system
    _say(describe_model(judge.model, settings))
    states: dict[str, PartitionState] = {}
    lines = anomalies = unsplit = 0
    dead: Counter[Reason] = Counter()
    try:
        for chunk in chunks:
            count = len(chunk)
            judged = judge.judge(
                Lines(
                    name,
                    pl.Series(chunk, dtype=pl.Binary),
                    np.zeros(count, dtype=np.int64),
                    np.arange(lines, lines + count),
                    np.ones(count, dtype=np.bool_),
                ),
                states,
            )
            states = judged.states
            lines += count
            anomalies += len(judged.events)
            unsplit += judged.unsplit
            dead.update(letter.reason for letter in judged.dead)
            sys.stdout.buffer.writelines(to_json(event) + b"\n" for event in judged.events)
            sys.stdout.buffer.flush()
    finally:
        loaded.cache.close()
    notes = []
    if unsplit:
        notes.append(
            f"{unsplit:,} of {lines:,} lines are not split by {system.name}, and were judged "
            f"whole: see `trainer systems check {system.name} FILE`"
        )
    return Scanned(f"{lines:,} lines, {anomalies:,} anomalies", lines, dead, notes)


def _standard_input(settings: BatchSettings) -> Iterator[list[bytes]]:
    """Lines of standard input as they come: closed by their number, or by the age of the first.

    Raises:
        InputError: it is no text.
    """
    descriptor = sys.stdin.fileno()
    whole: list[bytes] = []
    rest = b""
    deadline: float | None = None
    started = False
    while True:
        wait = None if deadline is None else max(0.0, deadline - monotonic())
        if wait == 0 or not select.select([descriptor], [], [], wait)[0]:
            yield whole
            whole, deadline = [], None
            continue
        data = os.read(descriptor, _READ_BYTES)
        if not data:
            break
        if not started:
            _refuse_binary(data)
            started = True
        *lines, rest = (rest + data).split(b"\n")
        whole.extend(lines)
        while len(whole) >= settings.max_lines:
            yield whole[: settings.max_lines]
            del whole[: settings.max_lines]
            deadline = None
        if whole and deadline is None:
            deadline = monotonic() + settings.linger
    if rest:
        whole.append(rest)
    if whole:
        yield whole


def _refuse_binary(start: bytes) -> None:
    if kind := compression_of(start):
        raise InputError(
            f"standard input is compressed: decompress it first, with `{kind} -dc`, "
            "or name the file"
        )
    if is_binary(start[:_PROBE_BYTES]):
        raise InputError("standard input is not a log: it holds binary data; pipe in text")


def _without_endings(name: str) -> str:
    while name.endswith(_ENDINGS):
        name = name[: name.rindex(".")]
    return name


def _say(text: str) -> None:
    sys.stderr.write(printable(text) + "\n")
