"""What is read off a template's words, without any model."""

from __future__ import annotations

import re
from itertools import pairwise

#: Words that announce trouble in any log; a word of a template counts if it begins with one.
ALERT_WORDS = (
    "abort", "alert", "bad", "broken", "cannot", "corrupt", "crash", "crit", "dead", "denied",
    "die", "down", "emerg", "err", "exceed", "except", "expired", "fail", "fatal", "fault",
    "illegal", "interrupt", "invalid", "kill", "lost", "missing", "overflow", "panic", "refused",
    "reject", "severe", "terminat", "timeout", "unable", "unavailable", "uncorrectable",
    "unreachable", "violation", "warn",
)  # fmt: skip

_ALERT_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(ALERT_WORDS)})[a-z]*", re.IGNORECASE)


def alert_words(text: str) -> int:
    """How many words of a text begin with an alert word."""
    return len(_ALERT_WORD.findall(text))


def found_alert_words(text: str) -> list[str]:
    """The distinct ones of these, as they stand there."""
    return list(dict.fromkeys(_ALERT_WORD.findall(text)))


def words_and_pairs(template: str) -> list[str]:
    """The words of a template, as they stand between blanks, and the pairs of neighbours.

    An empty template (a line without message) has one word, the empty one.
    """
    words = template.lower().split(" ")
    return [*words, *map(" ".join, pairwise(words))]
