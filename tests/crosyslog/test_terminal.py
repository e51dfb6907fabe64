from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.errors import SettingError
from crosyslog.terminal import printable, run

ROOT = Path(__file__).parents[2]

app = typer.Typer(add_completion=False)


@app.command()
def good(number: int = 1) -> None:
    typer.echo(number)


@app.command()
def refused(reason: str) -> None:
    raise SettingError(reason)


@app.command()
def interrupted() -> None:
    raise KeyboardInterrupt


@app.command()
def leaves(status: int) -> None:
    raise typer.Exit(status)


@app.command()
def fails() -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 磁盘, \U0001f525", "plain, größer, 磁盘, \U0001f525"),
        ("[/red]<b>", "[/red]<b>"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("tab\t, nul\x00, bell\x07", "tab\\t, nul\\x00, bell\\x07"),
        ("line\n, c1 \x9b", "line\\n, c1 \\x9b"),
        ("\u202eright to left", "\\u202eright to left"),
        ("line\u2028, paragraph\u2029", "line\\u2028, paragraph\\u2029"),
        ("lone \ud800", "lone \\ud800"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_act_on_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text())
def test_any_text_is_one_line_that_can_be_written(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode()


def test_success_says_nothing_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["good", "--number", "7"]) == 0
    assert capsys.readouterr() == ("7\n", "")


def test_an_error_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["refused", "first\nsecond \x1b[31m"]) == 2
    assert capsys.readouterr() == ("", "error: first second \\x1b[31m\n")


@pytest.mark.parametrize(
    "arguments",
    [["nosuch"], ["good", "--nosuch"], ["good", "--number", "x"], ["refused"], ["good", "more"]],
)
def test_a_wrong_use_is_one_line_and_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_ctrl_c_is_130_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["interrupted"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_status_of_a_command_is_kept(status: int) -> None:
    assert run(app, ["leaves", str(status)]) == status


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        run(app, ["fails"])


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_away_ends_it_quietly(lines: int) -> None:
    code = (
        "import sys, typer\nfrom crosyslog.terminal import run\napp = typer.Typer()\n"
        f"@app.command()\ndef many():\n    for n in range({lines}):\n        print(n)\n"
        "sys.stdin.read()\nsys.exit(run(app, []))"
    )
    many = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert many.stdout is not None
    many.stdout.close()
    many.stdout = None
    assert many.communicate(timeout=30)[1] == b""
    assert many.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("program", ["trainer", "agent"])
def test_a_disk_that_is_full_is_one_line(program: str, tmp_path: Path) -> None:
    words = {"trainer": ["models", "--store", str(tmp_path)], "agent": ["schema"]}[program]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", program, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: the output cannot be written: No space left")
    assert ended.stderr.count(b"\n") == 1
