"""`trainer train`."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from crosyslog.errors import SettingError, ToolMissingError


def train(
    *,
    source: Annotated[
        list[str],
        typer.Option(metavar="NAME=PATH", help="a system, and a log of it or a prepared one"),
    ],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="settings of the training, as TOML")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="the folder to make; names the base")],
    restart: Annotated[
        bool, typer.Option("--restart", help="start anew, whatever a stopped run has left")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Meta-trains a base on labelled source systems; goes on where it was stopped."""
    if find_spec("sklearn") is None:
        raise ToolMissingError("train needs scikit-learn: install the extra crosyslog[trainer]")
    named = _named(source)
    name = output.resolve().name
    if output.exists():
        raise SettingError(f"--output {output} exists already: name a folder that is to be made")
    from crosyslog.systems import load_system

    systems = {given: load_system(given) for given in named}
    names = [profile.name for profile in systems.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"--source {twice[0]} is given twice: a system is one log")

    from crosyslog.bundle import write_bundle
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache
    from crosyslog.threads import torch_threads
    from trainer.labelled_logs import encode_with_progress, encoder_for, read_labelled
    from trainer.new_folders import new_folder
    from trainer.resumption import kept_state, train_on
    from trainer.screen import note, say, say_facts, say_json, steps_progress
    from trainer.tasks import labelled_stream
    from trainer.training import MetaTraining, TrainingConfig, read_config

    settings = read_config(config) if config is not None else TrainingConfig()
    with kept_state(output, restart=restart) as state, _stopped_in_a_line(state):
        # By the profile's name, also where its path was given: `evaluate` refuses a base by it.
        logs = {
            systems[given].name: read_labelled(path, systems[given])
            for given, path in named.items()
        }
        read = list(logs.values())
        encoder, cache = encoder_for(read), EmbeddingCache(default_cache())
        encode_with_progress(read, encoder, cache)
        streams = [labelled_stream(system, log, encoder, cache) for system, log in logs.items()]
        training = MetaTraining(streams, settings, encoder.dim)
        if state.exists():
            training.load(state)
            note(f"going on at step {training.step} of {settings.outer_steps}")
        with (
            torch_threads(1),
            steps_progress("meta-training", settings.outer_steps, training.step) as done,
        ):
            train_on(training, state, done)
            bundle = training.bundle(
                name=name,
                encoder=encoder,
                command=_command(dict(zip(names, named.values(), strict=True)), config, output),
            )
        with new_folder(output) as folder:
            manifest = write_bundle(folder, bundle.manifest, bundle.detector, bundle.support)
    if json:
        say_json(
            {"output": str(output), "base": name, "sources": list(manifest.sources)}
            | {"threshold": manifest.threshold.model_dump(), "figures": manifest.figures}
        )
        return
    say(f"the base {name} is in {output}")
    facts = [
        (stream.name, f"{len(stream):,} lines, {int(stream.labels.sum()):,} of them alerts")
        for stream in streams
    ]
    facts.append(("threshold", f"{manifest.threshold.value}: {manifest.threshold.chosen}"))
    facts += [(figure, f"{value:.3f}") for figure, value in manifest.figures.items()]
    say_facts(facts)


@contextmanager
def _stopped_in_a_line(state: Path) -> Iterator[None]:
    """Says after Ctrl-C what is kept."""
    from trainer.resumption import kept_step
    from trainer.screen import note

    try:
        yield
    except KeyboardInterrupt:
        step = kept_step(state)
        kept = f"goes on from step {step}" if step else "starts anew"
        note(f"stopped; the same command {kept}")
        raise


def _named(sources: list[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for source in sources:
        name, sign, path = source.partition("=")
        if not (name and sign and path):
            raise SettingError(
                f"--source {source}: write NAME=PATH, a system's name and a labelled log of it"
            )
        if name in named:
            raise SettingError(f"--source {name} is given twice: a system is one log")
        named[name] = Path(path)
    return named


def _command(named: dict[str, Path], config: Path | None, output: Path) -> str:
    # File names alone: a base travels, and a path would tell of the machine it was made on.
    words = ["trainer", "train"]
    for name, path in named.items():
        words += ["--source", f"{name}={path.name}"]
    if config is not None:
        words += ["--config", config.name]
    return shlex.join([*words, "--output", output.name])
