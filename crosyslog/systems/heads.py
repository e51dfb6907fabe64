"""What stands before the message: half the cost of a pattern is to walk over its message."""

from __future__ import annotations

import re
from functools import lru_cache

#: The group that holds all that stands before the message; no column is called so.
HEAD = "head"

#: A pattern of which every match ends with the line, its message being all that is left.
_START, _END = re.compile(r"\(\?[siu]*s[siu]*\)\^"), "(?P<message>.*)$"

#: What is no syntax: an escaped character, and a class without another one in it.
_ESCAPED = r"\\(?:[pPxuU]\{[^}]*\}|[^pPxuU])"
_INERT = re.compile(rf"{_ESCAPED}|\[\^?\]?(?:{_ESCAPED}|[^\[\]\\])*\]", re.DOTALL)

#: Flags that change in the middle.
_FLAGS = re.compile(r"\(\?[A-Za-z]*-?[A-Za-z]+[:)]")


@lru_cache(maxsize=64)
def head_of(pattern: str) -> str | None:
    """A pattern that finds the same fields but for the message, which is what follows `head`.

    Whatever `.*` is left to match, it matches, so a match is found in the same way without it.

    Args:
        pattern: a regular expression with a group named `message`.

    Returns:
        The shorter pattern; none where it is not sure to find the same.
    """
    start = _START.match(pattern)
    if start is None or not pattern.endswith(_END):
        return None
    body = pattern[start.end() : -len(_END)]
    syntax = _INERT.sub("", body)
    if _FLAGS.search(syntax) or set("[]\\") & set(syntax) or _alternates(syntax):
        return None
    return f"{start[0]}(?P<{HEAD}>{body})"


def _alternates(syntax: str) -> bool:
    """Whether there is an alternative to the whole, not in a group."""
    depth = 0
    for character in syntax:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            return True
    return False
