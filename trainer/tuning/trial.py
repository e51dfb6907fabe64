"""One trial: a meta-training for each held-out source, judged after parts of its outer steps."""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from crosyslog.errors import CrosyslogError
from crosyslog.threads import torch_threads
from trainer.training import MetaTraining, TrainingConfig
from trainer.tuning.held_out import Source, held_out_f1
from trainer.tuning.records import CHECKPOINTS, QUARTERS, SEARCH, Rung

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.protocol import Plan


@dataclass(frozen=True)
class Work:
    """What all trials of a search share: it goes to their processes once.

    Attributes:
        sources: each is held out once.
        plan: how tasks of a held-out source are drawn.
        settings: of each trial.
        known: rungs of each trial that were reached before, in the order of their steps.
        folder: that of the search.
        search: the text of its `search.json`, by which another machine tells whether it sees the
            same folder.
    """

    sources: Sequence[Source]
    plan: Plan
    settings: Sequence[dict[str, Any]]
    known: Sequence[Sequence[Rung]]
    folder: str
    search: str


def run_trial(number: int, work: Work, report: Callable[[Rung], None]) -> None:
    """Runs a trial and reports its rungs, those known before included.

    A training goes on from its checkpoint where there is one, and from the start where not: the
    same settings lead to the same state.

    Args:
        number: of the trial.
        work: what it needs.
        report: told each rung; it may end the trial.

    Raises:
        CrosyslogError: the settings do not fit the sources.
    """
    settings = TrainingConfig.model_validate(work.settings[number])
    known = work.known[number]
    for rung in known:
        report(rung)
    checkpoints = _checkpoints(work, number)
    with torch_threads(1):
        trainings: list[MetaTraining] | None = None
        before = known[-1].seconds if known else 0.0
        began = monotonic()
        for quarter in QUARTERS[len(known) :]:
            until = math.ceil(settings.outer_steps * quarter / QUARTERS[-1])
            if trainings is None:
                trainings = [
                    _begin(work, held_out, settings, checkpoints, until)
                    for held_out in range(len(work.sources))
                ]
            held_out_f1s = {}
            for held_out, (source, training) in enumerate(
                zip(work.sources, trainings, strict=True)
            ):
                training.run(until)
                if checkpoints is not None and quarter < QUARTERS[-1]:
                    _save(training, checkpoints, held_out)
                base = training.bundle(name="trial", encoder=_Named(source), command="")
                held_out_f1s[source.name] = held_out_f1(base, source, work.plan)
            report(
                Rung(
                    quarter=quarter,
                    step=until,
                    f1=sum(held_out_f1s.values()) / len(held_out_f1s),
                    held_out=held_out_f1s,
                    seconds=round(before + monotonic() - began, 3),
                )
            )
    if checkpoints is not None:
        shutil.rmtree(checkpoints, ignore_errors=True)


class _Named:
    """An encoder by its name alone, for a base's manifest: there is nothing left to encode."""

    device = "cpu"

    def __init__(self, source: Source) -> None:
        self.id, self.name, self.dim = source.encoder.id, source.encoder.name, source.encoder.dim

    def encode(self, texts: Sequence[str]) -> Any:  # noqa: ANN401 - it never returns
        raise NotImplementedError(f"{len(texts)} texts were to be encoded in a trial")


def _checkpoints(work: Work, number: int) -> Path | None:
    """Where a trial keeps its trainings; nowhere on a machine that does not see the folder."""
    folder = Path(work.folder)
    try:
        if (folder / SEARCH).read_text(encoding="utf-8") != work.search:
            return None
        own = folder / CHECKPOINTS / f"{number:04d}"
        own.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return own


def _begin(
    work: Work, held_out: int, settings: TrainingConfig, checkpoints: Path | None, until: int
) -> MetaTraining:
    """A training on all sources but one: from its checkpoint, else from step 0."""
    others = [source.stream for number, source in enumerate(work.sources) if number != held_out]

    def fresh() -> MetaTraining:
        return MetaTraining(others, settings, work.sources[held_out].encoder.dim)

    if checkpoints is None:
        return fresh()
    for path in _saved(checkpoints, held_out):
        training = fresh()
        # One that is damaged, or that another version wrote, costs the steps to it.
        with suppress(CrosyslogError, OSError, ValueError, RuntimeError, KeyError):
            training.load(path)
            if training.step <= until:
                return training
    return fresh()


def _save(training: MetaTraining, checkpoints: Path, held_out: int) -> None:
    before = _saved(checkpoints, held_out)
    path = checkpoints / f"{held_out}-{training.step:08d}"
    if path in before:
        return
    # A checkpoint has its name only when it is whole.
    part = path.with_suffix(".part")
    _remove(part)
    training.save(part)
    part.replace(path)
    for old in before:
        _remove(old)


def _saved(checkpoints: Path, held_out: int) -> list[Path]:
    """The checkpoints of a training, the furthest first."""
    return sorted(checkpoints.glob(f"{held_out}-" + "[0-9]" * 8), reverse=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
