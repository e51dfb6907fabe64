"""`crosyslog-agent scan`: files, standard input, and what cannot be scanned."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from agent.scanning import scan
from agent.settings import load_settings
from crosyslog.errors import InputError
from crosyslog.store import Store
from tests.fakes import FakeEncoder, add_tiny_model, tiny_bundle

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path

    from agent.settings import Settings

LINES = [b"heartbeat ok", b"disk failure", b"session opened for user", b"kernel panic on node 7"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """On a store with a model `tiny`, which knows the lines above."""
    store = Store(tmp_path / "store")
    add_tiny_model(store, "tiny", system="plain")
    return load_settings(
        flags={
            "model.store": str(store.root),
            "encoder.cache": str(tmp_path / "cache"),
            "batch.max_lines": "3",
            "batch.linger": "50ms",
        }
    )


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.RawIOBase]:
    """The end of a pipe whose other end is standard input."""
    reader, writer = os.pipe()
    with open(reader) as stdin, open(writer, "wb", buffering=0) as end:  # noqa: PTH123 - descriptors
        monkeypatch.setattr(sys, "stdin", stdin)
        yield end


def run(
    source: str, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> tuple[list[dict[str, Any]], str]:
    """The events and what was said beside them."""
    scan(source, settings, lambda *_: FakeEncoder())
    printed = capfdbinary.readouterr()
    return [json.loads(line) for line in printed.out.splitlines()], printed.err.decode()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file(
    tmp_path: Path, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes], ending: str
) -> None:
    path = tmp_path / f"tiny.log{ending}"
    content = b"\n".join(LINES) + b"\n"
    path.write_bytes(gzip.compress(content) if ending else content)

    events, said = run(str(path), settings, capfdbinary)

    assert [event["source"] for event in events] == [
        {"topic": path.name, "partition": 0, "offset": 1},
        {"topic": path.name, "partition": 0, "offset": 3},
    ]
    assert [event["anomaly"]["model"]["target"] for event in events] == ["tiny", "tiny"]
    assert "4 lines, 2 anomalies" in said


def test_without_a_model_of_its_own_the_base_judges_and_says_so(
    tmp_path: Path, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "unheard-of.log"
    path.write_bytes(LINES[0])
    tiny_bundle(tmp_path / "base", kind="base", target="a-base")
    model = settings.model.model_copy(update={"base": str(tmp_path / "base")})

    _, said = run(str(path), settings.model_copy(update={"model": model}), capfdbinary)

    assert "no model for 'unheard-of' (there are models for tiny)" in said
    assert "running on the base 'a-base', lines read as plain" in said
    assert "trainer adapt --target unheard-of" in said


def test_lines_of_another_system_are_counted(
    tmp_path: Path, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_tiny_model(Store(tmp_path / "store"), "spirit", system="spirit")
    path = tmp_path / "spirit.log"
    path.write_bytes(b"\n".join(LINES))
    _, said = run(str(path), settings, capfdbinary)
    assert "4 of 4 lines are not split by spirit, and were judged whole" in said


def test_standard_input_is_judged_as_it_comes(
    settings: Settings, capfdbinary: pytest.CaptureFixture[bytes], typed: io.RawIOBase
) -> None:
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"target": "tiny"})}
    )
    thread = threading.Thread(target=scan, args=("-", settings, lambda *_: FakeEncoder()))
    thread.start()
    typed.write(b"disk failure\nkernel pa")

    # The first line is judged although neither the batch nor the input is at its end.
    first = b""
    while b"\n" not in first:
        first += capfdbinary.readouterr().out
    typed.write(b"nic on node 3\ndisk failure")
    typed.close()
    thread.join(10)

    rest = capfdbinary.readouterr()
    events = [json.loads(line) for line in (first + rest.out).splitlines()]
    assert [event["source"]["offset"] for event in events] == [0, 1, 2]
    assert {event["source"]["topic"] for event in events} == {"stdin"}
    assert b"3 lines, 3 anomalies" in rest.err


def test_hostile_lines_cannot_act_on_the_terminal(
    tmp_path: Path, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "tiny.log"
    path.write_bytes(b"\x1b[2J [/red]\n<script>\nbroken \xff\nNUL \x00\n")
    model = settings.model.model_copy(update={"threshold": 0.0})

    events, _ = run(str(path), settings.model_copy(update={"model": model}), capfdbinary)

    assert [event["body"] for event in events] == [
        "\x1b[2J [/red]", "<script>", "broken \N{REPLACEMENT CHARACTER}", "NUL \x00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "is empty"), (bytes(range(32)) * 40, "holds binary data"), (None, "cannot read")],
)
def test_what_is_no_log(
    tmp_path: Path, settings: Settings, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "machine.log"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InputError, match=expected):
        scan(str(path), settings, lambda *_: FakeEncoder())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bytes(range(32)) * 40, "standard input is not a log: it holds binary data"),
        (gzip.compress(b"heartbeat ok", mtime=0), "decompress it first, with `gzip -dc`"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "decompress it first, with `zstd -dc`"),
    ],
)
def test_standard_input_that_is_no_log(
    settings: Settings, typed: io.RawIOBase, content: bytes, expected: str
) -> None:
    typed.write(content)
    typed.close()

    with pytest.raises(InputError, match=expected):
        scan("-", settings, lambda *_: FakeEncoder())


def test_a_file_name_cannot_act_on_the_terminal(
    tmp_path: Path, settings: Settings, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "evil\x1b[2J.log"
    path.write_bytes(LINES[0])
    tiny_bundle(tmp_path / "base", kind="base", target="a-base")
    model = settings.model.model_copy(update={"base": str(tmp_path / "base"), "target": path.name})

    _, said = run(str(path), settings.model_copy(update={"model": model}), capfdbinary)

    assert "\x1b" not in said
    assert "no model for 'evil\\x1b[2J" in said
