"""Short cuts through a pattern: what it costs is where its groups begin and end.

A message is what is left behind all else, and what stands before the first group that anybody
wants is only passed over. So a line is looked at in two steps: without groups, which takes a fifth
of the time, and then with the few that are wanted, on the little that they are in.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

#: The group that holds all that stands before the message; no column is called so.
HEAD = "head"

#: A pattern of which every match ends with the line, its message being all that is left.
_START, _END = re.compile(r"\(\?[siu]*s[siu]*\)\^"), "(?P<message>.*)$"

#: What is no syntax: an escaped character, and a class without another one in it.
_ESCAPED = r"\\(?:[pPxuU]\{[^}]*\}|[^pPxuU])"
_CLASS = rf"\[\^?\]?(?:{_ESCAPED}|[^\[\]\\])*\]"
_INERT = re.compile(rf"{_ESCAPED}|{_CLASS}", re.DOTALL)

#: Flags that change in the middle.
_FLAGS = re.compile(r"\(\?[A-Za-z]*-?[A-Za-z]+[:)]")

#: The parts of a pattern; and of these, how often the one before is to be there, what has no
#: length, and what depends on the character before.
_PART = re.compile(rf"{_ESCAPED}|{_CLASS}|\(\?P?<(?P<name>\w+)>|\(\?:|\{{[^}}]*\}}|.", re.DOTALL)
_TIMES = re.compile(r"[*+?]|\{.*")
_EMPTY = re.compile(r"[\^$|()].*|\\[bBAz<>]", re.DOTALL)
_LOOKS_BACK = re.compile(r"\^|\\[bBA<>]")


class ShortCut(NamedTuple):
    """A pattern in two.

    Attributes:
        before: matches what stands before the groups that are wanted, at least one character;
            empty where nothing does for sure.
        after: matches what follows that, in the group `head`, with the groups; empty where no
            group is wanted.
    """

    before: str
    after: str


@lru_cache(maxsize=64)
def short_cut(pattern: str, wanted: frozenset[str]) -> ShortCut | None:
    """Two patterns that find the same fields but for the message, which is what follows both.

    Whatever `.*` is left to match, it matches, so a match is found in the same way without it. And
    of all ways to match the first pattern, the first one is the whole's, if the second one matches
    what it leaves; where it does not, only the whole pattern can tell.

    Args:
        pattern: a regular expression with a group named `message`.
        wanted: the other groups that are needed.

    Returns:
        None where they are not sure to find the same.
    """
    start = _START.match(pattern)
    if start is None or not pattern.endswith(_END):
        return None
    body = pattern[start.end() : -len(_END)]
    syntax = _INERT.sub("", body)
    if _FLAGS.search(syntax) or set("[]\\") & set(syntax) or _alternates(syntax):
        return None
    if _repeats_repetitions([part[0] for part in _PART.finditer(body)]):
        return None
    before, after = _halves(body, wanted)
    return ShortCut(
        f"{start[0]}{''.join(before)}" if before else "",
        f"{start[0]}(?P<{HEAD}>{''.join(after)})" if after or not before else "",
    )


def _halves(body: str, wanted: frozenset[str]) -> tuple[list[str], list[str]]:
    """The parts before the first group that is wanted, and from there on.

    Groups that are not wanted have no name any more.
    """
    parts: list[str] = []
    depth = begun = 0
    cut: int | None = None
    for part in _PART.finditer(body):
        if depth == 0 and not _TIMES.fullmatch(part[0]):
            begun = len(parts)
        if part["name"] in wanted and cut is None:
            cut = begun
        unnamed = part["name"] is not None and part["name"] not in wanted
        parts.append("(?:" if unnamed else part[0])
        depth += part[0].startswith("(") - (part[0] == ")")
    before, after = parts[:cut], parts[cut:] if cut is not None else []
    if not _has_length(before) or any(map(_LOOKS_BACK.fullmatch, after)):
        return [], parts
    return before, after


def _has_length(parts: list[str]) -> bool:
    """Whether they match a character at least, and nobody has to look far to see it."""
    depth = 0
    for part, following in pairwise([*parts, ""]):
        often = following in {"", "+"} or not _TIMES.fullmatch(following)
        if depth == 0 and often and not _EMPTY.fullmatch(part) and not _TIMES.fullmatch(part):
            return True
        depth += part.startswith("(") - (part == ")")
    return False


def _repeats_repetitions(parts: list[str]) -> bool:
    """Whether a repetition has another one behind it, or nothing but the start before it.

    A `?` behind one makes it lazy, which is no other.
    """
    times = [bool(_TIMES.fullmatch(part)) for part in parts]
    if times[:1] == [True]:
        return True
    if any(map(all, zip(times, times[1:], times[2:], strict=False))):
        return True
    return any(
        one and other and part != "?"
        for one, other, part in zip(times, times[1:], parts[1:], strict=False)
    )


def _alternates(syntax: str) -> bool:
    """Whether there is an alternative to the whole, not in a group."""
    depth = 0
    for character in syntax:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            return True
    return False
