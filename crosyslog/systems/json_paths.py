"""Paths into JSON lines, as profiles write them, and as Polars reads them."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

#: A step of a path: a key in quotes; all elements of an array, its only one, or the one at a
#: place; the element in which a key has a value; or a plain key.
_STEP = re.compile(
    r"\['([^'\\]+)'\]"
    r"|\[(\d*|\*)\]"
    r"|\[([^\[\]'\"\\=]+)=([^\[\]'\"\\=]+)\]"
    r"|(?:^|\.)([^.|\[\]'\"\\]+)"
)

#: What stands behind a path and says how its value is read.
_READING = re.compile(r"^(.*[^ ]) \| ([a-z-]+)$")

#: The ways to read a value: an object or a list as its JSON text, the number of a severity as its
#: word, by syslog's PRI or by OpenTelemetry.
READINGS = ("json", "priority", "severity-number")


class Elements(Enum):
    """Elements of an array that are meant without saying their place."""

    ONLY = "[]"
    ALL = "[*]"


class Of(NamedTuple):
    """The element of an array in which a key has a value: OTLP writes attributes this way."""

    key: str
    value: str


Step = str | int | Of | Elements

Steps = tuple[Step, ...]


class Path(NamedTuple):
    """Where a value stands, and how it is read.

    Attributes:
        elements: the steps to the elements that the last `[]` or `[*]` means, which is the last
            of them; nothing, where the path has neither.
        steps: the steps from there, or from the line.
        reading: one of `READINGS`, or none.
    """

    elements: Steps
    steps: Steps
    reading: str | None


def parse_path(path: str) -> Path:
    """A path from how it is written.

    Raises:
        ValueError: it is no path.
    """
    read = _READING.match(path)
    place, reading = read.groups() if read else (path, None)
    if reading is not None and reading not in READINGS:
        raise ValueError(f"{path!r} is no path: after | comes one of {', '.join(READINGS)}")
    steps: list[Step] = []
    end = 0
    while end < len(place):
        found = _STEP.match(place, end)
        if found is None:
            break
        quoted, element, key, value, plain = found.groups()
        if quoted or plain:
            steps.append(quoted or plain)
        elif key:
            steps.append(Of(key, value))
        else:
            steps.append(int(element) if element.isdecimal() else Elements(f"[{element}]"))
        end = found.end()
    if end < len(place) or not steps or not isinstance(steps[0], str):
        raise ValueError(
            f"{path!r} is no path: write nested keys as a.b, a key with a dot as ['a.b'], "
            "an element of an array as a[0], its only one as a[], all as a[*], "
            "the one whose key k is v as a[k=v]"
        )
    cut = 1 + max((n for n, step in enumerate(steps) if isinstance(step, Elements)), default=-1)
    return Path(tuple(steps[:cut]), tuple(steps[cut:]), reading)


def json_path(steps: Steps) -> str:
    """The steps as JSONPath; of `[]` and `[*]`, the first element."""
    return "$" + "".join(map(_written, steps))


def _written(step: Step) -> str:
    match step:
        case str():
            return f"['{step}']"
        case Of(key, value):
            return f"[?(@['{key}']=='{value}')]"
        case Elements():
            return "[0]"
    return f"[{step}]"


def excess_paths(elements: Steps) -> list[str]:
    """JSONPaths at which nothing stands, if each array of `[]` and `[*]` has one element alone."""
    return [
        json_path((*elements[:place], 1))
        for place, step in enumerate(elements)
        if isinstance(step, Elements)
    ]


def keys_of(path: Path) -> list[str]:
    """The strings that a line must hold for the path to lead anywhere; its first key is first."""
    keys: list[str] = []
    for step in (*path.elements, *path.steps):
        keys += [step] if isinstance(step, str) else step if isinstance(step, Of) else []
    return keys
