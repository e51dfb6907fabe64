"""The schema of a system profile, and how one is found."""

from __future__ import annotations

import re
import tomllib
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from crosyslog.errors import SystemProfileError
from crosyslog.session_rules import SessionRule
from crosyslog.systems.json_paths import parse_path
from crosyslog.systems.times import format_fault

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: Named groups of a profile's patterns, or keys of its `paths`, that become columns of lines.
COLUMNS = ("label", "time", "host", "component", "severity", "message", "session")

Column = Literal["label", "time", "host", "component", "severity", "message", "session"]

#: The two ways to name a group.
_GROUP = re.compile(r"\(\?P?<(\w+)>")


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _checked_path(path: str) -> str:
    parse_path(path)
    return path


#: Paths into a JSON line, tried in this order; a single one needs no list.
Tried = Annotated[
    tuple[Annotated[str, AfterValidator(_checked_path)], ...], BeforeValidator(_one_or_several)
]


class Time(BaseModel):
    """How the time is read; all times without a zone of their own are UTC.

    Attributes:
        format: `epoch` for seconds since 1970 (`epoch-ms`, `epoch-us`, `epoch-ns` for parts of
            one), else a chrono format (`%Y-%m-%d-%H.%M.%S%.f`); or several, tried in order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Annotated[tuple[str, ...], BeforeValidator(_one_or_several), Field(min_length=1)] = (
        "epoch",
    )

    @field_validator("format")
    @classmethod
    def _can_be_read(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for how in formats:
            if fault := format_fault(how):
                raise ValueError(f"{how!r} {fault}")
        return formats


class Severity(BaseModel):
    """What the severity's field means, where it is a number or a code.

    Attributes:
        priority: the field is syslog's PRI, facility times 8 plus severity (RFC 5424, 6.2.1).
        words: what stands in the field, and the word for it; anything else stays as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    priority: bool = False
    words: dict[str, str] = {}


class Paths(BaseModel):
    """Where the fields stand in a line that is a JSON object: for each, paths tried in order.

    A path names nested keys, `kubernetes.pod.name`. A key that holds a dot is written
    `['log.level']`; `[0]` is the first element of an array, `[]` its only one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    message: Annotated[Tried, Field(min_length=1)]
    label: Tried = ()
    time: Tried = ()
    host: Tried = ()
    component: Tried = ()
    severity: Tried = ()
    session: Tried = ()


class Fields(BaseModel):
    """Which fields say what.

    Attributes:
        normal: the label of a normal line; every other label is an alert's.
        text: the columns that, joined by a space, make the text that is judged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    normal: str = "-"
    text: Annotated[tuple[Column, ...], Field(min_length=1)] = ("message",)


def _checked_moment(text: str) -> str:
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: write it as 2024-05-06T07:08:09Z") from error
    if zone is None:
        raise ValueError(f"{text!r} names no zone: end it with Z, or with +02:00")
    return text


class Example(BaseModel):
    """A line and the fields that it must split into; a test checks each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    line: str
    label: str | None = None
    time: Annotated[str, AfterValidator(_checked_moment)] | None = None
    host: str | None = None
    component: str | None = None
    severity: str | None = None
    message: str
    session: str | None = None
    text: str


class DrainSettings(BaseModel):
    """How Drain groups the templates of a log's lines (He et al., ICWS 2017).

    Attributes:
        depth: levels of its tree: the root, the number of words, `depth - 3` first words and the
            groups below them.
        similarity: the share of words that a template has in common with a group to belong to it.
        children: of a node of the tree at most; all words beyond share the last one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    depth: Annotated[int, Field(ge=3, le=100, strict=True)] = 5
    similarity: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.5
    children: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 100


