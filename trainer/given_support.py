"""What an adaptation learns from: the labels of a log's lines, of templates, or both.

Nothing is learnt from a line that was not given: the lines of the log without a label only show
what the model makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.errors import BundleError, LabelError, StoreError
from crosyslog.manifest import load_manifest
from crosyslog.masking import template_id
from crosyslog.systems import load_system, system_names
from trainer.csv_cells import columns_of
from trainer.labelled_logs import fallback_notes, labels_of_its_own, no_labels_known, system_of
from trainer.template_labels import (
    Answers,
    last_of_file,
    recorded_system,
    require_system,
)
from trainer.whole_logs import NO_LABEL, read_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from crosyslog.store import Store
    from crosyslog.systems import System
    from trainer.whole_logs import WholeLog


@dataclass(frozen=True)
class GivenSupport:
    """Labelled lines, and the log whose other lines show what is made of them.

    Attributes:
        templates: the distinct ones that have a label.
        rows: of each label, the number of its template.
        labels: whether they are alerts; the label of a template is one, as that of a line is.
        system: the profile of the lines.
        log: all lines of the log, if there is one.
        files: the names of what was read, the log first.
        notes: what a user should know of the choice.
    """

    templates: list[str]
    rows: NDArray[np.int64]
    labels: NDArray[np.bool_]
    system: System
    log: WholeLog | None
    files: list[str]
    notes: list[str]


class _Sources(NamedTuple):
    """Where labels come from.

    Attributes:
        log: a log, whose own labels count unless there is a file of them.
        of_lines: a file with the labels of its lines.
        of_templates: files with the labels of templates.
    """

    log: Path | None
    of_lines: Path | None
    of_templates: list[Path]


def given_support(
    target: str, log: Path | None, files: Sequence[Path], system: str | None, store: Store
) -> GivenSupport:
    """Gathers the labels that were named; where none are, those that are there for the target.

    Labels of templates stand in place of the log's own, those of a later file in place of an
    earlier one's.

    Args:
        target: the target's name.
        log: a log of it, or a prepared one.
        files: labels, of the log's lines or of templates.
        system: the profile's name, or its path.
        store: where `trainer label` keeps its answers.

    Raises:
        LabelError: there is no label, or a file does not fit.
        InputError: a log or a profile cannot be read.
    """
    sources = _sources(log, files)
    saved = store.labels(target)
    answers = Answers(saved)
    if log is None and not files and not answers.labels():
        found = log_of(target)
        if found is None:
            raise LabelError(
                f"no labels to adapt {target} with: give a labelled log with --log FILE (`trainer "
                "simulate` writes one, to try it out), a file of labels with --labels FILE, or let "
                f"`trainer label --target {target} --log FILE` ask for them"
            )
        sources = sources._replace(log=found)
    if system is not None and sources.of_templates:
        require_system(saved, load_system(system))
    profile, notes = profile_of(target, system, sources.log, store)
    whole = _whole_log(sources, profile)
    own = whole is not None and bool((whole.labels != NO_LABEL).any())
    if not files and answers.labels():
        if own:
            notes.append(
                f"the labels kept by `trainer label` were left aside: --labels {saved} adds them"
            )
        else:
            sources.of_templates.append(saved)
    by_template = _labels_of(sources.of_templates, whole)
    if not own and not by_template:
        empty = sources.of_lines or next(iter(sources.of_templates), None)
        if empty is not None or sources.log is None:
            raise LabelError(f"{empty} holds no label: fill in its column `label`")
        raise no_labels_known(profile, sources.log)
    notes += absent_notes(whole, by_template)
    templates, rows, labels = _combined(whole, by_template)
    read = [sources.log, sources.of_lines, *sources.of_templates]
    names = [path.name for path in read if path is not None]
    return GivenSupport(templates, rows, labels, profile, whole, names, notes)


def profile_of(
    target: str, given: str | None, log: Path | None, store: Store
) -> tuple[System, list[str]]:
    """The profile of a target's lines, and what to say of the choice.

    It is the given one, else that by which templates were made for labelling, else that of the
    model in use: a choice holds until another one is made. Else it is that of the target's name,
    of a prepared log, or plain.

    Raises:
        SystemProfileError, LabelError, InputError: a profile cannot be read.
    """
    if given is None:
        kept = recorded_system(store.labels(target)) or _system_in_use(target, store)
        if kept is not None:
            return kept, []
    profile = system_of(target, given, log)
    return profile, fallback_notes(target, given, profile)


def _system_in_use(target: str, store: Store) -> System | None:
    """The profile of the target's model; none where there is no model that can be read."""
    try:
        version = store.current(target)
        system = load_manifest(store.path(target, version))[0].system if version else None
    except (StoreError, BundleError):
        return None
    # A shipped profile may have been bettered since.
    return load_system(system.name) if system and system.name in system_names() else system


