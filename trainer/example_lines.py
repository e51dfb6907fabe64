"""Raw lines of a log as examples of its templates, with their neighbours."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.errors import InputError
from trainer.labelled_logs import lines_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.labelling import Question
    from trainer.whole_logs import WholeLog

#: Lines of a log that stand beside an example on each side.
NEIGHBOURS = 2


class Example(NamedTuple):
    """A line and its neighbours.

    Attributes:
        number: of the line in its log, from 1.
        lines: numbers and texts, in order; the line itself is among them.
    """

    number: int
    lines: Sequence[tuple[int, str]]

    @property
    def text(self) -> str:
        """The line itself."""
        return next(text for number, text in self.lines if number == self.number)


class Identity(NamedTuple):
    """What tells a file from another one that has taken its place.

    Attributes:
        file: device and number of it.
        size: in bytes.
    """

    file: tuple[int, int]
    size: int


def identity_of(path: Path) -> Identity | None:
    """The identity of a file; none where it is no regular one."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Identity((found.st_dev, found.st_ino), found.st_size)


class Examples:
    """Finds example lines of templates in a log; one that is prepared, or a pipe, has none."""

    def __init__(self, path: Path, log: WholeLog, seen: Identity | None) -> None:
        """Prepares it.

        Args:
            path: of the log.
            log: its lines.
            seen: the file as it was before they were read.
        """
        self._path, self._log, self._seen = path, log, seen
        self._row = {template: row for row, template in enumerate(log.templates)}

    def of(self, questions: Sequence[Question]) -> dict[int, list[Example]]:
        """By the questions' rows, up to two examples each; the log is read once.

        Raises:
            InputError: it cannot be read, or is another one by now.
        """
        if self._seen is None:
            return {}
        now = identity_of(self._path)
        # A log may grow; one that was rotated or cut has other lines at these places.
        if now is None or now.file != self._seen.file or now.size < self._seen.size:
            raise InputError(
                f"{self._path} is another file than when it was read: start again, with the log "
                "that it is now; every answer is kept"
            )
        places = {
            question.row: self._places(self._row[question.template])
            for question in questions
            if question.template in self._row
        }
        found = _read(self._path, [place for some in places.values() for place in some])
        return {row: [found[place] for place in some] for row, some in places.items()}

    def _places(self, row: int) -> list[int]:
        """Where a template stands first, and half-way through its lines."""
        found = np.flatnonzero(self._log.rows == row)
        return sorted({int(found[0]), int(found[len(found) // 2])})


def _read(path: Path, places: Sequence[int]) -> dict[int, Example]:
    """The lines at some places of a log, counted from 0, and those beside them."""
    texts = lines_at(
        path,
        {
            number
            for place in places
            for number in range(max(place - NEIGHBOURS, 0), place + NEIGHBOURS + 1)
        },
    )
    return {
        place: Example(
            place + 1,
            [
                (number + 1, texts[number])
                for number in range(place - NEIGHBOURS, place + NEIGHBOURS + 1)
                if number in texts
            ],
        )
        for place in places
    }
