"""Random draws that are the same on every machine.

Only the raw output of PCG64 and integer arithmetic are used: numpy promises the raw stream for
good, but neither its distributions nor the last bit of a logarithm.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Purpose(IntEnum):
    """What draws are for: each has its own stream, so that a change to one moves no other."""

    HOSTS = 1
    ONSETS = 2
    FREQUENCIES = 3
    SPELLS = 4
    LINES = 5
    WORDS = 6
    SESSIONS = 7
    STEPS = 8
    SLOTS = 1_000
    """The first of many: one for each slot."""


T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class _Indexed(Protocol[T_co]):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class Draws:
    """One stream of random draws, by a seed, a purpose and a number within it."""

    def __init__(self, seed: int, purpose: Purpose, number: int = 0) -> None:
        self._source = np.random.PCG64(np.random.SeedSequence((seed, int(purpose) + number)))
        self._buffer: list[int] = []

    def array(self, count: int) -> "NDArray[np.uint64]":
        """`count` draws of 64 bits."""
        return self._source.random_raw(count)

    def bits(self) -> int:
        """One draw of 64 bits."""
        if not self._buffer:
            self._buffer = self._source.random_raw(512).tolist()
        return self._buffer.pop()

    def below(self, count: int) -> int:
        """A whole number from 0 to `count` - 1, all equally likely."""
        return ((self.bits() >> 32) * count) >> 32

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def low_biased(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, the small ones likelier (the square of a draw)."""
        draw = self.bits() >> 32
        return low + (((draw * draw) >> 32) * (high - low + 1) >> 32)

    def low_biased_array(self, count: int, below: int) -> list[int]:
        """`count` whole numbers from 0 to `below` - 1, the small ones likelier."""
        draws = self.array(count) >> np.uint64(32)
        squares = (draws * draws) >> np.uint64(32)
        places: list[int] = ((squares * np.uint64(below)) >> np.uint64(32)).tolist()
        return places

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 draws."""
        return self.below(100) < percent

    def choice(self, items: _Indexed[T]) -> T:
        """One of `items`, all equally likely."""
        return items[self.below(len(items))]

    def shuffled(self, items: list[T]) -> list[T]:
        """The items in a random order; the list itself stays as it is."""
        shuffled = list(items)
        for last in range(len(shuffled) - 1, 0, -1):
            other = self.below(last + 1)
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled
