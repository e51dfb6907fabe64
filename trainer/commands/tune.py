"""`trainer tune`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from trainer.tuning.held_out import Source


def tune(
    *,
    source: Annotated[
        list[str],
        typer.Option(metavar="NAME=PATH", help="a system, and a log of it or a prepared one"),
    ],
    trials: Annotated[int, typer.Option(metavar="N", min=1, help="settings to try in all")],
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="the folder to make, or to go on with")
    ],
    space: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="what varies, as TOML  [default: docs/tune.md]"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="settings that stay as they are, as TOML")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="ray://HOST:PORT|auto", help="a Ray cluster  [default: this machine]"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="of what is tried")] = 0,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Searches settings of meta-training, each source held out in turn.

    The same command goes on where it was ended.
    """
    from trainer.tuning.cluster import check_tools, ray_started

    check_tools()
    if address is not None and address != "auto" and not address.startswith("ray://"):
        raise SettingError(
            f"--address {address}: write ray://HOST:PORT, or auto on a cluster's machine"
        )
    from crosyslog import __version__
    from trainer.config_files import read_config
    from trainer.screen import progress, say_json
    from trainer.sources import named_sources
    from trainer.training import TrainingConfig
    from trainer.tuning.held_out import TASKS, check_sources, plan_for
    from trainer.tuning.records import Records, opened
    from trainer.tuning.report import content, show_report, write_report
    from trainer.tuning.space import Range, draw_settings, read_space, searched

    named = named_sources(source)
    if len(named) < 2:
        raise SettingError(
            "--source: tune needs two or more: each is held out in turn, and judged by what was "
            "trained on the others"
        )
    fixed = read_config(config, TrainingConfig)
    varied = searched(read_space(space) if space is not None else None, fixed)
    settings = draw_settings(varied, fixed, trials=trials, seed=seed)
    sources = _read(named)
    plan = plan_for(fixed, seed)
    check_sources(sources, plan, [one.support_lines for one in settings])
    identity = {
        "version": __version__,
        "sources": {one.name: one.digest() for one in sources},
        "settings": fixed.model_dump(),
        "space": {
            name: entry.model_dump() if isinstance(entry, Range) else entry
            for name, entry in varied.items()
        },
        "seed": seed,
        "tasks": TASKS,
    }
    with opened(output, identity) as folder:
        records = Records(folder, [one.model_dump() for one in settings])
        if records.remaining():
            size = sum(one.stream.vectors.nbytes + 17 * len(one.stream) for one in sources)
            with ray_started(address, folder, size) as storage, progress("trials", trials) as done:
                from trainer.tuning.search import search

                done(trials - len(records.remaining()))
                search(
                    records,
                    folder=folder,
                    sources=sources,
                    plan=plan,
                    storage=storage,
                    progress=done,
                )
        command = _command(
            [one.name for one in sources], named, trials, seed, space, config, output
        )
        write_report(folder, records.trials, names=list(varied), command=command)
    if json:
        say_json(content(records.trials, output))
    else:
        show_report(records.trials, output, list(varied))


def _read(named: dict[str, Path]) -> list["Source"]:
    """The sources with the vectors of their templates: read, encoded and numbered once."""
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache
    from crosyslog.manifest import EncoderReference
    from trainer.labelled_logs import encode_with_progress, encoder_for, read_labelled
    from trainer.sources import systems_of
    from trainer.tasks import labelled_stream
    from trainer.tuning.held_out import Source

    systems = systems_of(named)
    logs = [(systems[given], read_labelled(path, systems[given])) for given, path in named.items()]
    read = [log for _, log in logs]
    encoder, cache = encoder_for(read), EmbeddingCache(default_cache())
    encode_with_progress(read, encoder, cache)
    reference = EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim)
    return [
        Source(labelled_stream(system.name, log, encoder, cache), log.offsets, system, reference)
        for system, log in logs
    ]


def _command(
    names: list[str],
    named: dict[str, Path],
    trials: int,
    seed: int,
    space: Path | None,
    config: Path | None,
    output: Path,
) -> str:
    # File names alone: settings travel, and a path would tell of the machine they were found on.
    words = ["trainer", "tune"]
    for name, path in zip(names, named.values(), strict=True):
        words += ["--source", f"{name}={path.name}"]
    words += ["--trials", str(trials), "--seed", str(seed)]
    if space is not None:
        words += ["--space", space.name]
    if config is not None:
        words += ["--config", config.name]
    return shlex.join([*words, "--output", output.name])
