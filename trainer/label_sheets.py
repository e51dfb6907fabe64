"""Suggestions for people who prefer a spreadsheet: a file to be filled in, and read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosyslog.errors import SettingError
from crosyslog.masking import template_id
from trainer.template_labels import Answer, last_of_file, word_of, write_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.example_lines import Examples
    from trainer.labelling import Labelling, Question
    from trainer.template_labels import Answers

#: `label` is to be filled in; the others help to.
_COLUMNS = ("template_id", "template", "lines", "label", "guess", "score", "reason", "example")


#: Characters of an example: spreadsheets cut a cell at 32,767.
_LONGEST = 1_000


def write_suggestions(
    path: Path, labelling: Labelling, questions: Sequence[Question], examples: Examples
) -> None:
    """Writes a file to be filled in; log text, so its owner alone can read it.

    Raises:
        SettingError: it cannot be written.
    """
    shown = examples.of(questions)
    rows = [
        {
            "template_id": template_id(question.template),
            "template": question.template,
            "lines": str(question.lines),
            "label": "",
            "guess": word_of(labelling.guess(question)),
            "score": f"{question.score:.3f}",
            "reason": labelling.reason(question),
            "example": _cut(next((one.text for one in shown.get(question.row, ())), "")),
        }
        for question in questions
    ]
    try:
        write_rows(path, _COLUMNS, rows)
    except OSError as error:
        raise SettingError(f"--output {path}: it cannot be written: {error.strerror}") from error


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def take_in(path: Path, templates: Sequence[str], answers: Answers) -> int:
    """Takes in what a filled file says; taken in twice, it says nothing new.

    Args:
        path: the file.
        templates: of the log, where there is one.
        answers: that what is new is added to.

    Returns:
        How many templates of the file have an answer.

    Raises:
        LabelError: the file does not hold answers.
        StoreError: they cannot be kept.
    """
    found = last_of_file(path, {template_id(template): template for template in templates})
    known = answers.last()
    new = [
        Answer(template, alert)
        for template, alert in found.items()
        if template not in known or known[template] != alert
    ]
    if new:
        answers.add(new)
    return len(found)
