"""`trainer adapt --method metalog`: a model that judges the sessions of a system."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from crosyslog.errors import SettingError, ToolMissingError
from trainer.screen import say, say_facts, say_json
from trainer.session_facts import learnt_facts, threshold_text
from trainer.starting_bases import known_notes, starting_base

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from crosyslog.session_rules import SessionRule
    from crosyslog.store import Store
    from crosyslog.systems import System
    from trainer.session_logs import SessionLog
    from trainer.sessions.bundles import Adapted

#: Sessions without label that are printed; `--json` has all that would be raised.
_SHOWN = 5


@dataclass(frozen=True)
class Given:
    """What the command line says of an adaptation.

    Attributes:
        target: the system to adapt to.
        logs: its log, or several that are read as one.
        labels: files of labels.
        profile: of its lines.
        system: how `--system` called that; none where it was not asked for.
        rule: which lines make a session, as it was written.
        base: where to start.
    """

    target: str
    logs: Sequence[Path]
    labels: Sequence[Path]
    profile: System
    system: str | None
    rule: str | None
    base: str | None

    @property
    def command(self) -> str:
        """The command; of logs and labels, their names alone."""
        words = ["trainer", "adapt", "--target", self.target, "--method", "metalog"]
        words += [word for path in self.logs for word in ("--log", path.name)]
        words += [word for path in self.labels for word in ("--labels", path.name)]
        words += ["--system", self.system] if self.system else []
        words += ["--sessions", self.rule] if self.rule else []
        return shlex.join([*words, "--base", str(self.base)])


def adapt_to_sessions(given: Given, models: Store, notes: Sequence[str], *, json: bool) -> None:
    """Adapts a base to sessions, stores the model, and says what became of it.

    Args:
        given: what the command line says.
        models: the store.
        notes: what is to be said of the choices that were made before.
        json: report as JSON.

    Raises:
        CrosyslogError: a file or the base cannot be used, or the store cannot be written.
    """
    if find_spec("sklearn") is None:
        raise ToolMissingError(
            "adapt --method metalog needs scikit-learn: install the extra crosyslog[trainer]"
        )
    folder = starting_base(given.base, "metalog", None)
    if not given.logs:
        raise SettingError(
            f"no log to adapt {given.target} to: sessions are learnt from a whole log, with labels "
            "or without: name it with --log PATH"
        )
    if len(given.labels) > 1:
        raise SettingError(
            f"--labels {given.labels[0]} and {given.labels[1]}: give one file of labels of sessions"
        )
    from crosyslog.session_rules import session_rule
    from trainer.session_inputs import rule_of

    said = session_rule(given.rule) if given.rule is not None else None
    rule = rule_of(given.profile, said, "--sessions RULE")
    adapted, log = _adapt(given, folder, rule)

    from crosyslog.session_bundle import write_session_bundle

    def write(made: Path, version: str) -> None:
        manifest = adapted.bundle.manifest.model_copy(update={"version": version})
        write_session_bundle(made, replace(adapted.bundle, manifest=manifest))

    version = models.add(given.target, write)
    notes = [*notes, *_notes(adapted, log)]
    rest = _rest(adapted, log)
    if json:
        say_json(_content(adapted, given, rest, notes, version=version, store=models.location))
        return
    say(f"{given.target}: version {version} is stored in {models.location} and in use")
    manifest = adapted.bundle.manifest
    logs = ", ".join(path.name for path in given.logs)
    say_facts(
        [
            ("sessions", f"{adapted.sessions:,}, in {logs}"),
            *(("labels in", path.name) for path in given.labels),
            *learnt_facts(manifest),
            ("lines split by", given.profile.name),
            ("detector", manifest.detector.kind),
            ("base", f"{manifest.base}, trained on {', '.join(manifest.sources)}"),
            ("chosen", _chosen(adapted)),
            ("threshold", threshold_text(manifest.threshold)),
            *_on_the_rest(rest),
            *(("note", note) for note in notes),
        ]
    )


def _adapt(given: Given, folder: Path, rule: SessionRule) -> tuple[Adapted, SessionLog]:
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import EncoderOnDemand
    from crosyslog.locations import default_cache
    from crosyslog.session_bundle import load_session_bundle
    from crosyslog.threads import torch_threads
    from trainer.session_inputs import encode_groups
    from trainer.session_logs import read_session_log
    from trainer.sessions.bundles import adapt_sessions
    from trainer.sessions.corpus import fit_reading

    base = load_session_bundle(folder)
    labels = given.labels[0] if given.labels else None
    log = read_session_log(given.logs, given.profile, rule, labels)
    words = None if base.words is None else base.words.source
    reading = fit_reading(log, given.profile.drain, words)
    encoder = EncoderOnDemand(base.manifest.encoder)
    cache = EmbeddingCache(default_cache())
    encode_groups(log, reading, encoder, cache)
    with torch_threads(1):
        adapted = adapt_sessions(
            base,
            log,
            reading,
            target=given.target,
            system=given.profile,
            rule=rule,
            encoder=encoder,
            cache=cache,
            version="unsaved",
            command=given.command,
        )
    return adapted, log


def _notes(adapted: Adapted, log: SessionLog) -> list[str]:
    notes = []
    few = (
        "no more than one in a hundred sessions of this log, or one of fewer, is above the "
        "threshold"
    )
    if not adapted.labelled:
        notes.append(f"no session has a label: the base's weights are used, and {few}")
    elif not adapted.anomalous:
        notes.append(
            "no session is labelled anomalous: the base's weights are used, since from normal "
            f"sessions alone nothing is learnt that tells them from others; {few}"
        )
    elif adapted.anomalous == adapted.labelled:
        notes.append(
            "no session is labelled normal: label a quiet time, too, since what is like nothing "
            "that is labelled can be taken for either"
        )
    if log.labels_elsewhere:
        count = log.labels_elsewhere
        theirs = "1 label is of a session" if count == 1 else f"{count:,} labels are of sessions"
        notes.append(f"{theirs} that the log does not have")
    if log.sessions.left_out:
        notes.append(
            f"{log.sessions.left_out:,} of {len(log.lines.rows):,} lines have no key, and are in "
            "no session"
        )
    return notes + known_notes(adapted.bundle.manifest)


def _chosen(adapted: Adapted) -> str:
    """Which state of the training the model is, and by what it was chosen."""
    settings = adapted.bundle.manifest.settings
    steps = settings["steps"]
    if adapted.chosen is None:
        if not steps:
            return "the base's own weights"
        return f"after all {steps:,} steps: too few of the last labels to choose by"
    taken = {
        "left_out": "left out",
        "normal": "taken for normal",
        "suspicious": "taken for the more suspicious the rarer",
    }[settings["unknown"]]
    state = (
        f"after {steps:,} steps, with kinds of sessions that have no label {taken}"
        if steps
        else "the base's own weights"
    )
    return (
        f"{state}; F1 {adapted.chosen.f1:.2f}, average precision "
        f"{adapted.chosen.average_precision:.2f} on the last quarter of the labelled sessions, "
        "which it was chosen by"
    )


@dataclass(frozen=True)
class _Rest:
    """The sessions without label, judged.

    Attributes:
        sessions: how many there are.
        raised: how many of them would be events.
        highest: the key and the score of these, and of the highest ones in any case.
    """

    sessions: int
    raised: int
    highest: list[tuple[str, float]]


def _rest(adapted: Adapted, log: SessionLog) -> _Rest:
    from trainer.whole_logs import NO_LABEL

    places = np.flatnonzero(log.labels == NO_LABEL)
    scores: NDArray[np.float32] = adapted.scores[places]
    raised = int((scores >= adapted.bundle.manifest.threshold.value).sum())
    # Of equal scores, the earliest first.
    first = np.argsort(-scores, kind="stable")[: max(raised, _SHOWN)]
    keys = log.sessions.keys
    told = [(keys[places[one]], float(scores[one])) for one in first.tolist()]
    return _Rest(len(places), raised, told)


def _on_the_rest(rest: _Rest) -> list[tuple[str, str]]:
    """What is printed of the sessions that have no label."""
    if not rest.sessions:
        return []
    found = f"{rest.sessions:,} sessions without label: {rest.raised:,} would be raised"
    told = [
        ("", f"{key}: score {score:.7g}{', raised' if number < rest.raised else ''}")
        for number, (key, score) in enumerate(rest.highest[:_SHOWN])
    ]
    return [("on the rest", found), *told]


def _content(
    adapted: Adapted,
    given: Given,
    rest: _Rest,
    notes: Sequence[str],
    *,
    version: str,
    store: str,
) -> dict[str, Any]:
    manifest = adapted.bundle.manifest
    return {
        "target": manifest.target,
        "version": version,
        "store": store,
        "system": given.profile.name,
        "base": manifest.base,
        "detector": manifest.detector.kind,
        "sources": list(manifest.sources),
        "files": [path.name for path in (*given.logs, *given.labels)],
        "rule": manifest.settings["sessions"],
        "sessions": adapted.sessions,
        "labelled": adapted.labelled,
        "anomalous": adapted.anomalous,
        "support": manifest.support.model_dump(),
        "chosen": _chosen(adapted),
        "threshold": manifest.threshold.model_dump(),
        "figures": manifest.figures,
        "rest": {
            "sessions": rest.sessions,
            "raised": rest.raised,
            "highest": [{"session": key, "score": score} for key, score in rest.highest],
        },
        "settings": manifest.settings,
        "notes": list(notes),
    }
