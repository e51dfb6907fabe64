"""How lines make sessions: what a profile, a bundle and a command line say about it."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crosyslog.errors import SettingError

#: A session of so many lines or seconds (a year) is none: it would never be complete.
_MOST_LINES, _MOST_SECONDS = 1_000_000, 31_536_000

#: What a time ends with on a command line, in seconds.
_UNITS = {"s": 1, "m": 60, "h": 3600}


class SessionRule(BaseModel):
    """Which lines of a log make a session.

    Attributes:
        by: `key` for the lines with the same session key, as the profile finds it; `count` for so
            many lines in a row; `time` for the lines of so much time.
        lines: of a session, by count.
        seconds: that a session takes, by time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["key", "count", "time"]
    lines: Annotated[int, Field(ge=1, le=_MOST_LINES, strict=True)] | None = None
    seconds: Annotated[int, Field(ge=1, le=_MOST_SECONDS, strict=True)] | None = None

    def __str__(self) -> str:
        """As a command line has it (`session_rule`)."""
        if self.seconds is not None:
            return f"{self.seconds}s"
        return str(self.lines or self.by)

    @model_validator(mode="after")
    def _says_what_it_needs_and_no_more(self) -> Self:
        for name, said, owner, example in (
            ("lines", self.lines, "count", "lines = 20"),
            ("seconds", self.seconds, "time", "seconds = 300"),
        ):
            if self.by == owner and said is None:
                raise ValueError(f"by = {owner!r} needs {name}: write {example}")
            if self.by != owner and said is not None:
                raise ValueError(f"{name} has no effect with by = {self.by!r}: leave it out")
        return self


def session_rule(text: str) -> SessionRule:
    """The rule that a value of a command line says: `key`, `20` (lines), `30s`, `5m` or `1h`.

    Raises:
        SettingError: it says none, or one that cannot be.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smh]?)", text)
    try:
        if text == "key":
            return SessionRule(by="key")
        if match is not None and match[2]:
            return SessionRule(by="time", seconds=int(match[1]) * _UNITS[match[2]])
        if match is not None:
            return SessionRule(by="count", lines=int(match[1]))
    except ValidationError:
        pass
    raise SettingError(
        f"sessions by {text!r}: write key (the session key that the profile finds), a number of "
        f"lines such as 20 (1 to {_MOST_LINES:,}), or a time such as 30s, 5m or 1h (a year at most)"
    )
