"""From a data set's name to its logs in a folder: fetched, checked, then named.

1. What lies there already, whole, is all there is to do.
2. Enough of the disk is free, else nothing begins.
3. The file arrives in a part, which a later call goes on from.
4. Its size, its checksum and its lines are checked. What is wrong is thrown away: to go on from
   it would give the same again.
5. The files take their names, and last the receipt is written, which step 1 looks for.
"""

import errno
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crosyslog.errors import InputError, SettingError
from trainer.downloading.archives import part_of, unpack
from trainer.downloading.catalogue import Dataset, load_datasets
from trainer.downloading.fetching import Patience, Report, discard, fetch

#: What tells in a folder that its data set is whole.
RECEIPT = "download.json"

_LOCK = ".download.lock"

#: Of an archive's size, what its logs take beside it, packed less tightly than there.
_UNPACKED_SHARE = 1.5

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A data set on the disk."""

    folder: Path
    logs: tuple[Path, ...]
    others: tuple[Path, ...]
    size: int
    """Bytes of all its files."""
    fetched: bool
    """Whether it had to be fetched; else it was there."""


def download(
    dataset: Dataset, root: Path, *, report: Report, patience: Patience | None = None
) -> Download:
    """Brings a data set into a folder of its name.

    Args:
        dataset: what to fetch.
        root: the folder of logs; the data set gets one in it.
        report: told of each step's progress.
        patience: how long to wait for the server; by default some minutes in all.

    Raises:
        InputError: the server, the network or the disk ended it, or what came is not what is
            known. Nothing then lies under a final name; what has arrived is kept to go on from.
        SettingError: the folder cannot be used.
    """
    folder = root / dataset.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            there = _receipt(dataset, folder)
            if there is None:
                _require_room(dataset, folder)
                _bring(dataset, folder, report, patience or Patience())
            sizes = there or _receipt(dataset, folder) or {}
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"no room is left in {folder}: free some, and the same command goes on from what "
                "has arrived; or start on another disk with --output DIR"
            ) from error
        raise SettingError(
            f"{folder} cannot be used: {error.strerror or error}; choose another with --output DIR"
        ) from error
    logs = [name for name in dataset.file_names if name not in dataset.others]
    return Download(
        folder=folder,
        logs=tuple(folder / name for name in logs),
        others=tuple(folder / name for name in dataset.others),
        size=sum(sizes.values()),
        fetched=there is None,
    )


def downloaded_logs(name: str, root: Path) -> tuple[Path, ...]:
    """The logs of a data set, if it lies whole in a folder of logs; none if not, or not known."""
    dataset = load_datasets().get(name)
    if dataset is None or _receipt(dataset, root / name) is None:
        return ()
    logs = (one for one in dataset.file_names if one not in dataset.others)
    return tuple(root / name / one for one in logs)


def _bring(dataset: Dataset, folder: Path, report: Report, patience: Patience) -> None:
    part = part_of(folder, dataset.file_name)
    fetch(dataset, part, patience, report)
    size = part.stat().st_size
    try:
        _check_sum(dataset, part, report)
        found = unpack(dataset, part, lambda done: report("checking lines", done, size))
    except BaseException as error:
        for name in dataset.file_names:
            if (unpacked := part_of(folder, name)) != part:
                unpacked.unlink(missing_ok=True)
        if not isinstance(error, InputError):
            raise
        discard(part)
        raise InputError(f"{error}; it was thrown away") from error
    sizes = {name: path.stat().st_size for name, path in found.items()}
    for name, path in found.items():
        path.replace(folder / name)
    receipt = {
        **_identity(dataset),
        "licence": dataset.publisher.licence,
        "cite": list(dataset.citations),
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": sizes,
    }
    written = part_of(folder, RECEIPT)
    written.write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
    written.replace(folder / RECEIPT)
    discard(part)


def _check_sum(dataset: Dataset, part: Path, report: Report) -> None:
    if dataset.md5 is None:
        return
    size, read = part.stat().st_size, 0
    # MD5 is what the publisher states: it tells damage, and TLS tells who sent the file.
    digest = hashlib.md5(usedforsecurity=False)
    with part.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            read += len(piece)
            report("checking sum", read, size)
    if digest.hexdigest() != dataset.md5:
        raise InputError(
            f"{dataset.file_name} has the MD5 sum {digest.hexdigest()} instead of {dataset.md5}"
        )


def _identity(dataset: Dataset) -> dict[str, Any]:
    """What makes a receipt one of this data set, as it is known now."""
    return {
        "name": dataset.name,
        "system": dataset.system,
        "address": dataset.address,
        "md5": dataset.md5,
        "lines": dataset.lines,
    }


def _receipt(dataset: Dataset, folder: Path) -> dict[str, int] | None:
    """The size of each file, by name, if the data set lies there whole."""
    try:
        content = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        sizes: dict[str, int] = content["files"]
        same = content.items() >= _identity(dataset).items() and set(sizes) == {*dataset.file_names}
        whole = same and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return sizes if whole else None


def _require_room(dataset: Dataset, folder: Path) -> None:
    part = part_of(folder, dataset.file_name)
    arrived = part.stat().st_size if part.exists() else 0
    needed = dataset.size - arrived
    if dataset.packing != "gz":
        needed += int(dataset.size * _UNPACKED_SHARE)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{dataset.name} needs {needed / 1e9:,.1f} GB more in {folder}, and {free / 1e9:,.1f} "
            "GB are free: free some, or choose another disk with --output DIR"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds others off the folder: two that write one part would spoil it."""
    with (folder / _LOCK).open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another download writes to {folder}: wait until it ends") from error
        yield
