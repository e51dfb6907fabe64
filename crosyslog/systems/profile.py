"""The schema of a system profile, and how one is found."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crosyslog.errors import SystemProfileError

#: Named groups of a profile's pattern that become columns of a frame of lines.
COLUMNS = ("label", "time", "host", "component", "severity", "message", "session")

Column = Literal["label", "time", "host", "component", "severity", "message", "session"]

#: The two ways to name a group.
_GROUP = re.compile(r"\(\?P?<(\w+)>")


class Time(BaseModel):
    """How the group `time` is read; all times are UTC.

    Attributes:
        format: `epoch` for whole seconds since 1970, else a chrono format string
            (`%Y-%m-%d-%H.%M.%S%.f`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = "epoch"


class Fields(BaseModel):
    """Which fields say what.

    Attributes:
        normal: the label of a normal line; every other label is an alert's.
        text: the columns that, joined by a space, make the text that is judged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    normal: str = "-"
    text: tuple[Column, ...] = ("message",)


class Example(BaseModel):
    """A line and the fields that it must split into; a test checks each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    line: str
    label: str | None = None
    time: str | None = None
    host: str | None = None
    component: str | None = None
    severity: str | None = None
    message: str
    session: str | None = None
    text: str


class System(BaseModel):
    """A kind of log: how its lines split, and which of their fields are judged.

    Attributes:
        name: what users call the system; lower case, digits and dashes.
        description: one line for lists.
        pattern: a regular expression with named groups out of `COLUMNS`, in the syntax of the
            Rust crate `regex` (no look-around). A line that does not match is judged whole.
            The label's group is optional, so that a line splits with and without it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str
    pattern: str | None = None
    time: Time = Time()
    fields: Fields = Fields()
    examples: tuple[Example, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The columns that the pattern fills."""
        named = set(_GROUP.findall(self.pattern or ""))
        return tuple(column for column in COLUMNS if column in named)

    @model_validator(mode="after")
    def _pattern_fills_the_text(self) -> Self:
        if self.pattern is None:
            return self
        import polars as pl

        try:
            pl.select(pl.lit("").str.extract_groups(self.pattern))
        except pl.exceptions.PolarsError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"pattern is no regular expression: {reason}") from error
        missing = {"message", *self.fields.text} - set(self.groups)
        if missing:
            raise ValueError(f"pattern has no group named {', '.join(sorted(missing))}")
        unknown = set(_GROUP.findall(self.pattern)) - set(COLUMNS)
        if unknown:
            raise ValueError(
                f"pattern names a group {', '.join(sorted(unknown))}: "
                f"a group is one of {', '.join(COLUMNS)}, or unnamed as in (?:...)"
            )
        return self


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
        place = ".".join(str(part) for part in first["loc"]) or "the profile"
        raise SystemProfileError(f"the system profile {where}: {place}: {first['msg']}") from error
