"""Which method a command is asked for, and what does not go with it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from crosyslog.systems import System

#: Judges lines, and judges sessions.
Method = Literal["crosyslog", "metalog"]

#: What judges sessions where no method is named: ours, the same network without meta-learning, and
#: the baselines. Their names are said here so that `--help` and a wrong name need no torch.
SESSION_METHODS = ("metalog", "no_meta", "count_logreg", "count_clusters", "never_seen")

#: The help of `--method`.
METHOD_HELP = "crosyslog judges lines, metalog sessions  [default: what the profile says is judged]"


def method_of(given: Method | None, systems: Iterable["System"]) -> Method:
    """The given method; without one, that by which the systems are judged.

    Raises:
        SettingError: some are judged by sessions, and some by lines.
    """
    if given is not None:
        return given
    judged = {one.judged: one.name for one in systems}
    if len(judged) > 1:
        raise SettingError(
            f"the profile {judged['sessions']} judges sessions, and {judged['lines']} lines: say "
            "which with --method metalog (sessions) or --method crosyslog (lines)"
        )
    return "metalog" if "sessions" in judged else "crosyslog"


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
        if value or value == "":
            raise SettingError(
                f"{name} has no effect with --method {method}: leave it out, or choose "
                f"--method {other}"
            )
