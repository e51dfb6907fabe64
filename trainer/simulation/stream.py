"""The lines of a simulated log, one block after the other."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from trainer.simulation.catalogue import Catalogue, load_catalogue
from trainer.simulation.clock import MICROSECONDS, Clock, lowest, times_after
from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.roster import HOST_TABLE_SIZE, Roster
from trainer.simulation.schedule import PLACE_BITS, Schedule
from trainer.simulation.settings import Settings
from trainer.simulation.words import Vocabulary

# Part of what defines a log's bytes: draws are taken by the block, and onsets fall on its edges.
_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive lines of a simulated log, and what is in them."""

    text: bytes
    """The lines, each with its line feed."""
    lines: int
    alerts: Counter[str]
    """Alert lines by tag; where sessions have the labels, anomalous sessions by kind."""
    templates: set[int]
    hosts: set[int]
    first: int
    """Seconds since 1970 of the first line; `last`, of the last one."""
    last: int
    names: int = 0
    """Made-up names shown so far, each of which made another template of its message."""
    sessions: tuple[tuple[str, bool], ...] = ()
    """The sessions that begin in these lines, and whether each is anomalous."""


class Simulation:
    """A log whose every line has its label; it can be written once or many times.

    Raises:
        SystemProfileError: the system's file is wrong.
        SettingError: the log cannot hold as many templates as it is asked to.
    """

    def __init__(self, system: str, settings: Settings) -> None:
        self._catalogue = load_catalogue(system)
        self._settings = settings
        lines = settings.lines
        # Alerts stand between routine lines, so there is at least one of those.
        self._alerts = min(round(lines * settings.anomaly_rate), lines - 1)
        self._routine = lines - self._alerts
        self._roster = Roster(
            self._catalogue,
            routine=self._routine,
            late_templates=settings.late_templates,
            seed=settings.seed,
        )
        # Made here as well, so that what cannot be is refused before anything is written.
        self._vocabulary()

    def _vocabulary(self) -> Vocabulary | None:
        if self._settings.templates is None:
            return None
        return Vocabulary(self._roster, self._settings, routine=self._routine)

    def blocks(self) -> Iterator[Block]:
        """The log from its first line to its last."""
        log = self._catalogue.log
        roster, seed = self._roster, self._settings.seed
        vocabulary = self._vocabulary()
        schedule = Schedule(
            roster,
            routine=self._routine,
            alerts=self._alerts,
            minute=log.routine_per_second * 60,
            seed=seed,
        )
        routine = _Routine(self._catalogue, roster, seed)
        writer = _Writer(self._catalogue, roster)
        for start in range(0, self._routine, _BLOCK):
            count = min(_BLOCK, self._routine - start)
            choices, times = routine.take(start, count)
            overlays, alerts = schedule.until(start + count)
            for line in overlays:
                place = (line.place >> PLACE_BITS) - start
                choices[place] = (line.template.number, line.host, line.draw)
            if vocabulary is not None:
                choices = vocabulary.name(choices, start)
            entries: list[tuple[int, int, int, int]] = []
            following = iter(alerts)
            alert = next(following, None)
            for place, (template, host, draw) in enumerate(choices):
                time = times[place]
                entries.append((time, template, host, draw))
                end = (start + place + 1) << PLACE_BITS
                while alert is not None and alert.place < end:
                    part = alert.place & ((1 << PLACE_BITS) - 1)
                    at = time + ((times[place + 1] - time) * part >> PLACE_BITS)
                    entries.append((at, alert.template.number, alert.host, alert.draw))
                    alert = next(following, None)
            yield writer.block(entries, names=vocabulary.introduced if vocabulary else 0)


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
        self._gap = round(MICROSECONDS / log.routine_per_second)
        self._rhythm = log.rhythm
        # In microseconds since 1970.
        self._now = int(log.begins.timestamp()) * MICROSECONDS

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
        hosts = self._hosts[self._table_of[templates], lowest(draws, HOST_TABLE_SIZE)]
        fillings = self._draws.array(count)
        choices = list(zip(templates.tolist(), hosts.tolist(), fillings.tolist(), strict=True))
        times = times_after(self._now, self._draws, count, gap=self._gap, rhythm=self._rhythm)
        self._now = times[-1]
        return choices, times


_OPEN = {"label": "{0}", "host": "{1}", "origin": "{2}", "body": "{3}", "micros": "{4:06d}"}


class _Writer:
    """Writes entries as raw lines."""

    def __init__(self, catalogue: Catalogue, roster: Roster) -> None:
        self._header = catalogue.log.header
        self._normal = catalogue.log.normal
        self._clock = Clock(catalogue.log.hours_from_utc)
        self._templates = roster.templates
        self._hosts = roster.hosts

    def block(self, entries: list[tuple[int, int, int, int]], *, names: int) -> Block:
        """Write lines, given as (microsecond, template, host, draw) in the order of time."""
        lines = []
        labels: Counter[str] = Counter()
        second = -1
        header = ""
        for time, template_number, host_number, draw in entries:
            at, micros = divmod(time, MICROSECONDS)
            if at != second:
                # What varies within a second stays open, by its number.
                second = at
                header = self._header.format(**_OPEN, **self._clock.fields(at))
            template = self._templates[template_number]
            host = self._hosts[host_number]
            labels[template.label] += 1
            body = template.fill(host_number, draw)
            lines.append(header.format(template.label, host.name, host.origin, body, micros))
        lines.append("")
        del labels[self._normal]
        return Block(
            text="\n".join(lines).encode("utf-8", "surrogateescape"),
            lines=len(entries),
            alerts=labels,
            templates={entry[1] for entry in entries},
            hosts={entry[2] for entry in entries},
            names=names,
            first=entries[0][0] // MICROSECONDS,
            last=second,
        )
