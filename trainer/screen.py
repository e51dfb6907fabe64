"""What the commands show: lines, tables and progress; log text cannot act on the terminal."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from crosyslog.terminal import printable

#: The help of `--system` where answers to `trainer label` may be kept for the target.
SYSTEM_HELP = (
    "how lines split  [default: as for the labels or the model there are, else the profile of the "
    "target's name, else plain]"
)


def say(line: str) -> None:
    """Writes a line to standard output."""
    import typer

    typer.echo(printable(line))


def note(line: str) -> None:
    """Writes a line to standard error: what a user should know and a program need not read."""
    import typer

    typer.echo(printable(line), err=True)


def count_of(count: int, what: str) -> str:
    """A number and what it counts, in the plural where it is not one."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def say_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Writes pairs of a name and a text, the texts under each other."""
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        say(f"  {name:<{width}}  {text}")


def say_json(content: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Writes JSON for programs."""
    import typer

    # ASCII: whatever a log put into it, no terminal acts on it.
    typer.echo(json.dumps(content, indent=2))


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table; the first column is text, the others are right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width that a row would have to be folded to.
        console = Console(markup=False, emoji=False, highlight=False, width=240)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, if that is a terminal.

    Yields:
        To be called with how much of `total` is done.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    bar = Progress(console=console, disable=not console.is_terminal, transient=True)
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def steps_progress(what: str, total: int, done: int) -> Iterator[Callable[[int, float], None]]:
    """A bar of steps with their loss and the time left, on standard error, if that is a terminal.

    Args:
        what: they are steps of.
        total: steps.
        done: steps done before; how long those took says nothing of the time left.

    Yields:
        To be called with the number of steps done, and the loss of the last one.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=total, completed=done, loss="-")
        yield lambda step, loss: bar.update(task, completed=step, loss=f"{loss:.4f}")
