"""Why a line cannot be judged, in a word."""

from typing import Literal, get_args

from crosyslog.errors import SettingError

Reason = Literal["null", "oversized", "undecodable", "missing-field", "scoring"]
REASONS: tuple[Reason, ...] = get_args(Reason)


def reason_of(word: str) -> Reason:
    """The reason that a word names.

    Raises:
        SettingError: it names none.
    """
    for reason in REASONS:
        if reason == word:
            return reason
    raise SettingError(f"{word!r} is no reason: it is one of {', '.join(REASONS)}")
