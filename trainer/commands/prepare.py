"""`trainer prepare`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from trainer.preparation import Unsplit, Watcher
    from trainer.prepared_logs import PreparedManifest

#: Vectors that the cache keeps in memory: each is asked for once, and its file has them.
_CACHED = 1_000


def prepare(
    *,
    system: Annotated[str, typer.Option(metavar="NAME", help="the system, or a profile's path")],
    log: Annotated[
        list[str],
        typer.Option(metavar="FILE", help="plain, gzip or zstd, or `-` for standard input"),
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="more of the log, in the order of its lines"),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="the folder to make")],
    replace: Annotated[
        bool, typer.Option("--replace", help="replace a prepared log that is there")
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="what makes the vectors  [default: the shipped one]"),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="CLASS", help="fp32, bf16 (for a GPU) or int8 (for a CPU)")
    ] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Splits, masks and encodes a log once; train, adapt and evaluate read the result."""
    if more and len(log) > 1:
        raise SettingError("--log a b and --log a --log b are two ways: use one, the order counts")
    logs = [*log, *(more or [])]
    if logs.count("-") > 1:
        raise SettingError("--log -: standard input can be read once")
    from crosyslog.systems import load_system
    from trainer.log_batches import size_of
    from trainer.preparation import check_output

    profile = load_system(system)
    check_output(output, replace=replace)
    for path in logs:
        size_of(path)  # refuses what cannot be read before the encoder is loaded

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import DEFAULT_ENCODER, load_encoder
    from crosyslog.locations import default_cache
    from trainer import preparation

    cache = EmbeddingCache(default_cache(), max_entries=_CACHED)
    try:
        # Before the lines are read: that it is missing must not be said after an hour.
        source = load_encoder(encoder or DEFAULT_ENCODER, precision=precision)
        with _bars() as watcher:
            manifest, unsplit = preparation.prepare(
                logs,
                profile,
                encoder=source,
                cache=cache,
                output=output,
                replace=replace,
                watcher=watcher,
            )
    except KeyboardInterrupt:
        typer.echo(
            "stopped, nothing is written; the same command finds again what is encoded so far",
            err=True,
        )
        raise
    finally:
        cache.close()
    _report(manifest, unsplit, output=output, json=json)


def _report(
    manifest: "PreparedManifest", unsplit: "Unsplit | None", *, output: Path, json: bool
) -> None:
    from dataclasses import asdict

    from trainer.screen import say, say_facts, say_json

    without = manifest.lines - manifest.alerts - manifest.normal
    if json:
        say_json(
            {
                "output": str(output),
                "system": manifest.system.name,
                "encoder": manifest.encoder.id,
                "masking": manifest.masking,
                "lines": manifest.lines,
                "labels": {"alert": manifest.alerts, "normal": manifest.normal, "none": without},
                "templates": manifest.templates,
                "unsplit": manifest.unsplit,
                "first_unsplit": asdict(unsplit) if unsplit else None,
                "logs": [source.model_dump() for source in manifest.logs],
            }
        )
        return
    say(f"{output}: {manifest.lines:,} lines of {manifest.system.name} are prepared")
    facts = [
        ("labels", f"{manifest.alerts:,} alert, {manifest.normal:,} normal, {without:,} none"),
        ("templates", f"{manifest.templates:,}"),
        ("unsplit", f"{manifest.unsplit:,} ({manifest.unsplit / manifest.lines:.1%})"),
    ]
    if unsplit is not None:
        facts.append(("  the first", f"{unsplit.log}, line {unsplit.number:,}: {unsplit.text}"))
    say_facts(facts)


@contextmanager
def _bars() -> Iterator["Watcher"]:
    """Progress bars on standard error, if that is a terminal: lines, then templates."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )

    class Bars:
        def __init__(self) -> None:
            self._lines = bars.add_task("reading lines", total=None, done="")
            self._templates = bars.add_task("encoding templates", visible=False, done="")

        def read(self, lines: int, share: float | None) -> None:
            # A total that changes would make rich forget how fast it went: the share has one.
            unit = 1.0 if share is None else lines / max(share, 1e-9)
            self._move(self._lines, lines / unit, None if share is None else 1.0)
            self._tell(self._lines, f"{lines:,} lines", unit)

        def encoded(self, templates: int, total: int) -> None:
            self._move(self._templates, templates, total)
            self._tell(self._templates, f"{templates:,} templates", 1.0)

        def _move(self, task: TaskID, completed: float, total: float | None) -> None:
            bars.update(task, completed=completed, total=total, visible=True)

        def _tell(self, task: TaskID, done: str, unit: float) -> None:
            speed = (bars.tasks[task].speed or 0) * unit
            bars.update(task, done=f"{done}, {speed:,.0f}/s")

    with bars:
        yield Bars()
