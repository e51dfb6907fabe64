"""Sessions of a simulated log, planned as a whole when they begin."""

from dataclasses import dataclass
from typing import NamedTuple

from trainer.simulation.catalogue import HostGroup
from trainer.simulation.deal import Deal
from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.session_catalogue import (
    SESSION_SLOTS,
    Life,
    SessionCatalogue,
    parse_step,
)
from trainer.simulation.settings import Settings
from trainer.simulation.slots import SLOT_BITS, TABLE_SIZE, SlotTables, format_of, slots_of

_SLOT_MASK = TABLE_SIZE - 1

# Any large odd number will do: it makes a few numbers look like random ones.
_SCATTER = 0x9E3779B97F4A7C15F39CC0605CEDC835


class Line(NamedTuple):
    """A line that waits for its time, in microseconds since 1970."""

    time: int
    serial: int
    event: int
    body: str


@dataclass(frozen=True, slots=True)
class _Event:
    """A text as a format for the % operator, and what fills it."""

    number: int
    file: str
    body: str
    fields: tuple[tuple[str, tuple[str, ...], int], ...]
    """For each slot: the session's value it shows, or its table and which bits pick the entry."""

    def fill(self, values: dict[str, str], draw: int) -> str:
        return self.body % tuple(
            [
                values[key] if key else table[draw >> at & _SLOT_MASK]
                for key, table, at in self.fields
            ]
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has begun."""

    name: str
    kind: str
    anomalous: bool
    hosts: tuple[int, ...]


class Lives:
    """Plans sessions, one after the other.

    Args:
        catalogue: the system.
        settings: of the log.
    """

    def __init__(self, catalogue: SessionCatalogue, settings: Settings) -> None:
        self._catalogue = catalogue
        self._draws = Draws(settings.seed, Purpose.SESSIONS)
        self._steps = Draws(settings.seed, Purpose.STEPS)
        self._serial = 0
        self.left = settings.lines
        """Lines that are still to be planned."""
        slots = SlotTables(lambda number: Draws(settings.seed, Purpose.SLOTS, number), ("",))
        self.events = [
            _event(catalogue, number, name, slots) for number, name in enumerate(catalogue.events)
        ]
        self._by_name = dict(zip(catalogue.events, self.events, strict=True))
        self._hosts = _host_names(catalogue)
        self._stages = {
            name: (stage, [parse_step(step) for step in stage.steps])
            for name, stage in catalogue.stages.items()
        }
        self._paths = {
            life.kind: [parse_step(stage) for stage in life.stages]
            for life in catalogue.lives + catalogue.anomalies
        }
        self._onsets = self._draw_onsets(settings)
        self._lines = settings.lines
        self._deal = Deal(self._catalogue, settings, self._expected(), len(self._hosts))

    @property
    def expected(self) -> int:
        """About how many sessions the log will have."""
        return self._deal.expected

    def begin(self, at: int, following: int, waiting: list[Line]) -> Session | None:
        """Plan a session that begins at a time, and what belongs to none until the next one."""
        if not self.left:
            return None
        life, anomalous, hosts = self._deal.next()
        lines, name = self._plan(life, hosts, at)
        if anomalous and len(lines) > self.left:
            # What shows the anomaly would be cut off, and the label be wrong.
            anomalous, life = False, self._catalogue.lives[0]
            lines, name = self._plan(life, hosts, at)
        lines = sorted(lines)[: self.left]
        self.left -= len(lines)
        background = self._background(at, following)[: self.left]
        self.left -= len(background)
        waiting += lines
        waiting += background
        return Session(name, life.kind, anomalous, hosts)

    def _expected(self) -> int:
        """About how many sessions a log of so many lines has."""
        lives = self._catalogue.lives
        lines = sum(life.weight * self._length(life) for life in lives)
        mean = lines // sum(life.weight for life in lives) + 100 * (
            self._catalogue.log.background_per_session
        )
        return max(1, self.left * 100 // mean)

    def _length(self, life: Life) -> int:
        """Hundred times the lines of a life, in the mean."""
        lines = 0
        for name, *_, percent in self._paths[life.kind]:
            for _, low, high, share in self._stages[name][1]:
                lines += (low + high) * share * percent // 200
        return max(100, lines)

    def _draw_onsets(self, settings: Settings) -> dict[str, int]:
        """What is not seen in every session may begin late: from how many lines on it is seen."""
        draws = Draws(settings.seed, Purpose.ONSETS)
        catalogue = self._catalogue
        seldom = [
            name for life in catalogue.lives for name, *_, p in self._paths[life.kind] if p < 50
        ]
        usual = {name for life in catalogue.lives for name, *_ in self._paths[life.kind]}
        for name in sorted(usual):
            seldom += [event for event, *_, p in self._stages[name][1] if p < 50]
        onsets = {}
        for name in dict.fromkeys([*seldom, *catalogue.background]):
            late = draws.below(10_000) < round(settings.late_templates * 10_000)
            onset = settings.lines * draws.between(12, 88) // 100
            onsets[name] = onset if late else 0
        return onsets

    def _occurs(self, name: str, percent: int) -> bool:
        if percent < 100 and not self._steps.chance(percent):
            return False
        return self._onsets.get(name, 0) <= self._lines - self.left

    def _plan(self, life: Life, hosts: tuple[int, ...], at: int) -> tuple[list[Line], str]:
        """The lines of a session, and its name."""
        draws = self._steps
        values = _values(draws)
        names = [self._hosts[host] for host in hosts]
        values["nodepid"] = str(2_100 + hosts[0] * 37 % 900)
        lines: list[Line] = []
        for name, _, _, percent in self._paths[life.kind]:
            if not self._occurs(name, percent):
                continue
            stage, steps = self._stages[name]
            values["request"] = f"req-{_uuid(draws)}"
            at += draws.between(stage.after[0] * 1_000, stage.after[1] * 1_000) * 1_000
            span = draws.between(stage.over[0] * 1_000, stage.over[1] * 1_000) * 1_000 + 1_000
            # Each step has its part of the time, and half as much again into the next one's.
            part = span // len(steps)
            for place, (event_name, low, high, share) in enumerate(steps):
                if not self._occurs(event_name, share):
                    continue
                event = self._by_name[event_name]
                for turn in range(low if low == high else draws.between(low, high)):
                    values["node"] = names[turn % len(names)]
                    values["peer"] = names[(turn + 1) % len(names)]
                    when = at + place * part + (draws.below(1_024) * (part * 3 // 2) >> 10)
                    self._serial += 1
                    body = event.fill(values, draws.bits())
                    lines.append(Line(when, self._serial, event.number, body))
            at += span
        return lines, values[self._catalogue.session.slot]

    def _background(self, at: int, following: int) -> list[Line]:
        """Lines of no session between two times."""
        catalogue, draws = self._catalogue, self._steps
        mean = catalogue.log.background_per_session
        if not mean:
            return []
        planned = self._lines - self.left
        present = [name for name in catalogue.background if self._onsets[name] <= planned]
        weights = [catalogue.background[name] for name in present]
        lines = []
        for _ in range(draws.below(2 * mean + 1) if present else 0):
            place = draws.below(sum(weights))
            chosen = 0
            while place >= weights[chosen]:
                place -= weights[chosen]
                chosen += 1
            host = draws.below(len(self._hosts))
            values = _values(draws) | {"node": self._hosts[host], "peer": self._hosts[host - 1]}
            values["nodepid"] = str(2_100 + host * 37 % 900)
            values["request"] = f"req-{_uuid(draws)}"
            event = self._by_name[present[chosen]]
            when = at + (draws.below(1_024) * (following - at) >> 10)
            self._serial += 1
            body = event.fill(values, draws.bits())
            lines.append(Line(when, self._serial, event.number, body))
        return sorted(lines)


def _values(draws: Draws) -> dict[str, str]:
    """What stays the same over a session."""
    number = draws.bits()
    size = 67_108_864 if number & 3 else number >> 38
    return {
        "block": f"blk_{'-' if number & 4 else ''}{1_000_000_000_000_000_000 + (number >> 4)}",
        "instance": _uuid(draws),
        "image": f"{draws.below(12):08x}-5c1e-4d0a-9b6e-0cafe0000000",
        "tenant": _scattered(1 + draws.below(40)),
        "userid": _scattered(101 + draws.below(90)),
        "target": f"/data/run{draws.below(900)}/part-{draws.below(2_000):05d}",
        "size": str(size),
    }


def _scattered(number: int) -> str:
    return f"{number * _SCATTER % (1 << 128):032x}"


def _uuid(draws: Draws) -> str:
    text = f"{draws.bits():016x}{draws.bits():016x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _event(catalogue: SessionCatalogue, number: int, name: str, slots: SlotTables) -> _Event:
    body = catalogue.body(name)
    fields: list[tuple[str, tuple[str, ...], int]] = []
    drawn = 0
    for slot in slots_of(body):
        if slot in SESSION_SLOTS:
            fields.append((slot, (), 0))
        else:
            fields.append(("", slots.table(slot), drawn * SLOT_BITS))
            drawn += 1
    source = catalogue.sources[catalogue.events[name][0]]
    return _Event(number, source.file, format_of(body), tuple(fields))


def _host_names(catalogue: SessionCatalogue) -> list[str]:
    group = HostGroup(role="", name=catalogue.hosts.name, origin="", axes=catalogue.hosts.axes)
    return group.names()
