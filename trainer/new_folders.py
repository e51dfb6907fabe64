"""Folders that appear whole under their name, or not at all."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What stands beside a folder or file while it is made: `.NAME.xxxxxxxx.part`.
_ENDING = ".part"

#: Held by the process that makes it for as long as it runs, so that what a killed one left
#: is told from what another one is writing just now.
_LOCK = ".lock"

#: From <fcntl.h> and <linux/fs.h>: paths as they are, and two of them change places.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def new_folder(output: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill beside `output`, that takes its name and place when all is well.

    If it does not come to that, `output` is as it was. What runs that were killed have left
    behind is removed.

    Args:
        output: the folder to make; it does not exist, or is empty.
        replace: whether one that holds something is replaced.

    Raises:
        SettingError: it cannot be written, or holds something.
    """
    try:
        # Where a link points to, so that it goes on pointing there.
        target = output.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        with scratch_beside(target) as scratch:
            made = scratch / "new"
            made.mkdir(mode=0o700)
            yield made
            if replace and target.is_dir() and any(target.iterdir()):
                _exchange(made, target, scratch / "old")
            else:
                # Only an empty folder can be renamed onto: another run may have been quicker.
                made.rename(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingError(f"--output {output}: it cannot be written: {reason}") from error


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A hidden folder beside a folder or file that is made in it, gone when all is done."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_ENDING, dir=target.parent))
    try:
        with (scratch / f"{_LOCK}.new").open("w") as lock:
            # Some network file systems have no locks: then nothing is ever cleaned up there.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under its name only once it is held: nobody can come in between.
            (scratch / f"{_LOCK}.new").rename(scratch / _LOCK)
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Removes what runs for the same folder or file have left that were killed."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}{re.escape(_ENDING)}")
    for left in [entry for entry in target.parent.iterdir() if ours.fullmatch(entry.name)]:
        # Without a lock, or with one that is held, it is being written.
        with suppress(OSError), (left / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (left / "old").exists() and not target.exists():
                (left / "old").rename(target)
            shutil.rmtree(left, ignore_errors=True)


def _exchange(made: Path, target: Path, old: Path) -> None:
    """Puts a folder in the place of another: at no moment is there none, or half of one."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(made), os.fsencode(target)
    if call and call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    # A few file systems cannot do that. A kill between the two leaves the old one beside its
    # place, and the next run puts it back.
    target.rename(old)
    try:
        made.rename(target)
    except OSError:
        old.rename(target)
        raise
