"""Asking for labels in a terminal: one question after another, one key for each."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import typer

from trainer.screen import say, say_facts
from trainer.self_estimate import contradicted_facts, left_out_facts
from trainer.template_labels import word_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.example_lines import Example
    from trainer.labelling import Labelling, Progress, Question

    class ExampleLines(Protocol):
        """Finds lines to show."""

        def of(self, questions: Sequence[Question]) -> dict[int, list[Example]]:
            """By the questions' rows."""


#: What a key says: a label, that it cannot be told, or something else to be done.
_LABELS: Final = {"n": False, "a": True, "u": None}
_UNDO, _QUIT = ("z", "\x7f", "\x08"), ("q",)

_KEYS = "n normal, a anomaly, u unsure, z undo, q quit: "

#: Characters of a line that are shown at most, and of one beside an example: the terminal's width.
_LONGEST = 1_000


def ask(
    labelling: Labelling, examples: ExampleLines, key: Callable[[], str] = typer.getchar
) -> None:
    """Asks until the user quits, or nothing is left; every answer is kept when it is given.

    Args:
        labelling: what is asked, and where the answers go.
        examples: lines to show.
        key: waits for a key.

    Raises:
        StoreError: an answer cannot be kept.
    """
    with _signals_end_it():
        _ask(labelling, examples, key)


def _ask(labelling: Labelling, examples: ExampleLines, key: Callable[[], str]) -> None:
    number = 0
    shown: dict[int, list[Example]] = {}
    while questions := labelling.questions():
        if labelling.round != number:
            if number and labelling.round > number:
                say_progress(labelling.progress(), f"round {number} is done")
            number = labelling.round
            shown = examples.of(questions)
        question = questions[0]
        if question.row not in shown:  # the user took an answer back
            shown |= examples.of([question])
        _show(labelling, question, shown.get(question.row, []), len(questions))
        if not _answered(labelling, question, key):
            return
    say("every template of the log has an answer")


class _EndedError(BaseException):
    """A signal ended the asking."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Lets a signal interrupt the wait for a key, which leaves the terminal as it was.

    Without this, SIGTERM and SIGHUP would end the process while the terminal is raw, and a library
    that heeds SIGINT has the wait begin again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise _EndedError(number)

    heeded = dict.fromkeys((signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT), end)
    before = {number: signal.signal(number, handler) for number, handler in heeded.items()}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except _EndedError as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say_progress(progress: Progress, title: str) -> None:
    """Says where the labelling stands."""
    say("")
    say(title)
    say_facts(facts_of(progress))


def facts_of(progress: Progress) -> list[tuple[str, str]]:
    """What is said of where the labelling stands."""
    normal, alerts, unsure = progress.normal, progress.alerts, progress.unsure
    coverage = progress.coverage
    facts = [
        ("labels", f"{normal} normal, {alerts} alert, {unsure} unsure"),
        ("covered", f"{coverage.labelled:.1%} of the lines; {coverage.alike:.1%} with their like"),
    ]
    if progress.precision is not None and progress.recall is not None:
        facts += left_out_facts(progress.precision, progress.recall)
    doubtful = [(template, word_of(alert)) for template, alert in progress.contradicted]
    return facts + contradicted_facts(doubtful)


def _show(labelling: Labelling, question: Question, examples: list[Example], left: int) -> None:
    width = max(shutil.get_terminal_size().columns, 40)
    say("")
    say(f"round {labelling.round}, {left} to go")
    if question.before is not None:
        said = word_of(question.before)
        say(f"  once more, please: you called this {said}, and your other labels say otherwise")
    say(f"  {question.template or '(a line without text)'}")
    say(f"  {question.lines:,} lines, {labelling.share(question):.2%} of the log")
    for example in examples:
        say("")
        for number, text in example.lines:
            mark, longest = (">", _LONGEST) if number == example.number else (" ", width - 14)
            cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
            say(f"  {mark} {number:>8,}  {cut}")
    guess = word_of(labelling.guess(question))
    say("")
    say(f"  guess: {guess}, {question.score:.2f}  {labelling.reason(question)}")


def _answered(labelling: Labelling, question: Question, key: Callable[[], str]) -> bool:
    """Waits for what to do about a question; false to end."""
    typer.echo(f"  {_KEYS}", nl=False)
    told = False
    while True:
        try:
            pressed = key().lower()
        except (KeyboardInterrupt, EOFError):
            pressed = "q"
        if pressed in _LABELS:
            typer.echo(word_of(_LABELS[pressed]))
            labelling.answer(question, _LABELS[pressed])
            return True
        if pressed in _QUIT:
            typer.echo("quit")
            return False
        if pressed in _UNDO:
            undone = labelling.undo()
            typer.echo("undo" if undone else "there is nothing to undo")
            return True
        # Anything else, an arrow or a paste, is no answer; to say so once is enough.
        if not told:
            typer.echo(f"\n  {_KEYS}", nl=False)
            told = True
