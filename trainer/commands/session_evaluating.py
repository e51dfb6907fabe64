"""`trainer evaluate --method metalog`: judges what judges sessions, and what it must beat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import SettingError
from trainer.method_choice import SESSION_METHODS
from trainer.screen import progress, say_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crosyslog.systems import System
    from trainer.session_inputs import SessionSource


@dataclass(frozen=True)
class Given:
    """What the command line says of an evaluation.

    Attributes:
        target: the system to be judged on.
        profile: of its lines.
        logs: its log, or several that are read as one.
        sources: options `--source`.
        labels: options `--labels`: a file for the target, `NAME=FILE` for a source.
        rules: options `--sessions`, likewise.
        methods: names of methods; all of them for none.
        share: of the anomalous sessions to learn from, how many have a label.
        normal_share: of the normal ones.
        seeds: how many.
        first_seed: the first of them.
        config: the file of the training's settings.
        word_vectors: a file of the vectors of words.
        output: where the report is written.
    """

    target: str
    profile: System
    logs: Sequence[Path]
    sources: Sequence[str]
    labels: Sequence[str]
    rules: Sequence[str]
    methods: Sequence[str]
    share: float
    normal_share: float
    seeds: int
    first_seed: int
    config: Path | None
    word_vectors: Path | None
    output: Path | None


def check_session_methods(names: Sequence[str]) -> list[str]:
    """The methods of these names in the order of the table; all of them for none.

    Raises:
        SettingError: there is no such method.
    """
    for name in names:
        if name not in SESSION_METHODS:
            raise SettingError(
                f"--method {name}: of those that judge sessions, it is one of "
                f"{', '.join(SESSION_METHODS)}"
            )
    return [name for name in SESSION_METHODS if name in names or not names]


def evaluate_sessions(given: Given, *, json: bool) -> None:
    """Judges the methods, and reports.

    Args:
        given: what the command line says.
        json: report as JSON.

    Raises:
        CrosyslogError: a file cannot be used, or there is nothing to judge or to learn from.
    """
    from trainer.sessions.baselines import BASELINES

    names = check_session_methods(given.methods)
    for name in given.methods:
        if not given.share and BASELINES.get(name, (None, False))[1]:
            raise SettingError(
                f"--method {name} learns from labels, and --label-share 0 gives none: leave one of "
                "the two out"
            )
    target, sources = _inputs(given)

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache
    from crosyslog.threads import torch_threads
    from trainer.config_files import read_config
    from trainer.page_rendering import check_page_tools
    from trainer.report import check_output, write_evaluation
    from trainer.session_inputs import encode_groups, encoder_of_sources, read_source, words_of
    from trainer.sessions.corpus import fit_reading, session_corpus
    from trainer.sessions.evaluation import SessionEvaluation, split_sessions
    from trainer.sessions.inspection import inspect_sessions
    from trainer.sessions.page import write_session_page
    from trainer.sessions.report import SessionReport, show_sessions
    from trainer.sessions.training import SessionConfig

    settings = read_config(given.config, SessionConfig)
    words = words_of(settings, given.word_vectors)
    if given.output is not None:
        check_output(given.output)
        check_page_tools()
    logs = [read_source(source) for source in (target, *sources)]
    encoder, cache = encoder_of_sources(logs), EmbeddingCache(default_cache())
    corpora = []
    for source, log in zip((target, *sources), logs, strict=True):
        # Of the target, the sessions to learn from alone may be looked at.
        looked_at = len(split_sessions(len(log)).learnt) if source is target else None
        reading = fit_reading(log, source.system.drain, words, sessions=looked_at)
        encode_groups(log, reading, encoder, cache)
        corpora.append(session_corpus(source.system.name, log, reading, encoder, cache))
    evaluation = SessionEvaluation(
        corpora[0], corpora[1:], settings, given.share, given.normal_share
    )
    seeds = list(range(given.first_seed, given.first_seed + given.seeds))
    with torch_threads(1), progress("judging seeds", len(seeds)) as done:
        results = evaluation.judge(names, seeds, done)
    report = SessionReport(
        evaluation,
        [log.name for log in given.logs],
        str(target.rule),
        given.share,
        given.normal_share,
        seeds,
        settings,
        given.word_vectors.name if given.word_vectors else None,
        results,
    )
    content = report.content() | {"target": given.target}
    if given.output is not None:
        write_evaluation(content, given.output)
        write_session_page(content, inspect_sessions(evaluation, results), given.output)
    if json:
        say_json(content)
    else:
        show_sessions(content, results)


def _inputs(given: Given) -> tuple[SessionSource, list[SessionSource]]:
    """The target and the sources that the options name.

    Raises:
        SettingError: an option is malformed, a source is the target, or there is none.
    """
    from crosyslog.session_rules import session_rule
    from trainer.commands.session_training import given_sources
    from trainer.session_inputs import SessionSource, rule_of
    from trainer.sources import source_paths, systems_of

    if not given.sources:
        raise SettingError(
            "no source to learn from: sessions are judged by what is meta-trained for the purpose; "
            "name labelled systems with --source NAME=PATH"
        )
    paths = source_paths(given.sources)
    systems = systems_of(paths)
    for name, system in systems.items():
        if system.name in {given.target, given.profile.name}:
            raise SettingError(
                f"--source {name}: the target itself cannot be a source: what knows it is not "
                "judged on it"
            )
    labels, files = _apart(given.labels)
    rules, said = _apart(given.rules)
    for option, several in (("--labels", files), ("--sessions", said)):
        if len(several) > 1:
            raise SettingError(
                f"{option} {several[0]} and {several[1]}: the target has one; of a source, write "
                "NAME=…"
            )
    rule = rule_of(given.profile, session_rule(said[0]) if said else None, "--sessions RULE")
    file = Path(files[0]) if files else None
    target = SessionSource(given.profile, given.logs, rule, file, "--labels FILE")
    return target, given_sources(paths, systems, labels, rules)


def _apart(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """Values of sources, `NAME=…`, and those of the target."""
    of_sources = [one for one in options if "=" in one]
    return of_sources, [one for one in options if "=" not in one]
