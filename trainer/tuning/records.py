"""The folder of a search: what it searches, and what each trial has found so far.

`search.json` says what the search is, `trials/NNNN.json` holds a trial and is replaced as a whole
whenever it has found something, so that whatever kills a search leaves all that was found.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The files beside the trials.
SEARCH, LOCK = "search.json", ".lock"

#: The folders: of what is known of each trial, and of trainings that go on.
TRIALS, CHECKPOINTS = "trials", "checkpoints"

#: Parts of the outer steps after which a trial is judged, in quarters.
QUARTERS = (1, 2, 4)

State = Literal["unfinished", "stopped", "finished", "failed"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rung(_Part):
    """What a trial had reached after a part of its outer steps.

    Attributes:
        quarter: the part, one of `QUARTERS`.
        step: the outer steps.
        f1: the objective: the mean of `held_out`.
        held_out: the mean F1 over tasks of each source, held out.
        seconds: that the trial had taken.
    """

    quarter: int
    step: int
    f1: float
    held_out: dict[str, float]
    seconds: float


class Trial(_Part):
    """What is known of a trial.

    Attributes:
        number: from 0 on.
        settings: all of them.
        state: `stopped` is a trial that was not worth going on with.
        rungs: in the order of their steps.
        error: why it failed.
    """

    number: int
    settings: dict[str, Any]
    state: State = "unfinished"
    rungs: tuple[Rung, ...] = ()
    error: str | None = None

    @property
    def last(self) -> Rung | None:
        """The furthest rung."""
        return self.rungs[-1] if self.rungs else None

    def with_rung(self, rung: Rung) -> Trial:
        """The trial with a rung more; what was known of the same part is replaced."""
        rungs = {known.quarter: known for known in (*self.rungs, rung)}
        ordered = tuple(rungs[quarter] for quarter in sorted(rungs))
        return self.model_copy(update={"rungs": ordered})


class Records:
    """The trials of a search in its folder."""

    def __init__(self, folder: Path, settings: list[dict[str, Any]]) -> None:
        """Reads what is known.

        Args:
            folder: one that `opened` yields.
            settings: of each trial.

        Raises:
            SettingError: a file is damaged, or the folder holds more trials.
        """
        self._folder = folder
        self.trials = [Trial(number=n, settings=given) for n, given in enumerate(settings)]
        for path in sorted((folder / TRIALS).glob("*.json")):
            try:
                trial = Trial.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                raise SettingError(
                    f"{path} is damaged: remove it, and the trial runs again"
                ) from error
            if trial.number >= len(self.trials):
                raise SettingError(
                    f"--output {folder} holds more than {len(self.trials)} trials: give --trials "
                    "as before, or more"
                )
            # Whatever failed may go well now: it is tried again.
            if trial.state == "failed":
                trial = trial.model_copy(update={"state": "unfinished", "error": None})
            self.trials[trial.number] = trial

    def remaining(self) -> list[int]:
        """The numbers of the trials that have not come to their end."""
        return [trial.number for trial in self.trials if trial.state == "unfinished"]

    def add(self, number: int, rung: Rung) -> None:
        """Keeps what a trial has found."""
        self._keep(self.trials[number].with_rung(rung))

    def end(self, number: int, *, error: str | None = None) -> None:
        """Keeps that a trial has ended: at its last rung, before it, or by an error."""
        trial = self.trials[number]
        state: State = "stopped"
        if error is not None:
            state = "failed"
        elif trial.last is not None and trial.last.quarter == QUARTERS[-1]:
            state = "finished"
        self._keep(trial.model_copy(update={"state": state, "error": error}))

    def _keep(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        path = self._folder / TRIALS / f"{trial.number:04d}.json"
        write_whole(path, trial.model_dump_json(indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there as a whole, or as it was before.

    Raises:
        SettingError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SettingError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def opened(folder: Path, search: dict[str, Any]) -> Iterator[Path]:
    """The folder of a search, for this process alone: made, or gone on with.

    Args:
        folder: a new one, or that of the same search.
        search: what the search is, as JSON can hold it: values by what an error calls them.

    Raises:
        SettingError: it is of another search or of none, is in use, or cannot be written.
    """
    try:
        if folder.exists() and not (folder.is_dir() and _ours(folder)):
            raise SettingError(
                f"--output {folder} exists already: name a folder that is to be made"
            )
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise SettingError(f"--output {folder}: it cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingError(f"--output {folder}: another search is at work in it") from error
        except OSError:
            # Some network file systems have no locks: then nobody else is noticed.
            pass
        _check_same(folder, search)
        try:
            yield folder
        finally:
            # Where nothing was begun, nothing is left.
            if not {entry.name for entry in folder.iterdir()} - {SEARCH, LOCK}:
                shutil.rmtree(folder, ignore_errors=True)


def _ours(folder: Path) -> bool:
    names = {entry.name for entry in folder.iterdir()}
    return SEARCH in names or names <= {LOCK, SEARCH + ".part"}


def _check_same(folder: Path, search: dict[str, Any]) -> None:
    path = folder / SEARCH
    # As it is when it is read again: JSON knows no tuples.
    search = json.loads(json.dumps(search))
    if not path.exists():
        write_whole(path, json.dumps(search, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_bytes())
    except ValueError as error:
        raise SettingError(f"{path} is damaged: name a folder that is to be made") from error
    others = [name for name in search if before.get(name) != search[name]]
    if others:
        raise SettingError(
            f"--output {folder} is of another search: {' and '.join(others)} differ; give what "
            "was given before, or name a folder that is to be made"
        )
