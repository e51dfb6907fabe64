"""The commands of the README and of the first pages run as they stand, in a scratch folder."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from crosyslog.store import Store
from deploy.local_kafka import create_topics
from tests.conftest import absent
from tests.docs.markdown import ROOT, blocks, commands, typed
from trainer.simulation import write_simulated_log

if TYPE_CHECKING:
    from tests.conftest import KafkaAddress

#: What is not run: `make` installs what runs these tests, or has tests of its own (the demo), or
#: is one; no container engine is asked for.
_NOT_RUN = {"make", "docker"}

#: Most pages take a tenth of this on two idle cores.
_PATIENCE_SECONDS = 240

#: Where `trainer label` waits for a key.
_QUESTION = "q quit: "

_ANSWERS = 25

#: Makes a terminal the controlling one of a shell, in which programs then find it.
_AT_A_TERMINAL = "import os, sys; os.login_tty(0); os.execvp('bash', ['bash', sys.argv[1]])"

#: A user with a spreadsheet.
_FILL_IN = """\
import csv, sys
with open(sys.argv[1], encoding="utf-8", newline="") as stream:
    rows = list(csv.DictReader(stream))
for number, row in enumerate(rows):
    row["label"] = "alert" if number % 5 == 4 else "normal"
with open(sys.argv[1], "w", encoding="utf-8", newline="") as stream:
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty folder, beside a home of its own."""
    if which("curl") is None:
        absent("curl", "pages look at the agent's port with it")
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def script(page: Path, port: int, replaced: dict[str, str]) -> str:
    """The commands of a page as one script, the agent's port and other words replaced.

    An agent that would run for good is put into the background, and waited for.
    """
    ready = f"until curl -sf http://127.0.0.1:{port}/readyz; do kill -0 $!; sleep 0.2; done"
    found = ["set -euo pipefail"]
    for block in blocks(page, "console"):
        for line in typed(block):
            for old, new in {**replaced, "127.0.0.1:9464": f"127.0.0.1:{port}"}.items():
                line = line.replace(old, new)  # noqa: PLW2901 - the same line
            words = list(commands(line))
            if any(command[0] in _NOT_RUN for command in words):
                continue
            found.append(line)
            if words and words[0][0] == "crosyslog-agent" and words[0][1].startswith("-"):
                found += [ready] if line.endswith("&") else [" &", ready]
    text = "\n".join(found).replace("\n &", " &")
    return text + "\nfor running in $(jobs -p); do kill $running; wait $running; done\n"


def run(folder: Path, text: str, port: int) -> str:
    """Runs a script at a terminal, answers what it asks there, and returns what it showed."""
    path = folder.parent / "script.sh"
    path.write_text(text, encoding="utf-8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CROSYSLOG_", "XDG_"))
    } | {
        "HOME": str(folder.parent / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CROSYSLOG_HTTP__PORT": str(port),
        "TERM": "dumb",
        "COLUMNS": "100",
    }
    screen, terminal = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-c", _AT_A_TERMINAL, str(path)],
        cwd=folder,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    try:
        shown = talk(shell, screen)
        status = shell.wait(10)
    finally:
        # Its group are the shell and all that it has put into the background.
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        os.close(terminal)
        os.close(screen)
    assert status == 0, shown
    return shown


def talk(shell: subprocess.Popen[bytes], screen: int) -> str:
    """What is shown until the shell ends; questions are answered meanwhile, some of them."""
    shown, seen, answers = "", 0, 0
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        ended = shell.poll() is not None
        while select.select([screen], [], [], 0 if ended else 0.1)[0]:
            shown += os.read(screen, 65536).decode(errors="replace")
        if ended:
            return shown
        assert time.monotonic() < deadline, shown
        if _QUESTION in shown[seen:]:
            # What comes before it listens is thrown away.
            while termios.tcgetattr(screen)[3] & termios.ECHO:
                time.sleep(0.02)
            seen, answers = len(shown), answers + 1
            key = "q" if answers > _ANSWERS else "a" if answers % 5 == 0 else "n"
            os.write(screen, key.encode())


def simulated(folder: Path, system: str, lines: int) -> list[tuple[str, str]]:
    """Labels and lines of a simulated log, the label taken off."""
    path = folder.parent / "simulated.log"
    write_simulated_log(system=system, lines=lines, anomaly_rate=0.1, seed=5, output=path)
    rows = path.read_text(encoding="utf-8", errors="replace").split("\n")[:lines]
    return [(label, rest) for label, _, rest in (row.partition(" ") for row in rows)]


def as_syslog(lines: list[tuple[str, str]]) -> str:
    """The lines of a simulated Thunderbird without what stands before the daemon's own line."""
    return "".join(rest.split(" ", 3)[3] + "\n" for _, rest in lines)


