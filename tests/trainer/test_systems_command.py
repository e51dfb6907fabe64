"""`trainer systems`: every profile can be listed, shown and tried on a log."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from crosyslog import terminal
from crosyslog.systems import load_system, system_names
from tests.pipes import piped
from trainer import log_batches
from trainer.cli import app

if TYPE_CHECKING:
    from pathlib import Path

NAMES = system_names()


class Trainer:
    """Runs `trainer systems`."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def says(self, *arguments: object) -> str:
        assert terminal.run(app, ["systems", *map(str, arguments)]) == 0
        return self._capfd.readouterr().out

    def reports(self, *arguments: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
        return json.loads(self.says(*arguments, "--json"))

    def refuses(self, *arguments: object) -> str:
        assert terminal.run(app, ["systems", *map(str, arguments)]) == 2
        return self._capfd.readouterr().err


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str]) -> Trainer:
    return Trainer(capfd)


def test_all_are_listed(trainer: Trainer) -> None:
    assert list(trainer.reports()) == NAMES
    assert len(trainer.says().splitlines()) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_shown_as_it_is(trainer: Trainer, name: str) -> None:
    system = load_system(name)
    shown = trainer.says("show", name)
    for text in (*system.patterns, system.session or "", *system.fields.text):
        assert text in shown
    said = [line.split() for line in shown.splitlines() if "sessions by" in line]
    assert said == [["sessions", "by", str(rule)] for rule in [system.sessions] if rule]
    assert shown.count("is judged as") == len(system.examples)
    assert "but its line has" not in shown
    assert trainer.reports("show", name) == system.model_dump(mode="json")


def test_the_paths_of_json_are_shown(trainer: Trainer) -> None:
    assert "path of message    message, msg, log, " in trainer.says("show", "json")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_tried_on_its_own_examples(trainer: Trainer, tmp_path: Path, name: str) -> None:
    system = load_system(name)
    log = tmp_path / "log.gz"
    log.write_bytes(gzip.compress("\n".join(e.line for e in system.examples).encode()))
    report = trainer.reports("check", name, log)
    assert report["lines"] == report["split"] == len(system.examples)
    assert report["first_unsplit"] is None
    sessions = {example.session for example in system.examples} - {None}
    assert report.get("sessions", 0) == len(sessions)
    shown = trainer.says("check", name, log)
    assert ("sessions" in shown) == ("session" in system.groups)
    assert ("times" in shown) == ("time" in system.groups)


def test_an_example_that_splits_otherwise_is_pointed_out(trainer: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(
        "name = 'ours'\ndescription = 'x'\npattern = '^(?P<host>[a-z]+) (?P<message>.*)$'\n"
        "[[examples]]\nline = 'web up'\nhost = 'wob'\nmessage = 'up'\ntext = 'up'\n"
        "[[examples]]\nline = '7'\nmessage = '7'\ntext = '7'\n",
        encoding="utf-8",
    )
    shown = trainer.says("show", path)
    assert "but its line has  host web\n" in shown
    assert "but its line has  not split\n" in shown
    (log := tmp_path / "log").write_text("web up\n", encoding="utf-8")
    assert f"2 of the profile's 2: see `trainer systems show {path}`" in (
        trainer.says("check", path, log)
    )
    assert trainer.reports("check", path, log)["wrong_examples"] == [
        {"number": 1, "line_has": ["host web"]},
        {"number": 2, "line_has": ["not split"]},
    ]


def test_a_log_is_looked_at_piece_by_piece(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = "090214 07153{} 9 INFO dfs.DataNode: got blk_{}\n"
    lines = [block.format(number % 10, number % 3) for number in range(10)]
    lines[7] = "\x1b[2Jno header \u202e[red]\n"
    log = tmp_path / "hdfs.log"
    log.write_text("".join(lines), encoding="utf-8")
    whole = trainer.says("check", "hdfs", log)
    assert "line 8: \\x1b[2Jno header \\u202e[red]\n" in whole
    assert "2009-02-14 07:15:30 to 2009-02-14 07:15:39 UTC, and 1 lines of none" in whole
    assert "3, and 1 lines of none" in whole
    monkeypatch.setattr(log_batches, "_BATCH_LINES", 3)
    monkeypatch.setattr(log_batches, "_CHUNK_LINES", 3)
    assert trainer.says("check", "hdfs", log) == whole
    assert trainer.reports("check", "hdfs", log) == {
        "system": "hdfs",
        "lines": 10,
        "split": 9,
        "first_unsplit": {"number": 8, "text": "\x1b[2Jno header \u202e[red]"},
        "labels": {"alert": 0, "normal": 0, "none": 10},
        "times": {
            "first": "2009-02-14T07:15:30+00:00",
            "last": "2009-02-14T07:15:39+00:00",
            "none": 1,
        },
        "sessions": 3,
        "without_session": 1,
        "wrong_examples": [],
    }
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(log.read_bytes())))
    assert trainer.says("check", "hdfs", "-") == whole.replace(str(log), "standard input")


def test_a_log_may_come_through_a_pipe(trainer: Trainer) -> None:
    with piped(b"a line of some length\n" * 3_000) as path:
        assert trainer.reports("check", "plain", path)["lines"] == 3_000


def test_an_empty_file_is_refused(trainer: Trainer, tmp_path: Path) -> None:
    log = tmp_path / "empty.log"
    log.touch()
    assert trainer.refuses("check", "syslog", log) == (
        f"error: {log} is empty: a log with at least one line is needed\n"
    )
    log.write_text("no time\n", encoding="utf-8")
    times = trainer.reports("check", "syslog", log)["times"]
    assert times == {"first": None, "last": None, "none": 1}
    assert "none was read" in trainer.says("check", "syslog", log)


def test_standard_input_without_a_line_is_refused(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert trainer.refuses("check", "syslog", "-") == (
        "error: standard input is empty: a log with at least one line is needed\n"
    )
    monkeypatch.setattr("sys.stdin", None)
    assert trainer.refuses("check", "syslog", "-") == (
        "error: cannot read standard input: it is closed; pipe a log in\n"
    )
