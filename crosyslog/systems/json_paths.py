"""Paths into JSON lines, as profiles write them, and as Polars reads them."""

from __future__ import annotations

import re

#: A step of a path: a key in quotes, the place in an array or its only one, or a plain key.
_STEP = re.compile(r"\['([^'\\]+)'\]|\[(\d*)\]|(?:^|\.)([^.\[\]'\"\\]+)")

#: A path: keys, places in an array, None for an array's only element.
Steps = tuple[str | int | None, ...]


def parse_path(path: str) -> Steps:
    """The steps of a path.

    Raises:
        ValueError: it is no path.
    """
    steps: list[str | int | None] = []
    end = 0
    while end < len(path):
        found = _STEP.match(path, end)
        if found is None:
            break
        quoted, place, plain = found.groups()
        key = quoted or plain
        steps.append(key or (int(place) if place else None))
        end = found.end()
    if end < len(path) or not steps or not isinstance(steps[0], str):
        raise ValueError(
            f"{path!r} is no path: write nested keys as a.b, a key with a dot as ['a.b'], "
            "an element of an array as a[0], its only one as a[]"
        )
    return tuple(steps)


def json_path(steps: Steps) -> str:
    """The steps as JSONPath; of an array's only element, the first."""
    return "$" + "".join(
        f"['{step}']" if isinstance(step, str) else f"[{step or 0}]" for step in steps
    )


def excess_paths(steps: Steps) -> list[str]:
    """JSONPaths at which nothing stands, if each array that has to has one element alone."""
    return [json_path((*steps[:place], 1)) for place, step in enumerate(steps) if step is None]


def keys_of(steps: Steps) -> list[str]:
    """The keys that a line must hold for the path to lead anywhere."""
    return [step for step in steps if isinstance(step, str)]
