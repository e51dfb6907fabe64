"""Texts of lines that may be asked for later, in little memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

#: Texts are compressed together from so many characters on: fewer compress badly.
_BLOCK = 1 << 20


class KeptTexts:
    """Texts of a stream's lines, by their numbers from 0, until they are let go.

    A block of them is compressed: a log's lines take a tenth of their size.
    """

    def __init__(self) -> None:
        import zstandard

        self._compress = zstandard.ZstdCompressor(level=1).compress
        self._decompress = zstandard.ZstdDecompressor().decompress
        self._blocks: list[tuple[int, bytes]] = []  # the number of its first line, and its lines
        self._open: list[str] = []
        self._first = 0  # the number of the first line that is not compressed

    def add(self, texts: Iterable[str]) -> None:
        """Takes the next lines; no text holds a line feed."""
        self._open.extend(texts)

    def let_go(self, end: int) -> None:
        """Drops the lines before a number, whole blocks of them, and compresses the others."""
        ends = [first for first, _ in self._blocks[1:]] + [self._first]
        gone = int(np.searchsorted(ends, end, side="right")) if self._blocks else 0
        del self._blocks[:gone]
        dropped = max(0, end - self._first)
        del self._open[:dropped]
        self._first += dropped
        if sum(map(len, self._open)) >= _BLOCK:
            block = "\n".join(self._open).encode()
            # It comes in as much memory as the block itself needs; a copy is as large as it says.
            compressed = bytes(memoryview(self._compress(block)))
            self._blocks.append((self._first, compressed))
            self._first += len(self._open)
            self._open = []

    def at(self, lines: NDArray[np.int64]) -> list[str]:
        """The texts of some lines that are there, whose numbers ascend."""
        texts: list[str] = []
        edges = [first for first, _ in self._blocks] + [self._first]
        bounds = np.searchsorted(lines, edges).tolist()
        for (first, block), low, high in zip(self._blocks, bounds, bounds[1:], strict=False):
            if low < high:
                inside = self._decompress(block).decode().split("\n")
                texts += [inside[number] for number in (lines[low:high] - first).tolist()]
        return texts + [self._open[number - self._first] for number in lines[bounds[-1] :].tolist()]
