"""What lies in a fetched file: its lines are counted, and its members taken out, as they pass by.

Members are known by their last name and written under names of the catalogue, so an archive has
no say in where anything lands. A log becomes a gzip file, as every command reads it: Thunderbird
takes about 3 GB so, and 32 GB unpacked.
"""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from crosyslog.errors import InputError
from trainer.downloading.catalogue import Dataset

#: Bytes of a member in memory at once.
_PIECE = 1 << 20

#: A quarter more bytes than gzip's usual level, at nearly three times its speed.
_LEVEL = 1

#: What tells of an archive that is damaged, cut short, or of a kind that cannot be read.
_BROKEN = (
    EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError, RuntimeError,
)  # fmt: skip


def unpack(dataset: Dataset, fetched: Path, report: Callable[[int], None]) -> dict[str, Path]:
    """Takes a data set's files out of the fetched one, and holds its logs to their line count.

    Args:
        dataset: what was fetched.
        fetched: where it lies; the files are put beside it.
        report: told how many bytes of it have been read.

    Returns:
        Where each file lies until it takes its final name, by that name. A log that was fetched
        as a compressed file stays where it is.

    Raises:
        InputError: it is damaged, lacks a file, or has another number of lines.
        OSError: the disk does not take it.
    """
    count = _LineCount(dataset)
    found: dict[str, Path] = {}
    with _reading(dataset), fetched.open("rb") as raw:
        if dataset.packing == "gz":
            with gzip.GzipFile(fileobj=raw) as log:
                for piece in _pieces(log):
                    count.add(piece)
                    report(raw.tell())
            count.end_log()
            found[dataset.file_name] = fetched
        for name, member in _members(dataset, raw):
            is_log = name in dataset.logs
            final = f"{name}.gz" if is_log else name
            if final in found:
                raise InputError(f"{dataset.file_name} holds {name} twice: it is not as known here")
            found[final] = part_of(fetched.parent, final)
            with _writing(found[final], packed=is_log) as output:
                for piece in _pieces(member):
                    if is_log:
                        count.add(piece)
                    output.write(piece)
                    report(raw.tell())
            if is_log:
                count.end_log()
    if missing := [name for name in dataset.file_names if name not in found]:
        lacks = ", ".join(name.removesuffix(".gz") for name in missing)
        raise InputError(f"{dataset.file_name} holds no {lacks}: it is not as known here")
    count.check()
    return found


def part_of(folder: Path, final: str) -> Path:
    """Where a file lies until it takes its final name."""
    return folder / f"{final}.part"


class _LineCount:
    """Counts the lines of a data set's logs; bytes after a log's last line feed are a line too."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._lines = 0
        self._open = False

    def add(self, piece: bytes) -> None:
        self._lines += piece.count(b"\n")
        self._open = not piece.endswith(b"\n")
        if self._lines > self._dataset.lines:
            # At once: what has no end would otherwise fill the disk.
            raise InputError(
                f"{self._dataset.file_name} has more than the {self._dataset.lines:,} lines of "
                f"{self._dataset.name}: it is not the file that is known here"
            )

    def end_log(self) -> None:
        self._lines += self._open
        self._open = False

    def check(self) -> None:
        if self._lines != self._dataset.lines:
            raise InputError(
                f"{self._dataset.file_name} has {self._lines:,} lines, and {self._dataset.name} "
                f"{self._dataset.lines:,}: it is not the file that is known here"
            )


def _members(dataset: Dataset, raw: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted members of an archive, in its order, each to be read before the next is taken."""
    wanted = {*dataset.logs, *dataset.others}
    if dataset.packing == "zip":
        with zipfile.ZipFile(raw) as packed:
            for entry in packed.infolist():
                name = PurePosixPath(entry.filename).name
                if name in wanted and not entry.is_dir():
                    with packed.open(entry) as member:
                        yield name, member
    elif dataset.packing == "tar.gz":
        with gzip.GzipFile(fileobj=raw) as unzipped:
            with tarfile.open(fileobj=unzipped, mode="r|") as archive:
                for info in archive:
                    name = PurePosixPath(info.name).name
                    if name in wanted and info.isreg():
                        yield name, cast("IO[bytes]", archive.extractfile(info))
            # The checksum stands at the very end, behind the blanks that tar leaves unread.
            for _ in _pieces(unzipped):
                pass


def _pieces(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece


@contextmanager
def _writing(path: Path, *, packed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as output:
        if not packed:
            yield output
            return
        # Without name and time: the same log gives the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=_LEVEL, fileobj=output, mtime=0) as file:
            yield cast("IO[bytes]", file)


@contextmanager
def _reading(dataset: Dataset) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise InputError(f"{dataset.file_name} is damaged: {error}") from error
