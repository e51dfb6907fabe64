"""What a simulated system consists of, read from the TOML files of this folder."""

import tomllib
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from crosyslog.errors import SystemProfileError
from trainer.simulation.slots import MOST_SLOTS, SOURCE_SLOTS, slots_of, unknown_slots

SHARED = "daemons"
_HEADER_FIELDS = {
    *("label", "epoch", "ymd", "month", "day", "date", "clock", "dotted", "micros"),
    *("host", "origin", "body"),
}

_Count = Annotated[int, Field(ge=1)]
_Range = tuple[_Count, _Count]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogShape(_Entry):
    """How the system's raw line looks, when the log begins and how fast it grows."""

    header: str
    """The raw line; its last field, `{body}`, is the daemon's source and message."""
    normal: str
    """The label of a line that is no alert."""
    begins: AwareDatetime
    hours_from_utc: Annotated[int, Field(ge=-12, le=14)] = 0
    """How far the clock and the date of a line are from UTC; the epoch is not."""
    routine_per_second: Annotated[float, Field(gt=0, le=1_000_000)]
    rhythm: Annotated[tuple[_Count, ...], Field(min_length=24, max_length=24)]
    """Routine lines in each hour of the day (UTC), in percent of `routine_per_second`."""
    burst_over: Annotated[tuple[_Count, ...], Field(min_length=1)] = (1,)
    """How many neighbours a harmless burst comes from: one of these."""


class HostGroup(_Entry):
    """Hosts of one role that are named and shown alike."""

    role: str
    name: str
    """The name, where `{n}` counts from 1, and each key of `axes` stands for its place."""
    count: _Count = 1
    origin: str
    """How the host shows in the line's second mention, by its `{host}`."""
    axes: dict[str, tuple[str, ...]] = {}
    """Places in a machine room, as rack, card and chip: there is a host at each combination."""

    def names(self) -> list[str]:
        """The names of the hosts; neighbours stand side by side."""
        names = [self.name.replace("{n}", str(n)) for n in range(1, self.count + 1)]
        for axis, places in self.axes.items():
            names = [name.replace(f"{{{axis}}}", place) for name in names for place in places]
        return names


class Daemon(_Entry):
    """A program that logs: what it says, and on which hosts."""

    source: str
    on: Annotated[tuple[str, ...], Field(min_length=1)]
    routine: tuple[str, ...] = ()
    oddities: tuple[str, ...] = ()


class Family(_Entry):
    """Alerts with one tag and one cause; thunderbird.toml explains the keys."""

    tag: str
    daemon: str
    on: Annotated[tuple[str, ...], Field(min_length=1)]
    weight: _Count
    nodes: _Range
    lines: _Range
    minutes: _Range
    partitions: tuple[_Count, ...] = ()
    """Sizes of the partitions whose job such a storm binds, instead of `nodes`."""
    announced_by: str = ""
    """The daemon that says the precursors, if it is another one."""
    precursors: tuple[str, ...] = ()
    messages: Annotated[tuple[str, ...], Field(min_length=1)]
    follow_ups: tuple[str, ...] = ()

    @property
    def announcer(self) -> str:
        """The daemon that says the precursors."""
        return self.announced_by or self.daemon


class Catalogue(_Entry):
    """A system as it can be simulated: its own file and the shared daemons it takes."""

    system: str
    log: LogShape
    hosts: Annotated[tuple[HostGroup, ...], Field(min_length=1)]
    mix: Annotated[dict[str, _Count], Field(min_length=1)]
    """Share of a daemon's routine in all routine, in parts of the sum."""
    daemons: dict[str, Daemon]
    families: Annotated[tuple[Family, ...], Field(min_length=1)]

    def benign(self) -> list[tuple[str, str]]:
        """Daemon and text of every template of harmless lines, each once."""
        texts = [
            (name, text)
            for name in self.mix
            for text in self.daemons[name].routine + self.daemons[name].oddities
        ]
        return texts + [(f.announcer, text) for f in self.families for text in f.precursors]

    def alerts(self) -> list[tuple[str, str]]:
        """Daemon and text of every template of alerts, each once."""
        return [(f.daemon, text) for f in self.families for text in f.messages + f.follow_ups]


