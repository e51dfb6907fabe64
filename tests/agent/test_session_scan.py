"""`crosyslog-agent scan` with a model that judges sessions."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest

from agent.cli import app
from agent.scanning import scan
from agent.settings import load_settings
from crosyslog import terminal
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import BundleVersionError, InputError, StoreError
from crosyslog.manifest import EncoderReference
from crosyslog.session_bundle import write_session_bundle
from crosyslog.session_events import SessionEvent, session_event_schema
from crosyslog.session_rules import SessionRule
from crosyslog.store import Store
from crosyslog.systems import load_system
from tests.agent.session_models import BAD, add_telling_model, block
from tests.crosyslog.bundles import rewrite
from tests.fakes import FakeEncoder, add_tiny_model
from trainer.session_logs import read_session_log
from trainer.sessions.bundles import Adapted, adapt_sessions, train_session_base
from trainer.sessions.corpus import fit_reading, session_corpus
from trainer.sessions.training import SessionConfig
from trainer.simulation import write_simulated_log

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path

    from agent.settings import Settings

THREE = SessionRule(by="count", lines=3)

#: Three blocks between each other: 2 alone has a bad line. One line is about none.
LINES = [
    block("heartbeat ok", 1, 1),
    block("heartbeat ok", 2, 2),
    block("session opened for user", 1, 3),
    b"090214 071504 9 WARN dfs.DataNode: nothing to do",
    block("disk failure", 2, 5),
    block("heartbeat ok", 3, 6),
    block("session opened for user", 2, 7),
    block("session opened for user", 3, 8),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def settings(tmp_path: Path, store: Store) -> Settings:
    flags = {
        "model.store": str(store.root),
        "model.target": "hdfs",
        "encoder.cache": str(tmp_path / "cache"),
        "batch.linger": "50ms",
    }
    return load_settings(flags=flags)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.RawIOBase]:
    """The end of a pipe whose other end is standard input."""
    reader, writer = os.pipe()
    with open(reader) as stdin, open(writer, "wb", buffering=0) as end:  # noqa: PTH123 - descriptors
        monkeypatch.setattr(sys, "stdin", stdin)
        yield end


def log(tmp_path: Path, lines: list[bytes]) -> str:
    path = tmp_path / "app.log"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def changed(settings: Settings, part: str, **values: object) -> Settings:
    return settings.model_copy(
        update={part: getattr(settings, part).model_copy(update=dict(values))}
    )


def checked(printed: bytes) -> list[dict[str, Any]]:
    """Events, each held to its schema."""
    validator = jsonschema.Draft202012Validator(
        session_event_schema(), format_checker=jsonschema.FormatChecker()
    )
    events = [json.loads(line) for line in printed.splitlines()]
    for event in events:
        SessionEvent.model_validate_json(json.dumps(event), strict=True)
        validator.validate(event)
    return events


def run(
    source: str, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> tuple[list[dict[str, Any]], str]:
    """The events and what was said beside them."""
    scan(source, settings, lambda *_: FakeEncoder())
    printed = capfdbinary.readouterr()
    return checked(printed.out), printed.err.decode()


def untimed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events without what differs from one scan to the next."""
    return [{**event, "observed_timestamp": None} for event in events]


