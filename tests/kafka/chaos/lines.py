"""The numbered lines of a chaos run, some of them poison."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, NamedTuple

from tests.kafka.chaos.program import UNSCORABLE
from tests.trainer.evidenced import PARTS, RIGHT, WRONG

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A longer line is a dead letter.
MAX_LINE_BYTES = 2_000

_OWNERS = [f"node{letter}" for letter in "abcdefgh"]


class Line(NamedTuple):
    """A line of the input.

    Attributes:
        value: of the message.
        reason: why it is a dead letter; none for one that can be judged.
    """

    value: bytes | None
    reason: str | None


def numbered_lines(count: int, seed: int, poison: float) -> Iterator[Line]:
    """Lines that tell their number, of which a share is poison; exactly one cannot be scored."""
    draw = random.Random(seed)  # noqa: S311 - the same lines each time, nothing secret
    unscorable = count // 2
    for number in range(count):
        if number == unscorable:
            yield Line(_json(number, UNSCORABLE), "scoring")
        elif draw.random() < poison:
            yield _poison(number, draw)
        else:
            state = draw.choice(WRONG if draw.random() < 0.05 else RIGHT)
            message = f"{draw.choice(PARTS)} {state} by {draw.choice(_OWNERS)}"
            yield Line(_json(number, message), None)


def _poison(number: int, draw: random.Random) -> Line:
    kinds = [
        Line(b'{"message": "cut o', "undecodable"),
        Line(b"\xff\xfe no JSON at all", "undecodable"),
        Line(json.dumps({"n": number, "text": "who knows"}).encode(), "missing-field"),
        Line(_json(number, "x" * MAX_LINE_BYTES), "oversized"),
        Line(None, "null"),
    ]
    return draw.choice(kinds)


def _json(number: int, message: str) -> bytes:
    return json.dumps({"message": message, "n": number}).encode()
