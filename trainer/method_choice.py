"""Which method a command is asked for, and what does not go with it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from crosyslog.systems import System

#: Judges lines, and judges sessions.
Method = Literal["crosyslog", "metalog"]

#: The help of `--method`.
METHOD_HELP = "crosyslog judges lines, metalog sessions  [default: what the profile says is judged]"


def method_of(given: Method | None, systems: Iterable["System"]) -> Method:
    """The given method; without one, that of sessions where all systems are judged by these."""
    if given is not None:
        return given
    return "metalog" if all(one.judged == "sessions" for one in systems) else "crosyslog"


def refuse_without_effect(method: Method, options: Mapping[str, object]) -> None:
    """Refuses options that belong to the other method.

    Args:
        method: the chosen one.
        options: those of the other by name, with what was given; nothing, if it was not.

    Raises:
        SettingError: one was given.
    """
    other = "crosyslog" if method == "metalog" else "metalog"
    for name, value in options.items():
        if value:
            raise SettingError(
                f"{name} has no effect with --method {method}: leave it out, or choose "
                f"--method {other}"
            )
