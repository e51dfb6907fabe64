"""A training that goes on where a run of the same command was stopped, by whatever.

Its state is in `.NAME.training`, beside the folder that the run is to make, until that is made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.training import MetaTraining

#: Seconds of work that a run loses at most, and that a checkpoint (some hundredths) is shared by.
CHECKPOINT_SECONDS = 30.0

_STATE = "state.safetensors"


@contextmanager
def kept_state(output: Path, *, restart: bool) -> Iterator[Path]:
    """The file for the state of a training; nobody else trains for the same folder meanwhile.

    It stays if the block is left by an error, and goes, with the folder it is in, if all is well.

    Args:
        output: the folder that the training is to make.
        restart: removes a state that is there.

    Raises:
        SettingError: another run trains for this folder, or nothing can be written there.
    """
    target = output.resolve()
    folder = target.with_name(f".{target.name}.training")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SettingError(f"--output {output}: it cannot be written: {error.strerror}") from error
    state = folder / _STATE
    try:
        _hold(held, folder, output)
        if restart:
            state.unlink(missing_ok=True)
        try:
            yield state
        except BaseException:
            # What another training left is not ours to remove; a folder without a state is.
            if not state.exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


def train_on(
    training: MetaTraining, state: Path, progress: Callable[[int, float], None] | None = None
) -> None:
    """Does all steps that are left, and keeps the state as it goes.

    Args:
        training: as far as it has come.
        state: the file for its state.
        progress: called after each outer step with its number and loss.

    Raises:
        SettingError: the state cannot be written.
    """
    kept = monotonic()
    while not training.done:
        training.run(training.step + 1, progress)
        if monotonic() - kept >= CHECKPOINT_SECONDS:
            training.save(state)
            kept = monotonic()
    # What is left to do, thresholds and prototypes, takes a while too.
    training.save(state)


def kept_step(state: Path) -> int:
    """The outer step that a kept state is of; 0 if there is none.

    Raises:
        SettingError: it is damaged.
    """
    from trainer.checkpoint import read_checkpoint

    return int(read_checkpoint(state)[1]["step"]) if state.exists() else 0


def _hold(held: int, folder: Path, output: Path) -> None:
    busy = SettingError(
        f"--output {output}: another run trains it: wait for its end, or name another folder"
    )
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise busy from error
    except OSError:
        # Some network file systems have no locks: there, it is on the user to start one run.
        return
    # The run that held it may have ended, and removed the folder, since it was opened.
    with suppress(OSError):
        if os.path.samestat(os.fstat(held), folder.stat()):
            return
    raise busy
