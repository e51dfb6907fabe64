"""The lines of logs of any size, in batches of bounded size: files, or standard input."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import InputError
from crosyslog.lines import compression_of, read_raw, read_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How standard input is named.
STANDARD_INPUT = "-"

#: Lines and bytes of a batch: enough for Polars to be quick, and some 100 MB at work with it.
_BATCH_LINES, _BATCH_BYTES = 20_000, 16 * 2**20

#: Lines that are asked of a file at a time; few, since each may have a megabyte.
_CHUNK_LINES = 128

#: Long lines that make a batch of their own.
_LONG_LINES = 4

#: Compressed bytes from which the size of the whole log is told.
_SAMPLE_BYTES = 2**20


def name_of(log: str) -> str:
    """How a log is called: its file's name, without where it is."""
    return "standard input" if log == STANDARD_INPUT else Path(log).name


def size_of(log: str) -> int | None:
    """About how many bytes a log holds, decompressed; none where only reading it can tell.

    Raises:
        InputError: it cannot be read.
    """
    if log == STANDARD_INPUT:
        return None
    path = Path(log)
    if path.exists() and not path.is_file() and not path.is_dir():
        return None  # a named pipe would lose what is read of it here
    try:
        with path.open("rb") as stream:
            sample = stream.read(_SAMPLE_BYTES)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise InputError(f"cannot read {log}: {error.strerror}") from error
    return round(size * _expansion(sample))


def batches(log: str) -> Iterator[list[bytes]]:
    """The raw lines of a log.

    Raises:
        InputError: it cannot be read, its compression is broken, or it is no text.
    """
    if log == STANDARD_INPUT:
        if sys.stdin is None:  # as `<&-` leaves it
            raise InputError("cannot read standard input: it is closed; pipe a log in")
        chunks = read_stream(sys.stdin.buffer, name_of(log), _CHUNK_LINES)
    else:
        chunks = read_raw(Path(log), _CHUNK_LINES)
    batch: list[bytes] = []
    size = 0
    for chunk in chunks:
        more = sum(map(len, chunk))
        if batch and (size + more > _BATCH_BYTES or len(batch) + len(chunk) > _BATCH_LINES):
            yield batch
            batch, size = [], 0
        if more > _BATCH_BYTES:
            # What is made of a batch takes several times its size.
            for start in range(0, len(chunk), _LONG_LINES):
                yield chunk[start : start + _LONG_LINES]
        else:
            batch += chunk
            size += more
    if batch:
        yield batch


def _expansion(sample: bytes) -> float:
    """By how much a log grows when it is decompressed, told from its start."""
    import zstandard

    kind = compression_of(sample)
    try:
        if kind == "gzip":
            gzip = zlib.decompressobj(wbits=31)
            size, rest = len(gzip.decompress(sample)), len(gzip.unused_data)
        elif kind == "zstd":
            zstd = zstandard.ZstdDecompressor().decompressobj()
            size, rest = len(zstd.decompress(sample)), len(zstd.unused_data)
        else:
            return 1.0
    except (zlib.error, zstandard.ZstdError):
        return 1.0  # that it is broken is said when it is read
    return size / (len(sample) - rest)
