"""Raw bytes to a frame of lines: decoded, split by a system's profile, in columns."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from crosyslog.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    import polars as pl
    from _typeshed import WriteableBuffer
    from zstandard import ZstdDecompressionObj

    from crosyslog.systems import System

#: Bytes that start a compressed file, and how such a file is called.
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

#: Control characters other than NUL, tab, line feed, carriage return and escape.
_CONTROLS = bytes(sorted(set(range(32)) - {0, 9, 10, 13, 27}))

#: More NUL in a row than 64-bit numbers have, or characters of UTF-32.
_NUL_STRETCH = re.compile(rb"\x00{8,}")

#: How much of a file is looked at to tell a log from binary data.
_PROBE_BYTES = 65_536


def decode(values: Sequence[bytes | None] | pl.Series) -> pl.Series:
    """Lines from bytes: UTF-8, with what is not replaced by U+FFFD, never refused.

    A missing value (a Kafka tombstone) is an empty line; a line feed or carriage return at the
    end is not part of the line.
    """
    import polars as pl

    raw = pl.Series("raw", values, dtype=pl.Binary)
    try:
        text = raw.cast(pl.String)
    except pl.exceptions.ComputeError:
        # Polars does not say which line it is.
        mended = [
            one if one is None or one.isascii() else one.decode(errors="replace").encode()
            for one in raw.to_list()
        ]
        text = pl.Series("raw", mended, dtype=pl.Binary).cast(pl.String)
    return text.fill_null("").str.strip_chars_end("\r\n")


def split(raw: pl.Series, system: System, now: datetime | None = None) -> pl.DataFrame:
    """Splits raw lines into the columns that the rest of CroSysLog reads.

    Args:
        raw: strings, one a line.
        system: the profile that says how a line splits.
        now: for times without a year, which get the latest one that does not put them more than
            a day after this; by default the clock's.

    Returns:
        A frame of the same length: `raw`, `message`, `text` (what is judged), `time` (UTC, in
        microseconds), `host`, `component`, `severity`, `label` (true for an alert, false for a
        normal line, null where the line has none), `session`, and `split` (whether the profile
        matched: a line that did not is judged whole). What a profile does not know is null.
    """
    import polars as pl

    from crosyslog.systems.splitting import fields_of
    from crosyslog.systems.times import read_times

    fields = fields_of(raw.rename("raw"), system)
    times = read_times(fields["time"], system.time.format, now)
    return fields.select(
        pl.col("raw"),
        pl.col("message").fill_null(pl.col("raw")),
        _text(system),
        times.alias("time"),
        pl.col("host"),
        pl.col("component"),
        pl.col("severity"),
        (pl.col("label") != system.fields.normal).alias("label"),
        pl.col("session"),
        _matched(system),
    )


def read_texts(raw: pl.Series, system: System) -> pl.DataFrame:
    """The columns `raw`, `text` and `split` of `split`, at half of its cost.

    Args:
        raw: strings, one a line.
        system: the profile that says how a line splits.
    """
    from crosyslog.systems.splitting import fields_of

    fields = fields_of(raw.rename("raw"), system, system.fields.text)
    return fields.select("raw", _text(system), _matched(system))


def _text(system: System) -> pl.Expr:
    """What is judged."""
    import polars as pl

    fields = [pl.col(name) for name in system.fields.text]
    text = pl.concat_str(fields, separator=" ", ignore_nulls=True)
    split = pl.col("message").is_not_null()
    return pl.when(split).then(text).otherwise(pl.col("raw")).alias("text")


def _matched(system: System) -> pl.Expr:
    import polars as pl

    matched = pl.lit(value=True) if system.judges_whole else pl.col("message").is_not_null()
    return matched.alias("split")


def read_lines(source: str | Path | pl.Series, system: System) -> pl.DataFrame:
    """Reads a log file (plain, gzip or zstd), or a series of raw lines, into a frame of lines.

    Returns:
        The columns that `split` describes.

    Raises:
        InputError: the file cannot be read, is empty, or is no text.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        values = [line for chunk in read_raw(path, 100_000) for line in chunk]
        if not values:
            raise InputError(f"{path} is empty: a log with at least one line is needed")
        return split(decode(values), system)
    return split(source, system)


