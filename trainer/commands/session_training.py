"""`trainer train --method metalog`: a base that judges sessions."""

from __future__ import annotations

import shlex
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from trainer.screen import say, say_facts, say_json, steps_progress
from trainer.session_facts import threshold_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crosyslog.manifest import Manifest
    from crosyslog.systems import System
    from trainer.session_inputs import SessionSource
    from trainer.sessions.corpus import SessionCorpus


def given_sources(
    paths: Mapping[str, Sequence[Path]],
    systems: Mapping[str, System],
    labels: Sequence[str],
    rules: Sequence[str],
) -> list[SessionSource]:
    """The sources that the options name.

    Args:
        paths: the logs of each, by the name that was given.
        systems: their profiles.
        labels: options `--labels NAME=FILE`.
        rules: options `--sessions NAME=RULE`.

    Raises:
        SettingError: an option is malformed, or nothing says which lines of a source make a
            session.
    """
    from crosyslog.session_rules import session_rule
    from trainer.session_inputs import SessionSource, rule_of
    from trainer.sources import said_of_sources

    files = said_of_sources("--labels", labels, "FILE", paths)
    said = said_of_sources("--sessions", rules, "RULE", paths)
    sources = []
    for name, logs in paths.items():
        given = session_rule(said[name]) if name in said else None
        rule = rule_of(systems[name], given, f"--sessions {name}=RULE")
        file = Path(files[name]) if name in files else None
        option = f"--labels {name}=FILE"
        sources.append(SessionSource(systems[name], logs, rule, file, option))
    return sources


def train_sessions(
    sources: Sequence[SessionSource],
    config: Path | None,
    word_vectors: Path | None,
    output: Path,
    *,
    json: bool,
) -> None:
    """Meta-trains a base, writes it, and says what became of it.

    Args:
        sources: the systems to learn from.
        config: the file of the settings.
        word_vectors: a file of the vectors of words.
        output: the folder to make, which names the base.
        json: report as JSON.

    Raises:
        CrosyslogError: a source or a file cannot be used, or the folder cannot be written.
    """
    from trainer.config_files import read_config
    from trainer.session_inputs import words_of
    from trainer.sessions.training import SessionConfig

    settings = read_config(config, SessionConfig)
    words = words_of(settings, word_vectors)

    from crosyslog.manifest import EncoderReference
    from crosyslog.session_bundle import write_session_bundle
    from crosyslog.threads import torch_threads
    from trainer.new_folders import new_folder
    from trainer.session_inputs import read_corpora
    from trainer.sessions.bundles import train_session_base

    corpora, encoder, weighted = read_corpora(sources, words)
    name, began = output.resolve().name, perf_counter()
    total = settings.members * settings.steps
    with (
        new_folder(output) as folder,
        torch_threads(1),
        steps_progress("meta-training", total, 0) as done,
    ):
        bundle = train_session_base(
            corpora,
            name=name,
            config=settings,
            encoder=EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
            words=weighted,
            command=_command(sources, config, word_vectors, output),
            progress=done,
        )
        manifest = write_session_bundle(folder, bundle)
    _report(manifest, corpora, output, perf_counter() - began, json=json)


def _report(
    manifest: Manifest,
    corpora: Sequence[SessionCorpus],
    output: Path,
    seconds: float,
    *,
    json: bool,
) -> None:
    counts = {one.name: _counts(one) for one in corpora}
    step = manifest.settings["chosen_step"]
    if json:
        content: dict[str, Any] = {
            "output": str(output),
            "base": manifest.target,
            "detector": manifest.detector.kind,
            "sources": list(manifest.sources),
            "sessions": counts,
            "chosen_step": step,
            "threshold": manifest.threshold.model_dump(),
            "figures": manifest.figures,
            "settings": manifest.settings,
            "seconds": round(seconds, 1),
        }
        say_json(content)
        return
    say(f"the base {manifest.target} is in {output}")
    facts = [(name, _counted(one)) for name, one in counts.items()]
    steps = f"after step {step:,} of {manifest.settings['steps']:,}"
    figures = (
        f"F1 {manifest.figures['source_f1']:.3f}, average precision "
        f"{manifest.figures['source_average_precision']:.3f}: it was chosen by them"
    )
    facts += [
        ("detector", manifest.detector.kind),
        ("chosen", f"{steps}, by average precision on held-out sessions of each source"),
        ("threshold", threshold_text(manifest.threshold)),
        ("on these", figures),
        ("trained in", f"{seconds:,.1f} s"),
    ]
    say_facts(facts)


def _counts(corpus: SessionCorpus) -> dict[str, int]:
    from trainer.whole_logs import NO_LABEL

    return {
        "sessions": len(corpus),
        "labelled": int((corpus.labels != NO_LABEL).sum()),
        "anomalous": int((corpus.labels == 1).sum()),
        "groups": len(corpus.texts),
    }


def _counted(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['sessions']:,} sessions, {counts['labelled']:,} labelled, "
        f"{counts['anomalous']:,} of them anomalous; {counts['groups']:,} groups of templates"
    )


def _command(
    sources: Sequence[SessionSource],
    config: Path | None,
    word_vectors: Path | None,
    output: Path,
) -> str:
    # File names alone: a base travels, and a path would tell of the machine it was made on.
    words = ["trainer", "train", "--method", "metalog"]
    for source in sources:
        name = source.system.name
        words += [word for log in source.logs for word in ("--source", f"{name}={log.name}")]
        words += ["--labels", f"{name}={source.labels.name}"] if source.labels else []
        if source.rule != source.system.sessions:
            words += ["--sessions", f"{name}={source.rule}"]
    words += ["--word-vectors", word_vectors.name] if word_vectors else []
    words += ["--config", config.name] if config else []
    return shlex.join([*words, "--output", output.name])
