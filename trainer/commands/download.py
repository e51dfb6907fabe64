"""`trainer download`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID

    from trainer.downloading import Dataset, Download, Report


def download(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="a data set; without one, lists them")
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="the folder of logs  [default: in your data folder]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Fetches an original data set, checks it and says its licence; goes on from where it broke."""
    if name is None:
        _list(json=json)
        return
    from crosyslog.locations import default_data
    from trainer.downloading import download as fetch
    from trainer.downloading import find_dataset

    dataset = find_dataset(name)
    with _bar() as report:
        try:
            got = fetch(dataset, output or default_data(), report=report)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command goes on from what has arrived", err=True)
            raise
    _tell(dataset, got, json=json)


def _list(*, json: bool) -> None:
    from rich.filesize import decimal

    from trainer.downloading import load_datasets
    from trainer.screen import say_facts, say_json, say_table

    found = load_datasets().values()
    if json:
        say_json([dataset.model_dump() for dataset in found])
        return
    rows = [
        (
            dataset.name,
            ("" if dataset.exact else "about ") + decimal(dataset.size),
            f"{dataset.lines:,}",
            "size, MD5, lines" if dataset.md5 else "lines",
            dataset.about,
        )
        for dataset in found
    ]
    say_table(("name", "to fetch", "lines", "checked by", "what it is"), rows)
    publishers = {dataset.publisher.title: dataset.publisher for dataset in found}
    say_facts([(f"licence of {title}:", one.licence) for title, one in publishers.items()])


def _tell(dataset: "Dataset", got: "Download", *, json: bool) -> None:
    from rich.filesize import decimal

    from trainer.screen import say, say_facts, say_json

    if json:
        say_json(
            {
                "name": dataset.name,
                "system": dataset.system,
                "folder": str(got.folder),
                "logs": [str(path) for path in got.logs],
                "others": [str(path) for path in got.others],
                "bytes": got.size,
                "lines": dataset.lines,
                "fetched": got.fetched,
                "address": dataset.address,
                "publisher": dataset.publisher.title,
                "page": dataset.publisher.page,
                "licence": dataset.publisher.licence,
                "cite": list(dataset.citations),
            }
        )
        return
    done = "fetched and checked" if got.fetched else "there already"
    say(f"{dataset.name}: {done}, {dataset.lines:,} lines, {decimal(got.size)}")
    say_facts(
        [
            *(("log", str(path)) for path in got.logs),
            *(("labels", str(path)) for path in got.others),
            ("lines split by", dataset.system),
            ("publisher", f"{dataset.publisher.title}, {dataset.publisher.page}"),
            ("licence", dataset.publisher.licence),
            *(("cite", text) for text in dataset.citations),
        ]
    )


@contextmanager
def _bar() -> Iterator["Report"]:
    """A bar with bytes a second and time left on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        steps: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bar.add_task(step, total=total, completed=done)
            bar.update(steps[step], completed=done, total=total)

        yield report
