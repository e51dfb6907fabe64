"""Prepares logs: splits, masks and encodes them once, for all that reads them after.

Lines go through in batches and leave as parts of a folder (`trainer.prepared_logs`), so memory
grows with the distinct templates alone, by some 300 bytes each.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from crosyslog.errors import InputError, SettingError
from crosyslog.lines import decode, split
from crosyslog.manifest import EncoderReference, checksum
from crosyslog.masking import MASKING_VERSION, mask
from trainer.labelled_lines import TemplateNumbers, encode_in_pieces, host_numbers
from trainer.log_batches import batches, name_of, size_of
from trainer.new_folders import new_folder
from trainer.prepared_logs import (
    MANIFEST,
    TEMPLATES,
    VECTORS,
    PreparedManifest,
    SourceLog,
    is_prepared,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.systems import System

#: Lines of a part: about 10 MB of Parquet. What is not written yet is kept in memory.
_PART_LINES = 1_000_000

#: More distinct templates than this are no templates: 600 MB of memory, and an hour of encoding.
MOST_TEMPLATES = 2_000_000

#: A log is refused when so many lines have been read and the profile splits none of them.
_HOPELESS_LINES = 100_000

#: Characters of an unsplit line that are shown.
_SHOWN = 160


class Watcher(Protocol):
    """Is told how far a preparation is."""

    def read(self, lines: int, share: float | None) -> None:
        """So many lines are read, about this share of all; none where that cannot be known."""

    def encoded(self, templates: int, total: int) -> None:
        """The vectors of so many templates are there."""


@dataclass(frozen=True)
class Unsplit:
    """The first line that the profile does not split.

    Attributes:
        log: the name of its file.
        number: its number in it, from 1.
        text: how it begins, as it stands there.
    """

    log: str
    number: int
    text: str


def prepare(
    logs: Sequence[str],
    system: System,
    *,
    encoder: Encoder,
    cache: EmbeddingCache,
    output: Path,
    replace: bool = False,
    watcher: Watcher | None = None,
) -> tuple[PreparedManifest, Unsplit | None]:
    """Writes a folder that holds the lines of logs as numbers of templates, with their vectors.

    The folder appears when it is complete; one that is replaced stays as it is until then. What
    an interrupted run has encoded is in the cache, so the next one is quicker.

    Args:
        logs: paths of files (plain, gzip or zstd), or `-` for standard input: their lines, in
            this order, are those of the prepared log.
        system: the profile that splits the lines.
        encoder: makes the vectors.
        cache: where vectors are kept.
        output: the folder to make.
        replace: whether a prepared folder may be replaced.
        watcher: told how far it is.

    Returns:
        What the folder says about itself, and the first line that was not split.

    Raises:
        InputError: a log cannot be read, all are empty, none of their lines is one of the
            system's, or they hold too many distinct templates.
        SettingError: the folder cannot be written.
    """
    check_output(output, replace=replace)
    sizes = [size_of(log) for log in logs]
    known = sum(size for size in sizes if size is not None) if None not in sizes else 0
    with new_folder(output, replace=replace) as folder:
        table = _Table(folder, system)
        read = 0
        for log in logs:
            table.begin(name_of(log))
            for batch in batches(log):
                table.add(batch)
                read += sum(map(len, batch))
                if watcher is not None:
                    watcher.read(table.lines, min(read / known, 1.0) if known else None)
        templates = table.finish()
        _write_vectors(folder / VECTORS, templates, encoder, cache, watcher)
        manifest = PreparedManifest(
            created=datetime.now(UTC).replace(microsecond=0),
            system=system,
            masking=MASKING_VERSION,
            encoder=EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
            logs=tuple(table.logs),
            lines=table.lines,
            alerts=table.alerts,
            normal=table.normal,
            unsplit=table.unsplit,
            templates=len(templates),
            files={path.name: _seal(path) for path in sorted(folder.iterdir())},
        )
        content = manifest.model_dump(mode="json")
        content["checksum"] = checksum(content)
        path = folder / MANIFEST
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        _seal(path)
    return manifest, table.first_unsplit


def check_output(output: Path, *, replace: bool) -> None:
    """Refuses a folder that cannot be made or replaced, before any work.

    Raises:
        SettingError: it holds something, and is not to be replaced or not prepared.
    """
    try:
        if not output.exists() or (output.is_dir() and not any(output.iterdir())):
            return
        ours = output.is_dir() and is_prepared(output)
    except OSError as error:
        raise SettingError(f"--output {output}: it cannot be read: {error.strerror}") from error
    if not ours:
        raise SettingError(
            f"--output {output} exists already, and `trainer prepare` did not write it: name a "
            "folder that is to be made"
        )
    if not replace:
        raise SettingError(
            f"--output {output} holds a prepared log already: replace it with --replace, or name "
            "a folder that is to be made"
        )


class _Table:
    """Takes the lines of logs batch by batch, writes them in parts, and counts."""

    def __init__(self, folder: Path, system: System) -> None:
        self.logs: list[SourceLog] = []
        self.alerts = self.normal = 0
        self.first_unsplit: Unsplit | None = None
        self._folder = folder
        self._system = system
        self._numbers = TemplateNumbers()
        self._counts: NDArray[np.int64] = np.zeros((1024, 2), dtype=np.int64)
        self._pending: list[pl.DataFrame] = []
        self._parts = 0

    @property
    def lines(self) -> int:
        """Lines taken."""
        return sum(log.lines for log in self.logs)

    @property
    def unsplit(self) -> int:
        """Lines taken that the profile does not split."""
        return sum(log.unsplit for log in self.logs)

    def begin(self, name: str) -> None:
        """The next lines are another log's."""
        self.logs.append(SourceLog(name=name, lines=0, unsplit=0))

    def add(self, batch: list[bytes]) -> None:
        """Takes the next lines of the log.

        Raises:
            InputError: they are hardly a log of the system.
        """
        import polars as pl

        lines = split(decode(batch), self._system)
        numbers = self._numbers.of(mask(lines["text"]))
        start = self.lines
        self._count(lines, numbers)
        if len(self._numbers) > MOST_TEMPLATES:
            raise InputError(
                f"{self.logs[-1].name} brings more than {MOST_TEMPLATES:,} distinct templates: "
                f"hardly a log of {self._system.name}; see `trainer systems check`"
            )
        if self.lines >= _HOPELESS_LINES:
            self._refuse_if_none_splits()
        self._pending.append(
            lines.select(
                pl.int_range(start, self.lines, dtype=pl.Int64).alias("line"),
                pl.col("time"),
                pl.col("label"),
                pl.Series("host", host_numbers(lines["host"])),
                pl.Series("template", numbers).cast(pl.UInt32),
                *([pl.col("session")] if "session" in self._system.groups else []),
            )
        )
        if sum(part.height for part in self._pending) >= _PART_LINES:
            self._write_part()

    def finish(self) -> list[str]:
        """Writes what is left; returns the templates by their number.

        Raises:
            InputError: there is no line, or none that the profile splits.
        """
        import polars as pl

        if not self.lines:
            names = ", ".join(log.name for log in self.logs)
            raise InputError(f"{names}: empty; a log with at least one line is needed")
        self._refuse_if_none_splits()
        if self._pending:
            self._write_part()
        templates = self._numbers.templates()
        counts = self._counts[: len(templates)]
        frame = pl.DataFrame(
            {
                "template": np.arange(len(counts), dtype=np.uint32),
                "text": templates,
                "lines": counts[:, 0],
                "alerts": counts[:, 1],
            }
        )
        _write(frame, self._folder / TEMPLATES)
        return templates

    def _count(self, lines: pl.DataFrame, numbers: NDArray[np.int64]) -> None:
        log, is_split = self.logs[-1], lines["split"]
        unsplit = lines.height - int(is_split.sum())
        if unsplit and self.first_unsplit is None:
            row = int((~is_split).arg_max() or 0)
            text = str(lines["raw"][row])[:_SHOWN]
            self.first_unsplit = Unsplit(log.name, log.lines + row + 1, text)
        self.logs[-1] = SourceLog(
            name=log.name, lines=log.lines + lines.height, unsplit=log.unsplit + unsplit
        )
        alert = lines["label"].fill_null(value=False).to_numpy()
        self.alerts += int(alert.sum())
        self.normal += int((~lines["label"]).sum())
        if len(self._numbers) > len(self._counts):
            more = np.zeros((2 * len(self._numbers) - len(self._counts), 2), dtype=np.int64)
            self._counts = np.concatenate((self._counts, more))
        for column, seen in enumerate((numbers, numbers[alert])):
            distinct, times = np.unique(seen, return_counts=True)
            self._counts[distinct, column] += times

    def _write_part(self) -> None:
        import polars as pl

        _write(pl.concat(self._pending), self._folder / f"lines-{self._parts:05d}.parquet")
        self._parts += 1
        self._pending = []

    def _refuse_if_none_splits(self) -> None:
        if self.unsplit == self.lines:
            names = ", ".join(log.name for log in self.logs)
            raise InputError(
                f"{names}: no log of {self._system.name}, none of {self.lines:,} lines splits; "
                f"see `trainer systems check {self._system.name} FILE`"
            )


def _write(frame: pl.DataFrame, path: Path) -> None:
    import polars as pl

    try:
        frame.write_parquet(path, compression="zstd")
    except pl.exceptions.PolarsError as error:
        # Polars says so where the disk is full.
        raise OSError(str(error)) from error


def _write_vectors(
    path: Path,
    templates: list[str],
    encoder: Encoder,
    cache: EmbeddingCache,
    watcher: Watcher | None,
) -> None:
    """Writes the vectors as an array of numpy's format, each in the row of its template."""
    done = 0
    with path.open("wb") as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(templates), encoder.dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        begin, width = stream.tell(), 2 * encoder.dim
        for rows, vectors in encode_in_pieces(templates, encoder, cache):
            # They come by length. A memory map would count as memory with every page it has seen.
            for row, vector in zip(rows.tolist(), vectors.astype("<f2"), strict=True):
                stream.seek(begin + row * width)
                stream.write(vector.tobytes())
            done += len(rows)
            if watcher is not None:
                watcher.encoded(done, len(templates))


def _seal(path: Path) -> str:
    """Makes a file readable by its owner alone, brings it to the disk, and returns its sha256."""
    path.chmod(0o600)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()