@cache
def load_catalogue(system: str) -> Catalogue:
    """Read what is needed to simulate a system whose every line has its label.

    Raises:
        SystemProfileError: the system's file is wrong.
    """
    return parse_catalogue(system, read_tables(system), read_tables(SHARED))


def read_tables(name: str) -> dict[str, Any]:
    """The tables of a file of this folder."""
    return tomllib.loads((files("trainer.simulation") / f"{name}.toml").read_text("utf-8"))


def parse_catalogue(system: str, own: dict[str, Any], shared: dict[str, Any]) -> Catalogue:
    """Check a system's tables, and add the shared daemons that it names in its mix.

    Raises:
        SystemProfileError: a key, a slot or a reference is wrong, or a template stands twice.
    """
    mix = own.get("mix", {})
    daemons = {name: shared[name] for name in mix if name in shared} | own.get("daemons", {})
    try:
        catalogue = Catalogue.model_validate({**own, "system": system, "daemons": daemons})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SystemProfileError(
            f"{system}.toml cannot be simulated from: {place}: {first['msg']}"
        ) from error
    mistakes = _mistakes(catalogue)
    if mistakes:
        raise SystemProfileError(f"{system}.toml cannot be simulated from: {mistakes[0]}")
    return catalogue


def _mistakes(catalogue: Catalogue) -> list[str]:
    """What the types cannot tell: references, slots, ranges and repeated templates."""
    named = [(f"mix.{name}", name) for name in catalogue.mix]
    for family in catalogue.families:
        named += [(f"family {family.tag}", name) for name in (family.daemon, family.announcer)]
    mistakes = [
        f"{place} names an unknown daemon {name}"
        for place, name in named
        if name not in catalogue.daemons
    ]
    if mistakes:
        return mistakes
    mistakes += _header_mistakes(catalogue.log.header)
    roles = {group.role for group in catalogue.hosts}
    users = [(name, daemon.on) for name, daemon in catalogue.daemons.items()]
    users += [(family.tag, family.on) for family in catalogue.families]
    mistakes += [f"no host has a role of {name}" for name, on in users if roles.isdisjoint(on)]
    mistakes += [
        f"family {family.tag}: a range runs from {low} to {high}"
        for family in catalogue.families
        for low, high in (family.nodes, family.lines, family.minutes)
        if low > high
    ]
    texts = [text for _, text in catalogue.benign() + catalogue.alerts()]
    for text in texts:
        mistakes += [f"unknown slot {{{slot}}} in {text!r}" for slot in unknown_slots(text)]
        if len(slots_of(text)) > MOST_SLOTS:
            mistakes.append(f"more than {MOST_SLOTS} slots in {text!r}")
    for name, daemon in catalogue.daemons.items():
        slots = slots_of(daemon.source)
        if len(slots) > 1 or not set(slots) <= SOURCE_SLOTS:
            mistakes.append(f"daemon {name}: its source may hold one of {sorted(SOURCE_SLOTS)}")
    # One text may be said by two daemons, but then only if neither is an alert: see the tests.
    repeated = Counter(catalogue.benign() + catalogue.alerts())
    mistakes += [f"twice: {text!r} of {name}" for (name, text), n in repeated.items() if n > 1]
    return mistakes


def _header_mistakes(header: str) -> list[str]:
    fields = slots_of(header)
    mistakes = [
        f"unknown field {{{name}}} in the header" for name in fields if name not in _HEADER_FIELDS
    ]
    if not header.endswith("{body}"):
        mistakes.append("the header must end with {body}")
    return mistakes
