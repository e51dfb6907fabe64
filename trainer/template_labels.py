"""Labels of templates: what `trainer label` keeps, and the files that people fill in.

A label of a template counts for every line of it. They are CSV with a header: `template` (masked
text, or a message, which is masked) and `label`, and where a program wrote them `template_id`, a
digest by which a template is known again that a spreadsheet has changed. The answers that are kept
have `round` besides, and hold one row for every answer, so that the last one of a template counts.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from crosyslog.errors import LabelError, StoreError
from crosyslog.masking import mask, template_id
from crosyslog.systems import System
from trainer.csv_cells import cells, columns_of
from trainer.label_files import label_of
from trainer.labelled_logs import how_it_splits
from trainer.private_files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

#: What spreadsheets take for the start of a formula; `'` before it says that it is text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Answer(NamedTuple):
    """What was said of a template.

    Attributes:
        template: masked text.
        alert: its label; none where it could not be told.
        round: in which it was asked for, from 1; 0 for one that came from a file.
    """

    template: str
    alert: bool | None
    round: int = 0


class GivenAnswers:
    """Answers in the order in which they were given."""

    def __init__(self, given: Iterable[Answer]) -> None:
        self._given = list(given)

    def __len__(self) -> int:
        return len(self._given)

    @property
    def given(self) -> Sequence[Answer]:
        """All of them, those that others have replaced included."""
        return self._given

    def before(self, number: int) -> GivenAnswers:
        """Those that were given before a round."""
        return GivenAnswers(answer for answer in self._given if answer.round < number)

    def last(self) -> dict[str, bool | None]:
        """What counts: the last answer about each template."""
        return {answer.template: answer.alert for answer in self._given}

    def labels(self) -> dict[str, bool]:
        """The same without those that could not be told."""
        return {template: alert for template, alert in self.last().items() if alert is not None}

    def times(self, template: str) -> int:
        """How often a template was asked for."""
        return sum(answer.template == template for answer in self._given)

    @property
    def round(self) -> int:
        """The latest round that has an answer; 0 before the first."""
        return max((answer.round for answer in self._given), default=0)


class Answers(GivenAnswers):
    """The answers about a target, kept in a file of the store.

    The file is log text, so it is readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is there; nothing is a start.

        Raises:
            LabelError: the file is damaged.
        """
        self.path = path
        try:
            rows = read_rows(path, {}) if path.exists() else []
        except LabelError as error:
            raise LabelError(
                f"the answers that are kept in {path} are damaged ({error}): mend that, or move "
                "the file away to start anew"
            ) from error
        super().__init__(Answer(row.template, row.alert, row.round) for row in rows)

    def add(self, answers: Iterable[Answer]) -> None:
        """Takes answers, and keeps them.

        Raises:
            StoreError: they cannot be written.
        """
        self._given += answers
        self._save()

    def undo(self) -> Answer:
        """Takes the last answer back.

        Raises:
            IndexError: there is none.
            StoreError: the file cannot be written.
        """
        answer = self._given.pop()
        self._save()
        return answer

    @classmethod
    @contextmanager
    def alone(cls, path: Path) -> Iterator[Answers]:
        """The answers in a file, while nobody else answers for the same target.

        Raises:
            StoreError: somebody does, or the folder cannot be written.
            LabelError: the file is damaged.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            # Some network file systems have no locks: there, it is on the user to ask once.
            with suppress(OSError):
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StoreError(
                        f"another `trainer label` asks about {path.parent.name}: end it first"
                    ) from None
            yield cls(path)
        finally:
            os.close(held)

    def _save(self) -> None:
        rows = [
            {
                "template_id": template_id(answer.template),
                "template": answer.template,
                "label": word_of(answer.alert),
                "round": str(answer.round),
            }
            for answer in self._given
        ]
        try:
            write_rows(self.path, ("template_id", "template", "label", "round"), rows)
        except OSError as error:
            raise _unwritable(self.path, error) from error


def word_of(alert: bool | None) -> str:
    """How a label is written."""
    return "unsure" if alert is None else "alert" if alert else "normal"


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Writes CSV that only its owner can read; it takes the file's place when it is complete.

    Raises:
        OSError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _as_text(value) for name, value in row.items()})
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, text.getvalue().encode("utf-8", errors="surrogatepass"))


