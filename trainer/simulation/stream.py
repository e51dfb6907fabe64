"""The lines of a simulated log, one block after the other."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import SettingError
from trainer.simulation.catalogue import Catalogue, load_catalogue
from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.roster import HOST_TABLE_SIZE, Roster
from trainer.simulation.schedule import PLACE_BITS, Schedule

if TYPE_CHECKING:
    from numpy.typing import NDArray

LATE_TEMPLATES = 0.1

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Part of what defines a log's bytes: draws are taken by the block, and onsets fall on its edges.
_BLOCK = 1_024

# The time to the next routine line, in 1,024ths of its mean: exponential, as when many hosts log
# independently of one another. A table of whole numbers, since a logarithm's last bit differs
# between machines.
_GAP_TABLE_SIZE = 4_096
_GAPS = np.array(
    [round(-1_024 * math.log((i + 0.5) / _GAP_TABLE_SIZE)) for i in range(_GAP_TABLE_SIZE)],
    dtype=np.int64,
)


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive lines of a simulated log, and what is in them."""

    text: bytes
    """The lines, each with its line feed."""
    lines: int
    alerts: Counter[str]
    """Alert lines by tag."""
    templates: set[int]
    hosts: set[int]
    first: int
    """Seconds since 1970 of the first line; `last`, of the last one."""
    last: int


def simulate(
    system: str,
    lines: int,
    anomaly_rate: float,
    seed: int,
    *,
    late_templates: float = LATE_TEMPLATES,
) -> Iterator[bytes]:
    """The lines of a labelled log in the system's raw format, without their line feeds.

    The same arguments give the same bytes everywhere. Memory does not grow with `lines`. A few
    lines hold bytes that are no UTF-8, as real logs do.

    Args:
        system: one of `simulated_systems()`.
        lines: how many lines, at least 1.
        anomaly_rate: share of alert lines, from 0 to 0.6; met to the line.
        seed: 0 or above; decides everything that is left open.
        late_templates: share of harmless templates that first appear later on, from 0 to 0.9.

    Raises:
        SystemProfileError: the system cannot be simulated.
        SettingError: another argument is outside its range.
    """
    simulation = Simulation(
        system, lines=lines, anomaly_rate=anomaly_rate, seed=seed, late_templates=late_templates
    )
    return (line for block in simulation.blocks() for line in block.text[:-1].split(b"\n"))