def test_sessions_by_key_lie_between_each_other(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs")
    (event,), said = run(log(tmp_path, LINES), settings, capfdbinary)
    assert event["session"] == {
        "key": "blk_2", "lines": 3, "first_offset": 1, "last_offset": 6,
    }  # fmt: skip
    assert event["source"] == {"topic": "app.log"}
    assert event["anomaly"]["id"] == "app.log/blk_2"
    assert (event["timestamp"], event["end_timestamp"]) == (
        "2009-02-14T07:15:02+00:00", "2009-02-14T07:15:07+00:00",
    )  # fmt: skip
    assert event["body"] == "disk failure blk_2"
    assert event["attributes"] == {
        "log.record.original": LINES[4].decode(),
        "component": "DataNode",
    }
    assert event["resource"] == {"service.name": "hdfs"}
    first, *others = event["anomaly"]["lines"]
    assert first == {
        "offset": 4, "attention": pytest.approx(1, abs=0.05), "template": BAD,
        "text": "disk failure blk_2",
    }  # fmt: skip
    assert {line["offset"] for line in others} <= {1, 6}
    assert event["anomaly"]["novel"] is False
    assert event["anomaly"]["model"] == {"target": "hdfs", "version": "0001"}
    assert said.splitlines()[0] == "model hdfs/0001, lines read as hdfs, sessions by key"
    assert said.splitlines()[1].startswith("8 lines, 3 sessions, 1 anomalies, ")
    assert said.splitlines()[2:] == ["1 of 8 lines have no key, and are in no session"]


def test_a_line_unlike_all_that_was_seen_makes_a_session_novel(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs")
    odd = [*LINES, b"090214 071509 9 FATAL org.Odd: quite another matter altogether blk_2"]
    (event,), _ = run(log(tmp_path, odd), settings, capfdbinary)
    assert event["anomaly"]["novel"] is True
    # A session that is like what was seen is not, whatever the one beside it is.
    odd[-1] = odd[-1].replace(b"blk_2", b"blk_4")
    (event,), _ = run(log(tmp_path, odd), settings, capfdbinary)
    assert event["anomaly"]["novel"] is False


def random_log(blocks: int) -> list[bytes]:
    """Lines about many blocks, some bad, in an order that is drawn; not all about one."""
    rng = np.random.default_rng(4)
    said = ["heartbeat ok", "session opened for user", "nothing", "disk failure"]
    lines = [
        block(message, number)
        for number in range(blocks)
        for message in rng.choice(said, rng.integers(1, 10), p=[0.4, 0.3, 0.25, 0.05])
    ]
    lines += [b"090214 071530 9 INFO dfs.DataNode: no block here"] * blocks
    return [lines[place] for place in rng.permutation(len(lines))]


@pytest.mark.parametrize("rule", ["key", "count", "time"])
def test_a_pipe_and_a_file_in_pieces_of_any_size_give_the_same_events(
    tmp_path: Path,
    store: Store,
    settings: Settings,
    capfdbinary: pytest.CaptureFixture[bytes],
    typed: io.RawIOBase,
    rule: str,
) -> None:
    rules = {"key": None, "count": THREE, "time": SessionRule(by="time", seconds=2)}
    add_telling_model(store, "hdfs", rule=rules[rule])
    lines = [
        line.replace(b"071530", b"0715%02d" % (place // 5))
        for place, line in enumerate(random_log(60))
    ]
    lines = lines[:290]
    source = log(tmp_path, lines)
    found = [
        run(source, changed(settings, "batch", max_lines=size), capfdbinary)[0]
        for size in (1, 7, 100_000)
    ]
    assert len(found[0]) > 5
    assert untimed(found[0]) == untimed(found[1]) == untimed(found[2])
    typed.write(b"\n".join(lines))
    typed.close()
    piped = untimed(run("-", settings, capfdbinary)[0])
    for event in piped:
        assert event["source"] == {"topic": "stdin"}
        event["source"]["topic"] = "app.log"
        event["anomaly"]["id"] = event["anomaly"]["id"].replace("stdin/", "app.log/")
    assert piped == untimed(found[0])


def test_by_count_events_come_before_the_input_ends(
    store: Store,
    settings: Settings,
    capfdbinary: pytest.CaptureFixture[bytes],
    typed: io.RawIOBase,
) -> None:
    add_telling_model(store, "hdfs", rule=THREE)
    thread = threading.Thread(target=scan, args=("-", settings, lambda *_: FakeEncoder()))
    thread.start()
    # Of the second session, one line: the first is complete.
    typed.write(b"".join(block(said, 1) + b"\n" for said in ["ok", "disk failure", "ok", "ok"]))
    first = b""
    deadline = time.monotonic() + 30
    while b"\n" not in first and time.monotonic() < deadline:
        first += capfdbinary.readouterr().out
    assert thread.is_alive()
    typed.write(block("disk failure", 1))
    typed.close()
    thread.join(10)
    rest = capfdbinary.readouterr()
    events = checked(first + rest.out)
    assert [event["session"] for event in events] == [
        {"key": "1", "lines": 3, "first_offset": 0, "last_offset": 2},
        {"key": "4", "lines": 2, "first_offset": 3, "last_offset": 4},
    ]
    assert b"5 lines, 2 sessions, 2 anomalies" in rest.err


def test_of_much_text_the_right_lines_are_told(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs")
    padding = "word " * 200
    lines = [block(f"heartbeat ok {padding}{place}", place) for place in range(4_000)]
    for place in (0, 1_777, 3_999):
        lines[place] = block("disk failure", place)
    source = log(tmp_path, lines)
    events, _ = run(source, changed(settings, "batch", max_lines=500), capfdbinary)
    assert [event["body"] for event in events] == [
        "disk failure blk_0", "disk failure blk_1777", "disk failure blk_3999",
    ]  # fmt: skip


def test_lines_that_cannot_be_judged_are_counted_and_keep_their_numbers(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs", rule=THREE)
    lines = [
        block("long " * 100, 1),
        block("ok", 1),
        block("broken \xff", 1).replace(b"\xc3\xbf", b"\xff"),
        block("ok", 1),
        block("ok", 1),
        block("long " * 100, 1),
        block("disk failure", 1),
    ]
    settings = changed(settings, "batch", max_line_bytes=200)
    (event,), said = run(log(tmp_path, lines), settings, capfdbinary)
    assert event["session"] == {"key": "5", "lines": 2, "first_offset": 4, "last_offset": 6}
    assert "7 lines, 2 sessions, 1 anomalies" in said
    assert "2 of 7 lines cannot be judged: 2 oversized" in said
    settings = changed(settings, "model", threshold=0.0)
    (first, _), _ = run(log(tmp_path, lines), settings, capfdbinary)
    assert {line["text"] for line in first["anomaly"]["lines"]} == {
        "ok blk_1", "broken \N{REPLACEMENT CHARACTER} blk_1",
    }  # fmt: skip


def test_json_without_what_the_profile_needs_is_no_part_of_a_session(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs", rule=THREE, system=load_system("json"))
    lines = [b'{"message": "ok"}', b"no JSON", b'{"a": 1}', b"[1]", b'{"message": "ok"}'] * 2
    settings = changed(settings, "model", threshold=0.0)
    events, said = run(log(tmp_path, lines), settings, capfdbinary)
    assert [event["session"]["lines"] for event in events] == [3, 1]
    assert [event["session"]["last_offset"] for event in events] == [5, 9]
    assert "6 of 10 lines cannot be judged: 4 undecodable, 2 missing-field" in said


def test_the_threshold_of_the_settings_counts(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs")
    for threshold, keys in ((0.0, ["blk_1", "blk_2", "blk_3"]), (1.0, [])):
        given = changed(settings, "model", threshold=threshold)
        events, _ = run(log(tmp_path, LINES), given, capfdbinary)
        assert [event["session"]["key"] for event in events] == keys
        assert all(event["anomaly"]["threshold"] == threshold for event in events)


def test_a_hostile_key_is_text(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    system = load_system("hdfs").model_copy(update={"session": "key=([^;]*)"})
    add_telling_model(store, "hdfs", system=system)
    key = '\x1b[2J\x1b]0;"<b>\\\u202e\0'.replace(";", "")
    line = b"090214 071530 9 INFO dfs.DataNode: disk failure key=" + key.encode() + b";"
    settings = changed(settings, "model", threshold=0.0)
    scan(log(tmp_path, [line, block("ok", 1)]), settings, lambda *_: FakeEncoder())
    printed = capfdbinary.readouterr()
    (event,) = checked(printed.out)
    assert event["session"]["key"] == key
    assert b"\x1b" not in printed.out + printed.err


@pytest.mark.parametrize("by", ["key", "time"])
def test_a_log_without_what_makes_sessions_is_refused(
    tmp_path: Path,
    store: Store,
    settings: Settings,
    capfdbinary: pytest.CaptureFixture[bytes],
    by: str,
) -> None:
    rule = SessionRule(by="time", seconds=60) if by == "time" else None
    add_telling_model(store, "hdfs", rule=rule)
    source = log(tmp_path, [b"of another system", b"altogether"])
    expected = f"^app.log: no line has a {by} that the profile hdfs finds, .* systems check hdfs"
    with pytest.raises(InputError, match=expected):
        scan(source, changed(settings, "model", threshold=0.0), lambda *_: FakeEncoder())
    assert capfdbinary.readouterr().out == b""


def test_by_count_lines_of_another_system_are_read_whole_and_counted(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs", rule=THREE)
    _, said = run(log(tmp_path, [b"of another system", *LINES[:3]]), settings, capfdbinary)
    assert (
        "1 of 4 lines are not split by hdfs, and were read whole: see `trainer systems check hdfs "
        "FILE`"
    ) in said


def test_a_model_of_another_target_or_encoder_is_refused(
    tmp_path: Path, store: Store, settings: Settings
) -> None:
    version = add_telling_model(store, "hdfs")
    source = log(tmp_path, LINES)
    with pytest.raises(BundleVersionError, match=r"set encoder\.name=fake"):
        scan(source, settings, lambda *_: FakeEncoder("other"))
    rewrite(store.path("hdfs", version), lambda content: content.update(target="web"))
    with pytest.raises(StoreError, match="hdfs 0001 was adapted to another target, 'web'"):
        scan(source, settings, lambda *_: FakeEncoder())


def test_the_version_in_use_decides_what_is_judged(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_telling_model(store, "hdfs")
    add_tiny_model(store, "hdfs", system="hdfs")
    source = log(tmp_path, LINES)
    scan(source, settings, lambda *_: FakeEncoder())
    assert b"sessions" not in capfdbinary.readouterr().err
    store.use("hdfs", "0001")
    assert len(run(source, settings, capfdbinary)[0]) == 1


def adapted(folder: Path, store: Store) -> Adapted:
    """A base of one simulated log, adapted to another whose first sessions have labels."""
    system, rule = load_system("hdfs"), SessionRule(by="key")
    encoder, cache = FakeEncoder(), EmbeddingCache()
    logs = []
    for seed in (1, 2):
        path = folder / f"simulated-{seed}.log"
        write_simulated_log(system="hdfs", lines=1_500, anomaly_rate=0.3, seed=seed, output=path)
        logs.append(read_session_log(path, system, rule))
    readings = [fit_reading(one, system.drain, None) for one in logs]
    config = SessionConfig(
        hidden=4, layers=1, members=1, steps=8, batch=16, kept=2, adaptation_steps=8
    )
    base = train_session_base(
        [session_corpus("source", logs[0], readings[0], encoder, cache)],
        name="base",
        config=config,
        encoder=EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
        words=None,
        command="a test",
    )
    made = []

    def write(place: Path, version: str) -> None:
        made.append(
            adapt_sessions(
                base,
                logs[1],
                readings[1],
                target="hdfs",
                system=system,
                rule=rule,
                encoder=encoder,
                cache=cache,
                version=version,
                command="a test",
            )
        )
        write_session_bundle(place, made[0].bundle)

    store.add("hdfs", write)
    return made[0]


def test_sessions_are_judged_as_they_were_by_the_trainer(
    tmp_path: Path, store: Store, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    model = adapted(tmp_path, store)
    source = tmp_path / "simulated-2.log"
    events, said = run(str(source), settings, capfdbinary)
    keys = read_session_log(source, load_system("hdfs"), SessionRule(by="key")).sessions.keys
    expected = np.flatnonzero(model.scores >= model.bundle.manifest.threshold.value).tolist()
    assert 0 < len(expected) < len(keys)
    assert [event["session"]["key"] for event in events] == [keys[one] for one in expected]
    np.testing.assert_allclose(
        [event["anomaly"]["score"] for event in events], model.scores[expected], atol=1e-3
    )
    assert f"{len(keys):,} sessions, {len(expected):,} anomalies" in said
    raw = source.read_text(encoding="utf-8").splitlines()
    for event in events:
        first = event["anomaly"]["lines"][0]
        assert raw[first["offset"]] == event["attributes"]["log.record.original"]
        assert event["session"]["key"] in raw[first["offset"]]
        shares = [line["attention"] for line in event["anomaly"]["lines"]]
        assert shares == sorted(shares, reverse=True)


def test_the_schema_of_these_events_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(app, ["schema", "--sessions"]) == 0
    schema = json.loads(capfd.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == list(SessionEvent.model_fields)
