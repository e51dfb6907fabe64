"""Builds the source distribution and the wheel of what git tracks, without the network."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from crosyslog.errors import InputError, ToolMissingError

ROOT = Path(__file__).resolve().parents[2]


class Built(NamedTuple):
    """What was built.

    Attributes:
        sdist: the source distribution.
        wheel: the wheel, built from the same files.
        again: the wheel that the source distribution builds.
    """

    sdist: Path
    wheel: Path
    again: Path


def tracked(root: Path = ROOT) -> list[str]:
    """The files that git tracks, as paths from the root.

    Raises:
        ToolMissingError: git is not there.
        InputError: this is no checkout.
    """
    # A checkout may belong to another user than the one that builds, as in a container.
    command = ["git", "-c", f"safe.directory={root}", "ls-files", "-z"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise ToolMissingError("a release is built from what git tracks: install git") from error
    except subprocess.CalledProcessError as error:
        raise InputError(f"{root} is no checkout: {error.stderr.strip()}") from error
    return [name for name in done.stdout.split("\0") if name and (root / name).is_file()]


def build(folder: Path, root: Path = ROOT) -> Built:
    """Builds into a folder: what lies about in the checkout beside git's files has no part.

    Args:
        folder: to write to; what a build before has left there is replaced.
        root: of the checkout.

    Raises:
        ToolMissingError, InputError: as in `tracked`.
    """
    scratch = folder / ".release"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        files = scratch / "files"
        for name in tracked(root):
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, files / name)
        sdist = Path(next(SdistBuilder(str(files)).build(directory=str(folder))))
        wheel = _wheel(files, folder)
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch / "unpacked", filter="data")
        (unpacked,) = (scratch / "unpacked").iterdir()
        again = _wheel(unpacked, scratch).replace(folder / "from-sdist.whl")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Built(sdist, wheel, again)


def _wheel(source: Path, folder: Path) -> Path:
    return Path(next(WheelBuilder(str(source)).build(directory=str(folder), versions=["standard"])))