def read_raw(path: Path, lines_a_chunk: int) -> Iterator[list[bytes]]:
    """The raw lines of a log file, in chunks; only a line feed ends a line.

    Raises:
        InputError: the file cannot be read, its compression is broken, or it is no text.
    """
    try:
        with path.open("rb") as file:
            yield from read_stream(file, str(path), lines_a_chunk)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def read_stream(file: BinaryIO, name: str, lines_a_chunk: int) -> Iterator[list[bytes]]:
    """The raw lines of an open file or pipe, which is left open.

    Args:
        file: plain, gzip or zstd; read once, from where it stands.
        name: what errors call it.
        lines_a_chunk: how many lines at a time.

    Raises:
        InputError: it cannot be read, its compression is broken, or it is no text.
    """
    try:
        with _decompressed(file) as stream:
            first = True
            while chunk := list(islice(stream, lines_a_chunk)):
                if first and is_binary(b"".join(chunk[:100])):
                    raise InputError(
                        f"{name} is not a log: it holds binary data; use a text, plain or "
                        "compressed with gzip or zstd"
                    )
                first = False
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile, _BrokenZstdError) as error:
        raise InputError(f"{name}: its compressed data is broken: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error


@contextmanager
def open_log(path: Path) -> Iterator[BinaryIO]:
    """Opens a log for reading bytes; gzip and zstd are known by their first bytes."""
    with path.open("rb") as file, _decompressed(file) as stream:
        yield stream


def _decompressed(file: BinaryIO) -> BinaryIO:
    """The content of a file or pipe, which this reads but does not close."""
    # What a pipe has given cannot be asked for again.
    start = file.read(4)
    whole = io.BufferedReader(_Rejoined(start, file), _PROBE_BYTES)
    kind = compression_of(start)
    if kind == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=whole, mode="rb"))
    if kind == "zstd":
        return io.BufferedReader(_ZstdFile(whole))
    return whole


def compression_of(start: bytes) -> str | None:
    """`gzip` or `zstd` by the first four bytes of data; none if it is neither."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)


class _Rejoined(io.RawIOBase):
    """A stream whose start has been read already, from that start on."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer).cast("B")
        data = self._start or self._rest.read(len(room))
        self._start = data[len(room) :]
        room[: len(data)] = data[: len(room)]
        return min(len(data), len(room))


class _BrokenZstdError(Exception):
    """A zstd file is damaged or cut short."""


class _ZstdFile(io.RawIOBase):
    """The content of a zstd file, one frame after another.

    `zstandard.open` ends without an error where a file was cut short: a log that is half there
    would pass for a whole one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: ZstdDecompressionObj | None = None
        self._compressed = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._content:
            if not self._fill():
                return 0
        room = memoryview(buffer).cast("B")
        size = min(len(room), len(self._content))
        room[:size] = self._content[:size]
        self._content = self._content[size:]
        return size

    def _fill(self) -> bool:
        """Decompresses the next piece; false at the end of the file."""
        import zstandard

        compressed = self._compressed or self._file.read(_PROBE_BYTES)
        if not compressed:
            if self._frame is not None:
                raise _BrokenZstdError("it ends in the middle of a frame")
            return False
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            self._content = memoryview(self._frame.decompress(compressed))
        except zstandard.ZstdError as error:
            raise _BrokenZstdError(str(error)) from error
        self._compressed = self._frame.unused_data
        if self._frame.eof:
            self._frame = None
        return True


def is_binary(start: bytes) -> bool:
    """Whether bytes are no text: a thirtieth are control characters, or a third are NUL.

    A tenth of compressed data are control characters that no log has. Stretches of NUL do not
    count: a log has them where its machine crashed while writing, or where it was truncated under
    its writer, often from its first byte on. Text that is not UTF-8 has a NUL or three beside
    every character, and no stretches. NUL alone is no text.

    Args:
        start: the file's first lines; what is not NUL decides, and no more than is needed of it.
    """
    text = _NUL_STRETCH.sub(b"", start.lstrip(b"\0")[:_PROBE_BYTES])
    if start and not text:
        return True
    controls = len(text) - len(text.translate(None, _CONTROLS))
    return controls > len(text) // 30 or text.count(0) > len(text) // 3