class Simulation:
    """A log that can be written once or many times; see `simulate` for the arguments."""

    def __init__(
        self, system: str, *, lines: int, anomaly_rate: float, seed: int, late_templates: float
    ) -> None:
        self._catalogue = load_catalogue(system)
        if lines < 1:
            raise SettingError(f"--lines {lines}: it must be at least 1")
        if not 0 <= anomaly_rate <= 0.6:
            raise SettingError(f"--anomaly-rate {anomaly_rate}: it must be from 0 to 0.6")
        if seed < 0:
            raise SettingError(f"--seed {seed}: it must be at least 0")
        if not 0 <= late_templates <= 0.9:
            raise SettingError(f"--late-templates {late_templates}: it must be from 0 to 0.9")
        # Alerts stand between routine lines, so there is at least one of those.
        self._alerts = min(round(lines * anomaly_rate), lines - 1)
        self._routine = lines - self._alerts
        self._seed = seed
        self._late_templates = late_templates

    def blocks(self) -> Iterator[Block]:
        """The log from its first line to its last."""
        log = self._catalogue.log
        roster = Roster(
            self._catalogue,
            routine=self._routine,
            late_templates=self._late_templates,
            seed=self._seed,
        )
        schedule = Schedule(
            roster,
            routine=self._routine,
            alerts=self._alerts,
            minute=log.routine_per_second * 60,
            seed=self._seed,
        )
        routine = _Routine(self._catalogue, roster, self._seed)
        writer = _Writer(self._catalogue, roster)
        for start in range(0, self._routine, _BLOCK):
            count = min(_BLOCK, self._routine - start)
            choices, times = routine.take(start, count)
            overlays, alerts = schedule.until(start + count)
            for line in overlays:
                place = (line.place >> PLACE_BITS) - start
                choices[place] = (line.template.number, line.host, line.draw)
            entries: list[tuple[int, int, int, int]] = []
            following = iter(alerts)
            alert = next(following, None)
            for place, (template, host, draw) in enumerate(choices):
                time = times[place]
                entries.append((time // 1_000_000, template, host, draw))
                end = (start + place + 1) << PLACE_BITS
                while alert is not None and alert.place < end:
                    part = alert.place & ((1 << PLACE_BITS) - 1)
                    at = time + ((times[place + 1] - time) * part >> PLACE_BITS)
                    entries.append((at // 1_000_000, alert.template.number, alert.host, alert.draw))
                    alert = next(following, None)
            yield writer.block(entries)


class _Routine:
    """Draws the routine lines: which template, which host, and when."""

    def __init__(self, catalogue: Catalogue, roster: Roster, seed: int) -> None:
        self._draws = Draws(seed, Purpose.LINES)
        self._weights = roster.weights
        self._onsets = roster.onsets
        tables: dict[int, int] = {}
        rows: list[list[int]] = []
        for template in roster.benign:
            if id(template.hosts) not in tables:
                tables[id(template.hosts)] = len(rows)
                rows.append(list(template.hosts))
        self._table_of = np.array([tables[id(t.hosts)] for t in roster.benign], dtype=np.int64)
        self._hosts = np.array(rows, dtype=np.int64)
        log = catalogue.log
        self._gap = round(1_000_000 / log.routine_per_second)
        self._rhythm = log.rhythm
        # In microseconds since 1970.
        self._now = int(log.begins.timestamp()) * 1_000_000

    def take(self, start: int, count: int) -> tuple[list[tuple[int, int, int]], list[int]]:
        """The next `count` lines: (template, host, draw) of each, and the times around them."""
        weights = (
            weight if onset <= start else 0
            for weight, onset in zip(self._weights, self._onsets, strict=True)
        )
        bounds = np.array(list(accumulate(weights)), dtype=np.uint64)
        draws = self._draws.array(count)
        marks = ((draws >> np.uint64(32)) * bounds[-1]) >> np.uint64(32)
        templates = np.searchsorted(bounds, marks, side="right")
        hosts = self._hosts[self._table_of[templates], _low(draws, HOST_TABLE_SIZE)]
        fillings = self._draws.array(count)
        choices = list(zip(templates.tolist(), hosts.tolist(), fillings.tolist(), strict=True))
        percent = self._rhythm[self._now // 3_600_000_000 % 24]
        gaps = (
            _GAPS[_low(self._draws.array(count), _GAP_TABLE_SIZE)]
            * self._gap
            * 100
            // (1_024 * percent)
        )
        times = [self._now, *(self._now + np.cumsum(gaps)).tolist()]
        self._now = times[-1]
        return choices, times


def _low(draws: "NDArray[np.uint64]", size: int) -> "NDArray[np.int64]":
    """An entry of a table of `size`, a power of two, by the lowest bits of each draw."""
    return (draws & np.uint64(size - 1)).astype(np.int64)


class _Writer:
    """Writes entries as raw lines."""

    def __init__(self, catalogue: Catalogue, roster: Roster) -> None:
        self._header = catalogue.log.header
        self._normal = catalogue.log.normal
        self._templates = roster.templates
        self._hosts = roster.hosts
        self._day = -1
        self._dated: dict[str, str] = {}

    def block(self, entries: list[tuple[int, int, int, int]]) -> Block:
        """Write lines, given as (second, template, host, draw) in the order of time."""
        lines = []
        labels: Counter[str] = Counter()
        second = -1
        header = ""
        for at, template_number, host_number, draw in entries:
            if at != second:
                second, header = at, self._header_at(at)
            template = self._templates[template_number]
            host = self._hosts[host_number]
            labels[template.label] += 1
            body = template.fill(host_number, draw)
            lines.append(header.format(template.label, host.name, host.origin, body))
        lines.append("")
        del labels[self._normal]
        return Block(
            text="\n".join(lines).encode("utf-8", "surrogateescape"),
            lines=len(entries),
            alerts=labels,
            templates={entry[1] for entry in entries},
            hosts={entry[2] for entry in entries},
            first=entries[0][0],
            last=second,
        )

    def _header_at(self, second: int) -> str:
        """The header of a second's lines, with {0} label, {1} host, {2} origin, {3} body open."""
        day, rest = divmod(second, 86_400)
        if day != self._day:
            # Not strftime, whose month names follow the locale.
            date = datetime.fromtimestamp(second, UTC)
            self._day = day
            self._dated = {
                "ymd": f"{date.year:04d}.{date.month:02d}.{date.day:02d}",
                "month": _MONTHS[date.month - 1],
                "day": str(date.day),
                "label": "{0}",
                "host": "{1}",
                "origin": "{2}",
                "body": "{3}",
            }
        clock = f"{rest // 3_600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
        return self._header.format(epoch=second, clock=clock, **self._dated)
