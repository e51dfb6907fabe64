"""Simulated logs as files."""

import gzip
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from crosyslog.errors import SettingError
from trainer.simulation.stream import LATE_TEMPLATES, Simulation


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a simulated log holds."""

    lines: int
    alerts: int
    alerts_by_tag: dict[str, int]
    """The most frequent tag first."""
    templates: int
    """Distinct templates used; masked texts are more, since some slots hold words."""
    hosts: int
    first: datetime
    """Time of the first line, UTC."""
    last: datetime


def write_simulated_log(
    *,
    system: str,
    lines: int,
    anomaly_rate: float,
    seed: int,
    output: Path,
    late_templates: float = LATE_TEMPLATES,
    on_lines: Callable[[int], None] | None = None,
) -> Summary:
    """Write a labelled log in the system's raw format, from our own templates.

    The file appears under its name when it is complete, and not before; one that was there is
    replaced. A name that ends in .gz is compressed.

    Args:
        system: one of `simulated_systems()`.
        lines: how many lines, at least 1.
        anomaly_rate: share of alert lines, from 0 to 0.6.
        seed: 0 or above; the same arguments give the same bytes.
        output: the file to write.
        late_templates: share of harmless templates that first appear later on, from 0 to 0.9.
        on_lines: told the number of lines written so far, every thousand lines or so.

    Raises:
        SystemProfileError: the system cannot be simulated.
        SettingError: another argument is outside its range, or the file cannot be written.
    """
    simulation = Simulation(
        system, lines=lines, anomaly_rate=anomaly_rate, seed=seed, late_templates=late_templates
    )
    written = 0
    alerts: Counter[str] = Counter()
    templates: set[int] = set()
    hosts: set[int] = set()
    first = last = 0
    try:
        with _appearing(output) as file:
            for block in simulation.blocks():
                file.write(block.text)
                first = block.first if not written else first
                last = block.last
                written += block.lines
                alerts += block.alerts
                templates |= block.templates
                hosts |= block.hosts
                if on_lines is not None:
                    on_lines(written)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingError(f"--output {output}: it cannot be written: {reason}") from error
    return Summary(
        lines=written,
        alerts=alerts.total(),
        alerts_by_tag=dict(sorted(alerts.items(), key=lambda item: (-item[1], item[0]))),
        templates=len(templates),
        hosts=len(hosts),
        first=datetime.fromtimestamp(first, UTC),
        last=datetime.fromtimestamp(last, UTC),
    )


@contextmanager
def _appearing(output: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name when all is well, and leaves nothing behind if not."""
    target = output.resolve()
    # Renaming onto a device such as /dev/null would replace the device itself.
    if target.exists() and not target.is_file():
        raise SettingError(f"--output {output}: it must be a file, and this is none")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as raw:
            if target.suffix == ".gz":
                # Without name and time, which would make two equal logs differ.
                with gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield raw
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
