"""Simulated logs as files."""

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from crosyslog.errors import SettingError
from trainer.new_folders import remove_leftovers, scratch_beside
from trainer.simulation.logs import label_column, open_log
from trainer.simulation.settings import LATE_TEMPLATES, Settings
from trainer.simulation.stream import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a simulated log holds."""

    lines: int
    alerts: int
    """Alert lines; where labels belong to sessions, anomalous sessions."""
    alerts_by_tag: dict[str, int]
    """The most frequent tag first."""
    sessions: int
    """0 where every line has its label."""
    line_patterns: int
    """Distinct patterns used, each made-up name a new one; masked templates are more, since the
    words that fill a pattern stay."""
    hosts: int
    first: datetime
    """Time of the first line, UTC."""
    last: datetime
    labels: Path | None
    """The file of the sessions' labels, if labels belong to sessions."""


class _Tally:
    """What has been written so far."""

    def __init__(self) -> None:
        self.lines = 0
        self.sessions = 0
        self._names = 0
        self._first = self._last = 0
        self._alerts: Counter[str] = Counter()
        self._templates: set[int] = set()
        self._hosts: set[int] = set()

    def add(self, block: Block) -> None:
        self._first = self._first if self.lines else block.first
        self._last = block.last
        self.lines += block.lines
        self.sessions += len(block.sessions)
        self._names = block.names
        self._alerts += block.alerts
        self._templates |= block.templates
        self._hosts |= block.hosts

    def summary(self, labels: Path | None) -> Summary:
        return Summary(
            lines=self.lines,
            alerts=self._alerts.total(),
            alerts_by_tag=dict(sorted(self._alerts.items(), key=lambda item: (-item[1], item[0]))),
            sessions=self.sessions,
            line_patterns=len(self._templates) + self._names,
            hosts=len(self._hosts),
            first=datetime.fromtimestamp(self._first, UTC),
            last=datetime.fromtimestamp(self._last, UTC),
            labels=labels,
        )


def labels_beside(output: Path) -> Path:
    """Where the labels of a log's sessions are written."""
    return output.with_name(f"{output.name}.labels.csv")


def write_simulated_log(
    *,
    system: str,
    lines: int,
    anomaly_rate: float,
    seed: int,
    output: Path,
    late_templates: float = LATE_TEMPLATES,
    templates: int | None = None,
    on_lines: Callable[[int], None] | None = None,
) -> Summary:
    """Write a labelled log in the system's raw format, from our own templates.

    The file appears under its name when it is complete, and not before; one that was there is
    replaced. A name that ends in .gz or .zst is compressed. Where labels belong to sessions, as
    HDFS's to blocks, a second file FILE.labels.csv has a row for each of them.

    Args:
        system: one of `simulated_systems()`.
        lines: how many lines, at least 1.
        anomaly_rate: share of alert lines or of anomalous sessions, from 0 to 0.6.
        seed: 0 or above; the same arguments give the same bytes.
        output: the file to write.
        late_templates: share of harmless templates that first appear later on, from 0 to 0.9.
        templates: about how many distinct masked templates the log comes to hold, by made-up names.
        on_lines: told the number of lines written so far, every thousand lines or so.

    Raises:
        SystemProfileError: the system cannot be simulated.
        SettingError: another argument is outside its range, the log cannot hold that many
            templates, or the file cannot be written.
    """
    if output == Path("-"):
        raise SettingError(
            "--output -: a simulated log is not written to standard output; name a file, which "
            "appears when it is complete"
        )
    settings = Settings(
        lines=lines,
        anomaly_rate=anomaly_rate,
        seed=seed,
        late_templates=late_templates,
        templates=templates,
    )
    simulation = open_log(system, settings)
    column = label_column(system)
    labels = labels_beside(output) if column else None
    tally = _Tally()
    try:
        with _appearing(output) as file, _labels_appearing(labels, column) as rows:
            for block in simulation.blocks():
                file.write(block.text)
                rows(block.sessions)
                tally.add(block)
                if on_lines is not None:
                    on_lines(tally.lines)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingError(f"--output {output}: it cannot be written: {reason}") from error
    return tally.summary(labels)


@contextmanager
def _labels_appearing(
    path: Path | None, column: str
) -> Iterator[Callable[[tuple[tuple[str, bool], ...]], None]]:
    """A file of labels, as the original data sets have it; nothing where lines have theirs."""
    if path is None:
        yield lambda _: None
        return
    with _appearing(path) as file:
        file.write(f"{column},Label\n".encode())

        def write(sessions: tuple[tuple[str, bool], ...]) -> None:
            rows = (f"{name},{'Anomaly' if bad else 'Normal'}\n" for name, bad in sessions)
            file.write("".join(rows).encode())

        yield write


@contextmanager
def _appearing(output: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name when all is well, and leaves nothing behind if not.

    What runs that were killed have left behind is removed.
    """
    target = output.resolve()
    # Renaming onto a device such as /dev/null would replace the device itself.
    if target.exists() and not target.is_file():
        raise SettingError(f"--output {output}: it must be a file, and this is none")
    remove_leftovers(target)
    with scratch_beside(target) as scratch:
        temporary = scratch / "new"
        with temporary.open("wb") as raw:
            if target.suffix == ".gz":
                # Without name and time, which would make two equal logs differ.
                with gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            elif target.suffix == ".zst":
                with zstandard.ZstdCompressor(write_checksum=True).stream_writer(raw) as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield raw
        temporary.replace(target)
