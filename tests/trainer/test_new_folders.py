"""Prepared folders that a run was interrupted at: either the old one or the new, never half."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crosyslog.errors import SettingError
from tests.fakes import FakeEncoder
from tests.trainer.made import messages, write_log
from tests.trainer.preparing import content_of, prepare
from trainer import new_folders
from trainer.prepared_logs import PreparedLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class StoppingEncoder(FakeEncoder):
    """Is interrupted at its work, as by Ctrl-C."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:  # noqa: ARG002
        raise KeyboardInterrupt


pytestmark = pytest.mark.usefixtures("here")


def leftovers() -> list[str]:
    return [path.name for path in Path().iterdir() if path.name.endswith(".part")]


def test_a_folder_is_replaced_only_when_asked_to(log: Path) -> None:
    prepare(log)
    before = content_of(Path("made"))
    with pytest.raises(SettingError, match="--replace"):
        prepare(log)
    other = write_log(Path("other.log"), *messages(500))
    prepare(other, replace=True)
    assert PreparedLog(Path("made")).manifest.lines == 500
    assert content_of(Path("made")) != before
    assert leftovers() == []


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_run_changes_nothing(log: Path, there: bool) -> None:
    if there:
        prepare(log)
    before = content_of(Path("made")) if there else {}
    other = write_log(Path("other.log"), *messages(500, seed=1))
    with pytest.raises(KeyboardInterrupt):
        prepare(other, encoder=StoppingEncoder(), replace=True)
    assert Path("made").exists() == there
    if there:
        assert content_of(Path("made")) == before
    assert leftovers() == []


def test_where_folders_cannot_change_places_one_follows_the_other(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    prepare(log)
    prepare(write_log(Path("other.log"), *messages(500)), replace=True)
    assert PreparedLog(Path("made")).manifest.lines == 500
    assert leftovers() == []


KILLED = """
import sys
from pathlib import Path
from trainer.new_folders import new_folder
with new_folder(Path("made"), replace=True) as folder:
    (folder / "half").write_text("x")
    if "moved" in sys.argv:
        Path("made").rename(folder.parent / "old")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("moved", [False, True])
def test_what_a_killed_run_leaves_is_cleaned_up_by_the_next(
    log: Path,
    moved: bool,
) -> None:
    prepare(log)
    before = content_of(Path("made"))
    environment = {**os.environ, "PYTHONPATH": str(Path(new_folders.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *(["moved"] if moved else [])],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(leftovers()) == 1
        if not moved:
            prepare(log, replace=True)
            assert len(leftovers()) == 1, "what another process is writing is left alone"
        process.send_signal(signal.SIGKILL)
    assert Path("made").exists() != moved
    with pytest.raises(KeyboardInterrupt):
        prepare(log, encoder=StoppingEncoder(), replace=True)
    assert content_of(Path("made")) == before
    assert leftovers() == []


def test_a_full_disk_is_one_line(log: Path) -> None:
    """A limit on a file's size stands for the disk's: the writer is told the same way."""
    code = f"""
import resource, sys
from pathlib import Path
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.systems import load_system
from crosyslog.terminal import run
from tests.fakes import HashVectors
from trainer.preparation import prepare
import typer
app = typer.Typer(add_completion=False)
@app.command()
def go():
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    prepare([{str(log)!r}], load_system("spirit"), encoder=HashVectors(), cache=EmbeddingCache(),
            output=Path("made"))
sys.exit(run(app, []))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(new_folders.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: --output made: it cannot be written: ")
    assert done.stderr.count("\n") == 1
    assert not Path("made").exists()
    assert leftovers() == []
