"""What a system consists of whose labels belong to sessions, as HDFS's blocks."""

import re
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from crosyslog.errors import SystemProfileError
from trainer.simulation.catalogue import read_tables
from trainer.simulation.slots import MOST_SLOTS, slots_of, unknown_slots

# What stays the same over a session or a stage of it, and so is no slot of its own.
SESSION_SLOTS = frozenset(
    (
        *("block", "instance", "node", "peer", "nodepid"),
        *("target", "size", "request", "tenant", "userid", "image"),
    )
)
_HEADER_FIELDS = {"short_date", "short_clock", "date", "clock", "millis", "file", "body"}

_STEP = re.compile(r"(\w+)(?:\*(\d+)(?:-(\d+))?)?(?:\?(\d+))?")

_Count = Annotated[int, Field(ge=1)]
_Range = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionLogShape(_Entry):
    """How the raw line looks, when the log begins and how many sessions begin in a second."""

    header: str
    begins: AwareDatetime
    sessions_per_second: Annotated[float, Field(gt=0, le=1_000)]
    background_per_session: Annotated[int, Field(ge=0, le=100)] = 0
    """Lines of no session, in the mean, for each session that begins."""
    rhythm: Annotated[tuple[_Count, ...], Field(min_length=24, max_length=24)]
    """Sessions in each hour of the day (UTC), in percent of `sessions_per_second`."""


class Naming(_Entry):
    """What a session is called, and how the file of labels names it."""

    slot: Literal["block", "instance"]
    column: str
    copies: _Count
    """How many hosts a session has to do with."""


class SessionHosts(_Entry):
    """The machines: a name at each combination of the axes."""

    name: str
    axes: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]


class Source(_Entry):
    """Who says something: the line's beginning after its time, and the file it comes from."""

    head: str
    file: str = ""


class Stage(_Entry):
    """A part of a session's life."""

    after: _Range
    """Seconds since the stage before has ended, from and to."""
    over: _Range
    """Seconds it lasts, from and to."""
    steps: Annotated[tuple[str, ...], Field(min_length=1)]
    """Events in their order, as `event`, `event*3`, `event*0-4`, each `?20` in percent."""


class Life(_Entry):
    """How a session can go."""

    kind: str
    weight: _Count
    stages: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of stages in their order, each `?20` in percent."""


class SessionCatalogue(_Entry):
    """A system whose labels belong to sessions; hdfs.toml explains the tables."""

    system: str
    log: SessionLogShape
    session: Naming
    hosts: SessionHosts
    sources: dict[str, Source]
    events: dict[str, tuple[str, str]]
    """A source and what it says."""
    stages: dict[str, Stage]
    lives: Annotated[tuple[Life, ...], Field(min_length=1)]
    anomalies: Annotated[tuple[Life, ...], Field(min_length=1)]
    background: dict[str, _Count] = {}
    """Events of no session, by how often they are."""

    def body(self, event: str) -> str:
        """All of an event's line behind its time, with its slots."""
        source, text = self.events[event]
        return self.sources[source].head + text

    def events_of(self, lives: tuple[Life, ...]) -> set[str]:
        """The events that can occur in these lives."""
        stages = {parse_step(name)[0] for life in lives for name in life.stages}
        return {parse_step(step)[0] for name in stages for step in self.stages[name].steps}


def parse_step(step: str) -> tuple[str, int, int, int]:
    """The name of a step or stage, how often it comes from and to, and in how many percent.

    Raises:
        ValueError: it is not written as a step is.
    """
    match = _STEP.fullmatch(step)
    if match is None:
        raise ValueError(f"{step!r} is no step: write event, event*3, event*0-4 or event?20")
    name, low, high, percent = match.groups()
    fewest = int(low or 1)
    return name, fewest, int(high or fewest), int(percent or 100)


@cache
def load_session_catalogue(system: str) -> SessionCatalogue:
    """Read what is needed to simulate a system whose labels belong to sessions.

    Raises:
        SystemProfileError: the system's file is wrong.
    """
    return parse_session_catalogue(system, read_tables(system))


def parse_session_catalogue(system: str, tables: dict[str, Any]) -> SessionCatalogue:
    """Check a system's tables.

    Raises:
        SystemProfileError: a key, a slot or a reference is wrong, or a text stands twice.
    """
    try:
        catalogue = SessionCatalogue.model_validate({**tables, "system": system})
        mistakes = _mistakes(catalogue)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _mistaken(system, f"{place}: {first['msg']}") from error
    except ValueError as error:
        raise _mistaken(system, str(error)) from error
    if mistakes:
        raise _mistaken(system, mistakes[0])
    return catalogue


def _mistaken(system: str, mistake: str) -> SystemProfileError:
    return SystemProfileError(f"{system}.toml cannot be simulated from: {mistake}")


def _mistakes(catalogue: SessionCatalogue) -> list[str]:
    """What the types cannot tell: references, slots, ranges and repeated texts."""
    unknown_fields = set(slots_of(catalogue.log.header)) - _HEADER_FIELDS
    mistakes = [f"unknown field {{{name}}} in the header" for name in sorted(unknown_fields)]
    for life in catalogue.lives + catalogue.anomalies:
        names = (parse_step(stage)[0] for stage in life.stages)
        mistakes += [
            f"life {life.kind} names an unknown stage {name}"
            for name in names
            if name not in catalogue.stages
        ]
    for name, stage in catalogue.stages.items():
        steps = [parse_step(step) for step in stage.steps]
        mistakes += [
            f"stage {name} names an unknown event {event}"
            for event, *_ in steps
            if event not in catalogue.events
        ]
        ranges = [(low, high) for _, low, high, _ in steps] + [stage.after, stage.over]
        mistakes += [
            f"stage {name}: a range runs from {low} to {high}" for low, high in ranges if low > high
        ]
    mistakes += [
        f"background names an unknown event {name}"
        for name in catalogue.background
        if name not in catalogue.events
    ]
    for name, (source, text) in catalogue.events.items():
        if source not in catalogue.sources:
            mistakes.append(f"event {name} names an unknown source {source}")
            continue
        body = catalogue.body(name)
        drawn = [slot for slot in slots_of(body) if slot not in SESSION_SLOTS]
        unknown = [slot for slot in unknown_slots(body) if slot not in SESSION_SLOTS]
        mistakes += [f"unknown slot {{{slot}}} in {text!r}" for slot in unknown]
        if len(drawn) > MOST_SLOTS + 1:
            mistakes.append(f"more than {MOST_SLOTS + 1} slots to draw in {text!r}")
    texts = list(catalogue.events.values())
    mistakes += [
        f"twice: {text!r} of {name}" for name, text in texts if texts.count((name, text)) > 1
    ]
    return mistakes
