"""What the demo sends and shows, and what it says to wrong options."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from crosyslog.errors import BrokerError, CrosyslogError, InputError, LabelError
from crosyslog.systems import System, load_system
from deploy.demo import __main__ as demo
from deploy.demo import processes
from deploy.demo.__main__ import Options, main
from deploy.demo.replay import Replay, load_replay
from deploy.demo.show import EventView, Summary, show_summary

ALERT = "R_DISK 1131523501 2005.11.09 n1 Nov 9 08:05:01 n1/n1 kernel: disk is gone"
NORMAL = "- 1131523502 2005.11.09 n2 Nov 9 08:05:02 n2/n2 sshd[7]: session opened"


def write_log(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_labels_are_taken_off_and_kept_aside(tmp_path: Path) -> None:
    broken = NORMAL.encode() + b" \xff\xfe"
    log = write_log(tmp_path / "log", [NORMAL.encode(), ALERT.encode(), broken, b"no log line"])
    replay = load_replay(log, load_system("thunderbird"), 1)
    assert replay.support == [NORMAL.encode() + b"\n"]
    assert replay.labels == [True, False, False]
    assert replay.lines == [ALERT.encode()[7:], broken[2:], b"no log line"]


def test_a_log_that_is_too_short_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", [NORMAL.encode()] * 5)
    with pytest.raises(InputError, match="holds 5 lines"):
        load_replay(log, load_system("thunderbird"), 5)


def test_a_log_of_another_system_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", [NORMAL.encode()] * 5)
    with pytest.raises(InputError, match="is no log of bgl"):
        load_replay(log, load_system("bgl"), 2)


@pytest.mark.parametrize("system", ["thunderbird", "plain"])
def test_a_log_without_labels_is_refused(tmp_path: Path, system: str) -> None:
    log = write_log(tmp_path / "log", [NORMAL.encode()[2:]] * 5)
    with pytest.raises(LabelError, match="no line has a label"):
        load_replay(log, load_system(system), 2)


def test_a_label_that_is_not_in_front_is_refused(tmp_path: Path) -> None:
    system = System(name="behind", description="", pattern=r"^(?P<message>.*) (?P<label>\S+)$")
    log = write_log(tmp_path / "log", [b"all is well -"] * 5)
    with pytest.raises(LabelError, match="not a line's first field"):
        load_replay(log, system, 2)


def event(body: str, template: str = "a") -> dict[str, Any]:
    return {
        "timestamp": "2005-11-09T08:05:01+00:00",
        "body": body,
        "attributes": {"component": "kernel"},
        "resource": {"host.name": "n1"},
        "anomaly": {
            "score": 0.75,
            "template_id": template,
            "novel": False,
            "nearest": [{"template": "[/red] \x1b[31m", "label": "alert", "similarity": 0.9}],
        },
    }


def test_hostile_text_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    EventView().show(event("[/red] \x1b[2J <script>alert(1)</script>"))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[/red] \\x1b[2J <script>alert(1)</script>" in shown


def test_a_template_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    view = EventView()
    for template in ("a", "b", "a", "a"):
        view.show(event(f"line of {template}", template))
    assert view.hidden == 2
    assert capsys.readouterr().out.count("line of") == 2


def test_a_run_without_events_has_no_precision(capsys: pytest.CaptureFixture[str]) -> None:
    summary = Summary(
        first_event_s=None, total_s=9.0, support=1, sent=2, scored=2, lines_per_s=1.0, events=0,
        alerts=0, precision=None, recall=None, base="b", metrics="m",
    )  # fmt: skip
    show_summary(summary, 0)
    shown = capsys.readouterr().out
    assert "first event  after none" in shown
    assert "precision    none" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--log", "x.log"], "LOG needs SYSTEM=name"),
        (["--system", "spirit"], "SYSTEM needs LOG=path"),
        (["--json", "/nowhere/at/all.json"], "its folder does not exist"),
        (["--support", "0"], "--support 0: it must be 1 or more"),
        (["--log", "missing.log", "--system", "thunderbird"], "cannot read missing.log"),
        (["--log", "missing.log", "--system", "thunderbirb"], "unknown system 'thunderbirb'"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(options)
    except SystemExit as error:
        status = int(error.code or 0)
    captured = capsys.readouterr()
    assert status == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("status", "raised"), [(130, KeyboardInterrupt), (2, CrosyslogError)])
def test_a_command_that_ctrl_c_reaches_first_interrupts_the_demo(
    monkeypatch: pytest.MonkeyPatch, status: int, raised: type[BaseException]
) -> None:
    program = [sys.executable, "-c", f"raise SystemExit({status})"]
    monkeypatch.setattr(processes, "_program", lambda _: program)
    with pytest.raises(raised):
        asyncio.run(processes.run_command({}, "trainer", "adapt"))


@pytest.mark.parametrize("error", [BrokerError("it is gone"), OSError("it is gone")])
def test_what_an_interrupt_makes_fail_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def interrupted(*_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        raise error

    async def failing(*_: object) -> None:
        raise error

    options = Options(log=None, system="spirit", kafka=None, json=None, support=1)
    given = options, load_system("spirit"), Replay([], [], []), 0.0
    monkeypatch.setattr(demo, "_run", interrupted)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(demo._run_until_interrupted(*given))
    monkeypatch.setattr(demo, "_run", failing)
    with pytest.raises(type(error), match="it is gone"):
        asyncio.run(demo._run_until_interrupted(*given))