class System(BaseModel):
    """A kind of log: how its lines split, and which of their fields are judged.

    Attributes:
        name: what users call the system; lower case, digits and dashes.
        description: one line for lists.
        pattern: a regular expression with named groups out of `COLUMNS`, in the syntax of the
            Rust crate `regex` (no look-around). A line that does not match is judged whole.
            The label's group is optional, so that a line splits with and without it.
        alternatives: more patterns, each for the lines that none before it matches.
        paths: instead of a pattern, for lines that are JSON objects.
        session: a pattern for the session's key wherever it stands in the raw line, the first
            match counts: its first group, or all of it where it has none.
        time: how the time is read.
        severity: what the severity means, where it is a number or a code.
        fields: which fields say what.
        judged: what is judged by default.
        sessions: how lines make sessions by default.
        drain: how Drain groups the templates.
        examples: lines, and what they must split into.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    pattern: str | None = None
    alternatives: tuple[str, ...] = ()
    paths: Paths | None = None
    session: str | None = None
    time: Time = Time()
    severity: Severity = Severity()
    fields: Fields = Fields()
    judged: Literal["lines", "sessions"] = "lines"
    sessions: SessionRule | None = None
    drain: DrainSettings = DrainSettings()
    examples: tuple[Example, ...] = ()

    @property
    def patterns(self) -> tuple[str, ...]:
        """The pattern and its alternatives."""
        return () if self.pattern is None else (self.pattern, *self.alternatives)

    @property
    def judges_whole(self) -> bool:
        """Whether a line is its message as it stands."""
        return not self.patterns and self.paths is None

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns that the profile can fill."""
        named = set(_GROUP.findall("".join(self.patterns)))
        if self.paths is not None:
            named |= {column for column in COLUMNS if getattr(self.paths, column)}
        if self.session is not None:
            named.add("session")
        return tuple(column for column in COLUMNS if column in named)

    def session_fault(self, rule: SessionRule) -> str | None:
        """Why a rule can make no sessions of this system's lines; none if it can."""
        if rule.by == "key" and "session" not in self.groups:
            return "no line has a key: say with `session` where it stands, or count lines or time"
        if rule.by == "time" and "time" not in self.groups:
            return "no line has a time: no pattern has a group named time, and no path leads to it"
        return None

    @model_validator(mode="after")
    def _patterns_fill_the_columns(self) -> Self:
        if self.alternatives and self.pattern is None:
            raise ValueError("alternatives come after a pattern: there is none")
        if self.pattern is not None and self.paths is not None:
            raise ValueError("a line is split by a pattern or by paths, not by both")
        for number, pattern in enumerate(self.patterns):
            _check_pattern(pattern, f"alternative {number}" if number else "pattern")
        if self.session is not None:
            if "session" in _GROUP.findall("".join(self.patterns)) or (
                self.paths is not None and self.paths.session
            ):
                raise ValueError("session is said twice: as a pattern, and as a field of the line")
            _check_session(self.session)
        missing = set(self.fields.text) - set(self.groups)
        if missing and not self.judges_whole:
            kind = "pattern has no group" if self.patterns else "paths have none"
            raise ValueError(f"{kind} named {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> Self:
        # What is as it is by default may stand there: a bundle holds its profile written out.
        if self.judges_whole and self.fields.text != Fields().text:
            raise ValueError(
                "fields.text has no effect without a pattern or paths: a line is judged whole"
            )
        if self.severity.priority and self.severity.words:
            raise ValueError("severity.words has no effect beside severity.priority: use one")
        for name, said in (
            ("severity", self.severity != Severity()),
            ("time", self.time != Time()),
            ("label", self.fields.normal != Fields().normal),
        ):
            if said and name not in self.groups:
                option = "fields.normal" if name == "label" else name
                raise ValueError(
                    f"{option} has no effect: no pattern has a group named {name}, and no path "
                    "leads to it"
                )
        if self.sessions is not None and (fault := self.session_fault(self.sessions)):
            raise ValueError(f"sessions.by = {self.sessions.by!r} has no effect: {fault}")
        if self.judged == "sessions" and self.sessions is None:
            raise ValueError("judged = 'sessions' needs a table [sessions]: how lines make them")
        return self


def _check_regex(pattern: str, what: str) -> list[str]:
    """The names of the groups of a regular expression; those without a name have a number."""
    import polars as pl

    try:
        found = pl.select(pl.lit("").str.extract_groups(pattern)).to_series()
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{what} is no regular expression: {reason}") from error
    return found.struct.fields


def _check_session(pattern: str) -> None:
    import polars as pl

    grouped = bool(_check_regex(pattern, "session"))
    if pl.select(pl.lit("").str.extract(pattern, int(grouped))).item() is not None:
        raise ValueError(
            "session matches nothing at all as well, so that every line would have one: write "
            "what stands in a line, as in 'job=([0-9]+)'"
        )


def _check_pattern(pattern: str, what: str) -> None:
    named = [name for name in _check_regex(pattern, what) if not name.isdecimal()]
    if "message" not in named:
        raise ValueError(f"{what} has no group named message")
    unknown = set(named) - set(COLUMNS)
    if unknown:
        raise ValueError(
            f"{what} names a group {', '.join(sorted(unknown))}: "
            f"a group is one of {', '.join(COLUMNS)}, or unnamed as in (?:...)"
        )


def system_names() -> list[str]:
    """The names of the shipped profiles, sorted."""
    folder = files("crosyslog.systems")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def load_system(name_or_path: str | Path) -> System:
    """Loads a shipped profile by its name, or a user's own by the path of its TOML file.

    Raises:
        SystemProfileError: there is no such profile, or it is malformed.
    """
    given = str(name_or_path)
    if given in system_names():
        text = files("crosyslog.systems").joinpath(f"{given}.toml").read_text(encoding="utf-8")
        return _parse(text, where=given)
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.parent != Path():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SystemProfileError(f"cannot read the system profile {path}: {reason}") from error
        return _parse(text, where=str(path))
    raise SystemProfileError(
        f"unknown system {given!r}: it is one of {', '.join(system_names())}, "
        "or the path of a profile that ends in .toml"
    )


def _parse(text: str, where: str) -> System:
    try:
        content: dict[str, Any] = tomllib.loads(text)
        return System.model_validate(content)
    except tomllib.TOMLDecodeError as error:
        raise SystemProfileError(f"the system profile {where} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        parts = [".".join(map(str, first["loc"])), _said(first)]
        said = ": ".join(part for part in parts if part)
        raise SystemProfileError(f"the system profile {where}: {said}") from error


#: The tables of a profile, by their key.
_TABLES: dict[object, type[BaseModel]] = {
    "paths": Paths,
    "time": Time,
    "severity": Severity,
    "fields": Fields,
    "sessions": SessionRule,
    "drain": DrainSettings,
    "examples": Example,
}

#: What is to be written where something else stands, by pydantic's name of the mistake.
_WRITE = {
    "missing": "is needed and is not there",
    "string_type": "write a text in quotes",
    "tuple_type": "write a text in quotes, or a list of them in square brackets",
    "too_short": "write at least one",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "int_type": "write a whole number",
    "float_type": "write a number",
    "float_parsing": "write a number",
    "greater_than": "write more than {gt}",
    "greater_than_equal": "write {ge} or more",
    "less_than_equal": "write {le} or less",
    "dict_type": "write a table: keys and what they are",
    "model_type": "write a table: keys and what they are",
    "string_pattern_mismatch": "write lower case letters, digits and dashes",
}


def _said(error: ErrorDetails) -> str:
    """What to do about a mistake in a profile."""
    place, context = error["loc"], error.get("ctx", {})
    if place == ("examples",):
        return "write each example as a table that begins with [[examples]]"
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return f"it is one of {allowed}"
    if error["type"] == "extra_forbidden":
        table = _TABLES[place[0]] if len(place) > 1 else System
        return f"there is no such key: it is one of {', '.join(table.model_fields)}"
    known = _WRITE.get(error["type"])
    return error["msg"] if known is None else known.format_map(context)
