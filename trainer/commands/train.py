"""`trainer train`."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosyslog.errors import SettingError, ToolMissingError
from crosyslog.store import DETECTORS, DetectorKind
from trainer.method_choice import METHOD_HELP, Method, method_of, refuse_without_effect
from trainer.sources import one_each, read_sources, source_paths, systems_of

if TYPE_CHECKING:
    from crosyslog.bundle import Bundle
    from crosyslog.systems import System
    from trainer.tasks import LabelledStream


WordVectorsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="of metalog with vectors = \"words\": text as GloVe's  [default: the encoder's]",
    ),
]


def train(
    *,
    source: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PATH",
            help="a system, and a log of it or a prepared one; metalog reads several of a system "
            "as one log",
        ),
    ],
    method: Annotated[Method | None, typer.Option(help=METHOD_HELP, show_default=False)] = None,
    detector: Annotated[
        DetectorKind | None,
        typer.Option(
            help="of crosyslog: the network over evidence, or the published LSTM  "
            f"[default: {DETECTORS[0]}]",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="of metalog: the labels of a source's sessions, as CSV  [default: "
            "PATH.labels.csv, else those of the lines]",
        ),
    ] = None,
    sessions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RULE",
            help="of metalog: which lines of a source make a session: key, a number of lines (20) "
            "or a time (5m)  [default: as the profile says]",
        ),
    ] = None,
    word_vectors: WordVectorsOption = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="settings of the training, as TOML: docs/train.md"),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="the folder to make; names the base")],
    restart: Annotated[
        bool, typer.Option("--restart", help="of maml_lstm: anew, whatever a stopped run has left")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Meta-trains a base on labelled source systems; the LSTM's goes on where it was stopped."""
    if find_spec("sklearn") is None:
        raise ToolMissingError("train needs scikit-learn: install the extra crosyslog[trainer]")
    paths = source_paths(source)
    if output.exists():
        raise SettingError(f"--output {output} exists already: name a folder that is to be made")
    systems = systems_of(paths)
    chosen = method_of(method, systems.values())
    if chosen == "metalog":
        refuse_without_effect(chosen, {"--detector": detector, "--restart": restart})
        from trainer.commands.session_training import given_sources, train_sessions

        given = given_sources(paths, systems, labels or [], sessions or [])
        train_sessions(given, config, word_vectors, output, json=json)
        return
    refuse_without_effect(
        chosen, {"--labels": labels, "--sessions": sessions, "--word-vectors": word_vectors}
    )
    _train_lines(
        one_each(paths),
        systems,
        detector or DETECTORS[0],
        config,
        output,
        restart=restart,
        json=json,
    )


def _train_lines(
    named: dict[str, Path],
    systems: "Mapping[str, System]",
    detector: DetectorKind,
    config: Path | None,
    output: Path,
    *,
    restart: bool,
    json: bool,
) -> None:
    """A base that judges lines."""
    name = output.resolve().name
    profiles = {systems[given].name: path for given, path in named.items()}

    from crosyslog.bundle import write_bundle
    from trainer.new_folders import new_folder
    from trainer.screen import say, say_facts, say_json

    made_by = _command(detector, profiles, config, output)
    make = _train_lstm if detector == "maml_lstm" else _train_evidence
    with (
        make(named, systems, config, output, made_by, restart=restart) as (bundle, streams),
        new_folder(output) as folder,
    ):
        manifest = write_bundle(folder, bundle.manifest, bundle.detector, bundle.support)
    if json:
        say_json(
            {
                "output": str(output),
                "base": name,
                "detector": detector,
                "sources": list(manifest.sources),
            }
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
def _train_lstm(
    named: dict[str, Path],
    systems: "Mapping[str, System]",
    config: Path | None,
    output: Path,
    command: str,
    *,
    restart: bool,
) -> "Iterator[tuple[Bundle, list[LabelledStream]]]":
    """A base of the detector `maml_lstm`; its state is kept until the block has saved the base."""
    from crosyslog.threads import torch_threads
    from trainer.config_files import read_config
    from trainer.resumption import kept_state, train_on
    from trainer.screen import note, steps_progress
    from trainer.training import MetaTraining, TrainingConfig

    settings = read_config(config, TrainingConfig)
    with kept_state(output, restart=restart) as state, _stopped_in_a_line(state):
        streams, encoder = read_sources(named, systems)
        training = MetaTraining(streams, settings, encoder.dim)
        if state.exists():
            training.load(state)
            note(f"going on at step {training.step} of {settings.outer_steps}")
        with (
            torch_threads(1),
            steps_progress("meta-training", settings.outer_steps, training.step) as done,
        ):
            train_on(training, state, done)
            bundle = training.bundle(name=output.resolve().name, encoder=encoder, command=command)
        yield bundle, streams


@contextmanager
def _train_evidence(
    named: dict[str, Path],
    systems: "Mapping[str, System]",
    config: Path | None,
    output: Path,
    command: str,
    *,
    restart: bool,
) -> "Iterator[tuple[Bundle, list[LabelledStream]]]":
    """A base of the detector `evidence`: it takes a minute or two, so no state is kept."""
    from trainer.base_training import train_evidence_base
    from trainer.config_files import read_config
    from trainer.evidence_training import EvidenceConfig, check_count

    if restart:
        raise SettingError("--restart is for --detector maml_lstm: the other keeps no state")
    settings = read_config(config, EvidenceConfig)
    check_count(list(systems))
    streams, encoder = read_sources(named, systems)
    name = output.resolve().name
    bundle = train_evidence_base(
        streams, name=name, settings=settings, encoder=encoder, command=command
    )
    yield bundle, streams


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


def _command(
    detector: DetectorKind, named: dict[str, Path], config: Path | None, output: Path
) -> str:
    # File names alone: a base travels, and a path would tell of the machine it was made on.
    words = ["trainer", "train"]
    for name, path in named.items():
        words += ["--source", f"{name}={path.name}"]
    words += ["--detector", detector] if detector != DETECTORS[0] else []
    if config is not None:
        words += ["--config", config.name]
    return shlex.join([*words, "--output", output.name])