def log_of(target: str) -> Path | None:
    """The log of a target in the data folder: a prepared one, or a downloaded one."""
    from crosyslog.locations import default_data
    from trainer.downloading import downloaded_logs
    from trainer.prepared_logs import is_prepared

    folder = default_data() / target
    if folder.is_dir() and is_prepared(folder):
        return folder
    logs = downloaded_logs(target, default_data())
    return logs[0] if len(logs) == 1 else None


def _sources(log: Path | None, files: Sequence[Path]) -> _Sources:
    of_lines = [path for path in files if "template" not in columns_of(path)]
    if of_lines and log is None:
        raise LabelError(
            f"--labels {of_lines[0]}: its rows name no template but lines of a log: give that log "
            "with --log FILE"
        )
    if len(of_lines) > 1:
        raise LabelError(f"--labels {of_lines[0]} and {of_lines[1]}: give one file of line labels")
    if of_lines and log is not None and log.is_dir():
        raise labels_of_its_own(log, of_lines[0])
    of_templates = [path for path in files if path not in of_lines]
    return _Sources(log, of_lines[0] if of_lines else None, of_templates)


def _whole_log(sources: _Sources, profile: System) -> WholeLog | None:
    if sources.log is None:
        return None
    whole = read_whole(sources.log, profile)
    if sources.of_lines is not None:
        return whole.with_labels_of(sources.of_lines, str(sources.log))
    return whole


def _labels_of(files: Sequence[Path], whole: WholeLog | None) -> dict[str, bool]:
    """The labels of templates in some files."""
    known = {template_id(one): one for one in whole.templates} if whole is not None else {}
    labels: dict[str, bool | None] = {}
    for path in files:
        labels |= last_of_file(path, known)
    return {template: alert for template, alert in labels.items() if alert is not None}


def absent_notes(whole: WholeLog | None, by_template: Mapping[str, bool]) -> list[str]:
    """What to say where few of the labelled templates occur in the log."""
    if whole is None or not by_template:
        return []
    absent = len(by_template.keys() - set(whole.templates))
    if 2 * absent <= len(by_template):
        return []
    said = (
        f"{absent:,} of the {len(by_template):,} labelled templates do not occur in the log: are "
        "its lines split by the profile (--system) that the templates were made by?"
    )
    return [said]


def _combined(
    whole: WholeLog | None, by_template: Mapping[str, bool]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.bool_]]:
    """The labelled lines whose template has no label of its own, then the labelled templates."""
    templates, rows, labels = list(by_template), np.empty(0, np.int64), np.empty(0, np.bool_)
    if whole is not None:
        lines = whole.labelled()
        left = np.array([template not in by_template for template in lines.templates], np.bool_)
        kept = left[lines.rows]
        rows = (np.cumsum(left) - 1)[lines.rows[kept]]
        labels = lines.labels[kept]
        templates = [one for one, is_left in zip(lines.templates, left, strict=True) if is_left]
        templates += by_template
    first = len(templates) - len(by_template)
    added = np.arange(first, len(templates), dtype=np.int64)
    alerts = np.array(list(by_template.values()), dtype=np.bool_)
    return templates, np.concatenate((rows, added)), np.concatenate((labels, alerts))
