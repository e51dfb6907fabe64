"""`trainer tune` as users start, kill and interrupt it: processes of their own, prepared logs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.trainer.made import messages, write_log
from tests.trainer.preparing import command, prepare, refused
from tests.trainer.tuned import QUICK, two_logs
from trainer.config_files import read_config
from trainer.training import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPACE = "projected = [4, 5, 6, 7]\ninner_steps = {low = 1, high = 2}\nnoise = {low = 0, high = 1}\n"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return two_logs(tmp_path_factory.mktemp("logs"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: tuple[Path, Path]) -> Path:
    """A folder with a quick configuration, a small space, and links to the logs."""
    monkeypatch.chdir(tmp_path)
    for log in logs:
        Path(log.name).symlink_to(log)
    Path("quick.toml").write_text(QUICK)
    Path("space.toml").write_text(SPACE)
    return tmp_path


ARGUMENTS = (
    "tune", "--source", "spirit=spirit", "--source", "liberty=liberty", "--config", "quick.toml",
    "--space", "space.toml", "--output", "out", "--trials",
)  # fmt: skip


def start(*arguments: object) -> subprocess.Popen[str]:
    program = "import sys; from trainer.cli import main; sys.exit(main())"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", program, *(str(argument) for argument in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def session_of(folder: Path) -> Path:
    """Where Ray's own files of a search are that runs in a folder."""
    return Path((folder / ".ray").read_text(encoding="utf-8"))


def processes_of(session: Path) -> list[str]:
    """The titles of processes that name a session of Ray, or have a file of it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes().decode(errors="replace")
            files = [os.readlink(link) for link in (process / "fd").iterdir()]  # noqa: PTH115
        except OSError:
            continue
        if any(str(session) in name for name in (title, *files)):
            found.append(title)
    return found


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.05)


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_bytes()) for path in folder.glob("trials/*.json")}


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test may leave behind when it fails."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_killed_search_goes_on_and_keeps_what_it_had(
    place: Path, running: list[subprocess.Popen[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    out = place / "out"
    running.append(start(*ARGUMENTS, 2))
    until(
        lambda: (
            any(trial["state"] != "unfinished" for trial in recorded(out).values())
            or running[0].poll() is not None
        )
    )
    session = session_of(out)
    assert processes_of(session)
    running[0].kill()
    running[0].wait()
    before = {
        number: (out / "trials" / f"{number}.json").read_bytes()
        for number, trial in recorded(out).items()
        if trial["state"] != "unfinished"
    }
    assert before
    # Ray's own follow, but not all at once: the next search ends what is left.
    until(lambda: not any("raylet" in title for title in processes_of(session)), 60)

    running.append(start(*ARGUMENTS, 2, "--json"))
    printed, said = running[1].communicate(timeout=300)
    assert (running[1].returncode, said) == (0, "")
    report = json.loads(printed)
    for number, kept in before.items():
        assert (out / "trials" / f"{number}.json").read_bytes() == kept
    assert {trial["state"] for trial in report["trials"]} <= {"finished", "stopped"}
    assert "finished" in {trial["state"] for trial in report["trials"]}
    assert not session.exists()
    assert not processes_of(session)
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "best.toml", "search.json", "trials", "trials.csv", "trials.svg",
    ]  # fmt: skip
    settings = [json.dumps(trial["settings"]) for trial in report["trials"]]
    assert len(set(settings)) == 2
    best = report["trials"][report["best"]]
    assert read_config(out / "best.toml", TrainingConfig) == TrainingConfig.model_validate(
        best["settings"]
    )
    assert str(place) not in (out / "best.toml").read_text() + (out / "trials.csv").read_text()
    rows = list(csv.DictReader((out / "trials.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows] == ["0", "1"]

    # All is known now: nothing is started, and the same is said again.
    assert command(*ARGUMENTS, 2) == 0
    printed = capfd.readouterr().out
    assert "2 trials: " in printed
    assert "out/best.toml" in printed
    assert refused(capfd, *ARGUMENTS, 2, "--seed", 1) == (
        "error: --output out is of another search: seed differ; give what was given before, or "
        "name a folder that is to be made\n"
    )
    assert "holds more than 1 trials" in refused(capfd, *ARGUMENTS, 1)


def test_an_interrupted_search_leaves_no_process(
    place: Path, running: list[subprocess.Popen[str]]
) -> None:
    running.append(start(*ARGUMENTS, 3))
    until(lambda: (place / "out" / ".ray").exists() or running[0].poll() is not None)
    session = session_of(place / "out")
    until(lambda: any("raylet" in line for line in processes_of(session)))
    os.killpg(running[0].pid, signal.SIGINT)
    printed, _ = running[0].communicate(timeout=60)
    assert (running[0].returncode, printed) == (130, "")
    assert not processes_of(session)
    assert not session.exists()
    # It was not yet worth anything: the next search makes it anew.
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "spirit=spirit"), "two or more"),
        (("--source", "spirit=spirit", "--source", "spirit=liberty"), "given twice"),
        (("--source", "spirit=spirit", "--source", "liberty"), "write NAME=PATH"),
        (("--source", "spirit=spirit", "--source", "liberty=nowhere"), "cannot read nowhere"),
        (("--source", "spirit=spirit", "--source", "liberty=short"), "source liberty: the log is"),
        (("--space", "nowhere.toml"), "cannot read the space nowhere.toml"),
        (("--config", "nowhere.toml"), "cannot read the settings nowhere.toml"),
        (("--address", "somewhere"), "--address somewhere: write ray://HOST:PORT"),
        (("--trials", "0"), "--trials"),
    ],
)
def test_tune_refuses(
    place: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    log = write_log(place / "short.log", *messages(2000))
    prepare(log, output=place / "short", system="liberty")
    given = [*arguments]
    if "--config" not in given:
        given += ["--config", "quick.toml"]
    if "--source" not in given:
        given += ["--source", "spirit=spirit", "--source", "liberty=liberty"]
    if "--trials" not in given:
        given += ["--trials", "2"]
    assert said in refused(capfd, "tune", *given, "--output", "out")
    assert not (place / "out").exists()


def test_without_ray_a_line_says_what_to_install(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.tuning.cluster.find_spec", lambda name: name != "ray" or None)
    assert place.exists()
    assert "install the extra crosyslog[trainer]" in refused(capfd, *ARGUMENTS, "2")
