"""`trainer train`: stopped by whatever, the same command goes on, and ends with the same base."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crosyslog import terminal
from tests.trainer.made import messages, write_log
from trainer import resumption
from trainer.checkpoint import read_checkpoint
from trainer.cli import app
from trainer.resumption import kept_state
from trainer.training import MetaTraining

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 8

QUICK = (
    "inner_steps = 2\nprojected = 4\nhidden = 3\nsupport_lines = 200\nquery_windows = 2\n"
    "tasks_a_source = 1\n"
)

TRAIN = shlex.split(
    "train --source spirit=spirit.log --detector maml_lstm --config quick.toml --output made"
)

#: The command as it is, with the quick encoder, a checkpoint after every second step, and a signal
#: to itself in the middle of an outer step: its tasks are drawn by then, and its weights not moved.
STOPPED = """
import os, sys
import crosyslog.encoder, trainer.resumption, trainer.training
from crosyslog.terminal import run
from tests.fakes import FakeEncoder
from trainer.cli import app

crosyslog.encoder.load_encoder = lambda *_, **__: FakeEncoder()
trainer.resumption.CHECKPOINT_SECONDS = 0
save, meta_loss = trainer.training.MetaTraining.save, trainer.training.meta_loss
number, step = int(sys.argv.pop(1)), int(sys.argv.pop(1))
calls = 0

def save_every_other(training, path):
    if training.step % 2 == 0:
        save(training, path)

def stop(*arguments, **options):
    global calls
    calls += 1
    if calls == step:
        os.kill(os.getpid(), number)
    return meta_loss(*arguments, **options)

trainer.training.MetaTraining.save, trainer.training.meta_loss = save_every_other, stop
sys.exit(run(app))
"""

pytestmark = pytest.mark.usefixtures("log")


@pytest.fixture
def log(here: Path) -> Path:
    """A log of Spirit with room for some tasks, and settings for it."""
    settings(STEPS)
    return write_log(here / "spirit.log", *messages(11_700))


def settings(steps: int) -> None:
    Path("quick.toml").write_text(f"outer_steps = {steps}\n{QUICK}", encoding="utf-8")


def stopped(by: signal.Signals, step: int) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own that is sent a signal in the middle of a step."""
    environment = {**os.environ, "PYTHONPATH": str(Path(resumption.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", STOPPED, str(int(by)), str(step), *TRAIN],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def train(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command here; returns its status and what it said on standard error."""

    def run(*more: str) -> tuple[int, str]:
        status = terminal.run(app, [*TRAIN, *more])
        return status, capfd.readouterr().err

    return run


def weights(folder: str = "made") -> bytes:
    return Path(folder, "weights.safetensors").read_bytes()


def kept() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.name.startswith("."))


def test_a_killed_run_goes_on_to_the_same_base(train: Callable[..., tuple[int, str]]) -> None:
    assert train() == (0, "")
    Path("made").rename("whole")
    assert stopped(signal.SIGKILL, 6).returncode == -signal.SIGKILL
    assert not Path("made").exists()
    assert kept() == [".made.training"]
    # Killed in step 6, kept after step 4; killed again in the third step of the next run.
    again = stopped(signal.SIGKILL, 3)
    assert again.stderr == f"going on at step 4 of {STEPS}\n"
    assert train() == (0, f"going on at step 6 of {STEPS}\n")
    assert weights() == weights("whole")
    assert Path("made/support.parquet").read_bytes() == Path("whole/support.parquet").read_bytes()
    ours, whole = (
        json.loads(Path(folder, "manifest.json").read_text(encoding="utf-8"))
        for folder in ("made", "whole")
    )
    for name in ("inner_loop", "threshold", "figures", "settings", "command", "files"):
        assert ours[name] == whole[name], name
    assert kept() == []


def test_ctrl_c_is_one_line_that_says_what_is_kept(train: Callable[..., tuple[int, str]]) -> None:
    early = stopped(signal.SIGINT, 2)
    assert (early.returncode, early.stderr) == (130, "stopped; the same command starts anew\n")
    assert kept() == []
    late = stopped(signal.SIGINT, 4)
    assert (late.returncode, late.stdout) == (130, "")
    assert late.stderr == "stopped; the same command goes on from step 2\n"
    assert train() == (0, f"going on at step 2 of {STEPS}\n")


def test_other_settings_or_sources_are_refused_until_told_to_start_anew(
    train: Callable[..., tuple[int, str]], here: Path
) -> None:
    assert train()[0] == 0
    Path("made").rename("whole")
    stopped(signal.SIGKILL, 4)
    settings(STEPS + 1)
    status, said = train()
    assert status == 2
    assert "other settings (outer_steps): " in said
    assert "--restart" in said
    assert said.count("\n") == 1
    settings(STEPS)
    content = Path("spirit.log").read_bytes()
    write_log(here / "spirit.log", *messages(11_700, seed=1))
    status, said = train()
    assert status == 2
    assert "other sources (it has read spirit): " in said
    assert kept() == [".made.training"], "a refused state is still there for its own command"
    Path("spirit.log").write_bytes(content)
    assert train("--restart") == (0, "")
    assert weights() == weights("whole")
    assert kept() == []


def test_a_damaged_state_is_refused_until_told_to_start_anew(
    train: Callable[..., tuple[int, str]],
) -> None:
    stopped(signal.SIGKILL, 4)
    (state,) = Path(".made.training").iterdir()
    state.write_bytes(state.read_bytes()[:-1])
    status, said = train()
    assert status == 2
    assert "is damaged: start anew with --restart" in said
    assert train("--restart") == (0, "")


def test_two_runs_for_one_folder_do_not_meet(train: Callable[..., tuple[int, str]]) -> None:
    with kept_state(Path("made"), restart=False):
        status, said = train()
    assert status == 2
    assert "another run trains it" in said
    assert kept() == []


def test_a_place_that_cannot_be_written_is_said_before_the_training(
    train: Callable[..., tuple[int, str]],
) -> None:
    Path(".made.training").write_text("in the way", encoding="utf-8")
    status, said = train()
    assert status == 2
    assert "--output made: it cannot be written" in said


def test_a_state_is_kept_about_every_half_minute(
    train: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    saved: list[int] = []

    def ticking() -> float:
        nonlocal clock
        clock += 6.0
        return clock

    def seen(training: MetaTraining, path: Path) -> None:
        save(training, path)
        saved.append(read_checkpoint(path)[1]["step"])

    save = MetaTraining.save
    monkeypatch.setattr(resumption, "monotonic", ticking)
    monkeypatch.setattr(MetaTraining, "save", seen)
    settings(13)
    assert train() == (0, "")
    # A look at the clock a step: 30 s are over after five of them.
    assert saved == [5, 10, 13]


def test_a_terminal_shows_steps_loss_and_the_time_left(
    train: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    status, said = train()
    assert status == 0
    assert f"{STEPS}/{STEPS}" in said
    assert "loss 0." in said
    assert "left" in said


def test_without_scikit_learn_nothing_is_begun(
    train: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.commands.train.find_spec", lambda _: None)
    assert train() == (
        2,
        "error: train needs scikit-learn: install the extra crosyslog[trainer]\n",
    )
    assert kept() == []
