"""Ray: on this machine, seen by nobody else and gone at the end, or a cluster that runs already."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import signal
import tempfile
import warnings
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from crosyslog.errors import SettingError, ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: In the folder of a search: where Ray's own files are, so that the next run removes what a killed
#: one has left.
_NOTE = ".ray"

#: Ray puts sockets some 75 characters below its folder, and a socket's path has 107 at most.
_LONGEST = 30

_PREFIX = "cro-"

#: How often, and with how many seconds between, it is seen to that nothing of Ray is left.
_TRIES, _PAUSE_S = 50, 0.1

#: Bytes that Ray's store of shared objects has beside those of the sources.
_SPARE = 100_000_000


def check_tools() -> None:
    """Refuses to begin where a library is not installed.

    Raises:
        ToolMissingError: it is not.
    """
    for module, name in (("ray", "Ray"), ("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")):
        if find_spec(module) is None:
            raise ToolMissingError(f"tune needs {name}: install the extra crosyslog[trainer]")


@contextmanager
def ray_started(address: str | None, note_in: Path, size: int) -> Iterator[str | None]:
    """Ray for as long as the block runs; no process of it is left, however the block ends.

    Args:
        address: of a cluster, `ray://HOST:PORT` or `auto`; none for this machine alone.
        note_in: the folder of the search.
        size: bytes of the sources.

    Yields:
        A folder for what Tune writes, removed at the end; none on a cluster: it has its own.

    Raises:
        SettingError: no cluster answers there, or Ray does not start.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ctrl-C ends the search at once: what was found is kept already.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # The older output is the one that can be silent.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    if address is not None:
        with _connected(address):
            yield None
        return
    # Without clusters, Ray gives the machine its loopback address and listens on no other: that
    # is what it does on the other systems, and this is its switch for it.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # A word of this run alone, in place of one that Ray writes into the user's home.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    with _own_folder(note_in) as folder:
        try:
            try:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    object_store_memory=2 * size + _SPARE,
                    _temp_dir=str(folder),
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise SettingError(f"Ray does not start on this machine: {error}") from error
            yield str(folder / "tune")
        finally:
            ray.shutdown()


@contextmanager
def _connected(address: str) -> Iterator[None]:
    import ray

    try:
        try:
            with warnings.catch_warnings():
                # The client warns of what it then raises.
                warnings.simplefilter("ignore", UserWarning)
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError, AssertionError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise SettingError(f"--address {address}: no Ray cluster answers: {first}") from error
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_folder(note_in: Path) -> Iterator[Path]:
    """A folder with a short path."""
    note = note_in / _NOTE
    _remove_left(note)
    parent = tempfile.gettempdir()
    if len(parent) > _LONGEST:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a folder in it that is ours alone
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        note.write_text(str(folder), encoding="utf-8")
        yield folder
    finally:
        _remove(folder)
        note.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Removes a folder of Ray's, and ends what still runs in it.

    Where Ray is interrupted while it starts, or killed, some of its processes would go on for a
    minute, and write.
    """
    for _ in range(_TRIES):
        left = _processes_in(folder)
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not left:
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                return
        sleep(_PAUSE_S)


def _processes_in(folder: Path) -> list[int]:
    """Processes that were called with a path in a folder, or have a file open there.

    Its name is random, so no others are found; those of Ray give themselves other titles.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            called = (process / "cmdline").read_bytes()
            opened = [os.readlink(link) for link in (process / "fd").iterdir()]  # noqa: PTH115 - the link may name no file
            inside = f"{folder}/"
            if inside.encode() in called or any(path.startswith(inside) for path in opened):
                found.append(int(process.name))
    return [process for process in found if process != os.getpid()]


def _remove_left(note: Path) -> None:
    try:
        left = Path(note.read_text(encoding="utf-8"))
        # A note can be moved and edited: nothing is removed but what mkdtemp made for us.
        if re.fullmatch(_PREFIX + r"[a-z0-9_]{8}", left.name) and left.stat().st_uid == os.getuid():
            _remove(left)
    except OSError:
        return