def record_system(labels: Path, system: System) -> None:
    """Keeps beside a target's labels the profile by which their templates were made.

    Raises:
        LabelError: the labels that are there were made by another one.
        StoreError: it cannot be written.
    """
    require_system(labels, system)
    try:
        labels.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(_system_beside(labels), f"{system.model_dump_json(indent=2)}\n".encode())
    except OSError as error:
        raise _unwritable(labels, error) from error


def require_system(labels: Path, system: System) -> None:
    """Refuses a profile that splits lines otherwise than the one that the labels were made by.

    Raises:
        LabelError: it does.
    """
    try:
        known = recorded_system(labels)
    except LabelError:
        return  # what is damaged says nothing, and is written anew
    if known is not None and labels.exists() and how_it_splits(known) != how_it_splits(system):
        raise LabelError(
            f"the labels in {labels} are of lines split by the profile {known.name}, as it was "
            f"then, and {system.name} splits otherwise: say --system {known.name}, or remove them"
        )


def recorded_system(labels: Path) -> System | None:
    """The profile by which the templates of a target's labels were made, if that is known.

    Raises:
        LabelError: what is kept of it is damaged.
    """
    path = _system_beside(labels)
    try:
        return System.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise LabelError(f"{path} cannot be read: remove it, and say --system") from error


def _system_beside(labels: Path) -> Path:
    return labels.with_name(f"{labels.stem}-system.json")


class LabelledRow(NamedTuple):
    """A row of a file, with the number that editors show for where it starts."""

    number: int
    template: str
    alert: bool | None
    round: int


def read_rows(path: Path, known: Mapping[str, str]) -> list[LabelledRow]:
    """Reads labels of templates; rows whose label is empty are left out.

    Args:
        path: CSV with the columns `template` and `label`.
        known: templates of a log by their id: where a row's text does not fit its id, as a
            spreadsheet may have changed it, the id counts.

    Raises:
        LabelError: the file cannot be read, or a row of it is no label of a template.
    """
    import polars as pl

    filled = [(number, row) for number, row in _rows_of(path) if (row["label"] or "").strip()]
    texts = pl.Series("template", [row["template"] or "" for _, row in filled], pl.String)
    rows = []
    for (number, row), masked in zip(filled, mask(texts), strict=True):
        where = f"{path}, row {number}"
        alert = label_of(row["label"] or "", where)
        template = _meant(masked, row.get("template_id"), known, where)
        try:
            turn = int(row.get("round") or 0)
        except ValueError:
            raise LabelError(f"{where}: {row['round']!r} is no number of a round") from None
        rows.append(LabelledRow(number, template, alert, turn))
    return rows


def last_of_file(path: Path, known: Mapping[str, str]) -> dict[str, bool | None]:
    """What a file says of each of its templates; none where it could not be told.

    Raises:
        LabelError: the file is none, or says two things of one template.
    """
    rows = read_rows(path, known)
    found = {row.template: row for row in rows}
    answers = "round" in columns_of(path)  # there, a later row stands in place of an earlier one
    for row in () if answers else rows:
        other = found[row.template]
        if row.alert != other.alert:
            raise LabelError(
                f"{path}, rows {row.number} and {other.number}: {row.template[:60]!r} is called "
                f"{word_of(row.alert)} and {word_of(other.alert)}: keep one of them"
            )
    return {row.template: row.alert for row in found.values()}


def _rows_of(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a file that labels templates.

    Raises:
        LabelError: it is none.
    """
    names = columns_of(path)
    if {"line", "label"} <= set(names):
        raise LabelError(
            f"the labels {path} are of lines, and labels of templates are wanted: `trainer "
            f"adapt --log FILE --labels {path.name}` learns from those of lines"
        )
    if not {"template", "label"} <= set(names):
        raise LabelError(
            f"the labels {path} lack a header: the columns are `template` and `label` (alert, "
            f"normal or unsure), and these are {', '.join(names) or 'none'}"
        )
    for number, row in cells(path):
        if "round" in names and None in row.values():
            # A program wrote this one, and whole.
            raise LabelError(f"{path}, row {number}: the row is cut off")
        yield number, row


def _meant(template: str, digest: str | None, known: Mapping[str, str], where: str) -> str:
    """The template of a row: what stands there, unless its id says that it was another."""
    digest = (digest or "").strip().lower()
    if digest and template_id(template) != digest:
        if digest not in known:
            raise LabelError(
                f"{where}: the template {template[:60]!r} is not what was written there (its id "
                "differs): name the log that it comes from with --log, or mend the row"
            )
        return known[digest]
    return template


def _as_text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot keep the labels in {path.parent}: {error.strerror}")
