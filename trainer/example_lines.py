"""Raw lines of a log as examples of its templates, with their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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


class Examples:
    """Finds example lines of templates in a log; one that is prepared has none."""

    def __init__(self, path: Path, log: WholeLog) -> None:
        self._path, self._log = path, log
        self._row = {template: row for row, template in enumerate(log.templates)}

    def of(self, questions: Sequence[Question]) -> dict[int, list[Example]]:
        """By the questions' rows, up to two examples each; the log is read once.

        Raises:
            InputError: it cannot be read.
        """
        if self._path.is_dir():
            return {}
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