def store(folder: Path) -> Store:
    return Store(folder.parent / "home" / ".local" / "share" / "crosyslog" / "models")


def judged_lines(events: Path) -> list[str]:
    """The lines that a file of events is about, sorted."""
    found = [json.loads(event) for event in events.read_bytes().splitlines()]
    return sorted(event["attributes"]["log.record.original"] for event in found)


@pytest.mark.kafka
async def test_the_readme_runs(kafka: KafkaAddress, scratch: Path) -> None:
    lines = simulated(scratch, "thunderbird", 3_000)
    (scratch / "labelled.log").write_text("".join(f"{a} {b}\n" for a, b in lines[:1_000]))
    (scratch / "app.log").write_text("".join(f"{rest}\n" for _, rest in lines[1_000:]))
    (scratch / "web.log").write_text(as_syslog(lines))
    await create_topics(kafka.bootstrap_servers, {"thunderbird-logs": 1})
    port = free_port()
    text = script(ROOT / "README.md", port, {"localhost:9092": kafka.bootstrap_servers})
    shown = await asyncio.to_thread(run, scratch, text, port)
    assert store(scratch).targets() == ["thunderbird", "web"]
    with store(scratch).labels("web").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == _ANSWERS
    assert "reading thunderbird-logs as crosyslog-thunderbird-logs" in shown
    assert re.search(r"2,000 lines, [1-9]\d* anomalies", shown)


@pytest.mark.kafka
@pytest.mark.usefixtures("java_and_maven")
def test_the_quick_start_runs(scratch: Path) -> None:
    port = free_port()
    run(scratch, script(ROOT / "docs" / "quickstart.md", port, {}), port)
    scanned, events = (
        judged_lines(scratch / "scanned.jsonl"),
        judged_lines(scratch / "events.jsonl"),
    )
    assert events
    # As the page says: the agent finds what `scan` finds.
    assert events == scanned
    # And what the page on detection takes for its example is so.
    explained = (ROOT / "docs" / "how-detection-works.md").read_text(encoding="utf-8")
    scores = {
        event["anomaly"]["template"]: event["anomaly"]["score"]
        for event in map(json.loads, (scratch / "events.jsonl").read_bytes().splitlines())
    }
    rows = re.findall(r"(?m)^\| `([^`]+)` \| \.[^|]*\| ([01]\.\d+) \|", explained)
    assert len(rows) == 3
    for template, score in rows:
        # Machines differ in the last bits of a vector, and so does what is learnt from it.
        assert scores[template] == pytest.approx(float(score), abs=0.05)


def test_adapting_to_a_system_runs(scratch: Path) -> None:
    lines = simulated(scratch, "thunderbird", 12_600)
    (scratch / "web.log").write_text(as_syslog(lines))
    (scratch / "web-labels.csv").write_text(
        "line,label\n"
        + "".join(
            f"{number},{'normal' if label == '-' else 'alert'}\n"
            for number, (label, _) in enumerate(lines, start=1)
        )
    )
    (scratch.parent / "fill_in.py").write_text(_FILL_IN)
    answered = f"python {scratch.parent / 'fill_in.py'} ask.csv"
    port = free_port()
    page = ROOT / "docs" / "adapt.md"
    shown = run(scratch, script(page, port, {"# fill in ask.csv, then:": answered}), port)
    assert "40 answers taken in" in shown
    assert store(scratch).current("web") == "0001"
    assert json.loads((scratch / "events.jsonl").read_text().splitlines()[0])["anomaly"]["id"]
    judged = json.loads((scratch / "judged" / "evaluation.json").read_text())
    assert set(judged["methods"]) >= {"crosyslog", "logreg"}
    assert (scratch / "judged" / "evaluation.html").is_file()


def test_a_page_with_a_command_that_fails_is_found(scratch: Path) -> None:
    page = scratch.parent / "page.md"
    page.write_text(
        "```console\nsleep 321 &\necho $! > pid\nmake nothing\ncat no-such-file\ntouch after\n```\n"
    )
    with pytest.raises(AssertionError, match="no-such-file"):
        run(scratch, script(page, free_port(), {}), free_port())
    assert [path.name for path in scratch.iterdir()] == ["pid"]
    left = Path("/proc") / (scratch / "pid").read_text().strip()
    deadline = time.monotonic() + 10
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left.exists()
