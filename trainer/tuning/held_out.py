"""What a trial is judged by: tasks of a source that the base has not been trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import LabelError
from trainer.based_methods import BasedMethods
from trainer.evaluation import judge
from trainer.labelled_lines import KnownVectors
from trainer.protocol import Plan, draw
from trainer.tasks import positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from crosyslog.manifest import EncoderReference
    from crosyslog.systems import System
    from trainer.tasks import LabelledStream
    from trainer.training import TrainingConfig

#: Tasks of a held-out source: a mean over more of them tells settings apart more surely, and costs
#: each trial more.
TASKS = 8

#: What judges: the method as the agent runs it, with memory.
_METHOD = "crosyslog"


@dataclass(frozen=True)
class Source:
    """A labelled source, encoded already: all that a trial needs of it.

    Attributes:
        stream: its lines and the vectors of their templates.
        offsets: of each line, its place in the log.
        system: its profile.
        encoder: what made the vectors.
    """

    stream: LabelledStream
    offsets: NDArray[np.int64]
    system: System
    encoder: EncoderReference

    @property
    def name(self) -> str:
        """The system's."""
        return self.stream.name

    def digest(self) -> str:
        """Names its content: another log, other labels or another encoder have another one."""
        digest = hashlib.sha256(self.encoder.id.encode())
        for part in (self.stream.rows, self.stream.labels, self.offsets):
            digest.update(np.ascontiguousarray(part).tobytes())
        for template in self.stream.templates:
            digest.update(template.encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()


def plan_for(settings: TrainingConfig, seed: int) -> Plan:
    """How tasks of a held-out source are drawn, the same for every trial."""
    return Plan(support=settings.support_lines, seeds=1, first_seed=seed, tasks=TASKS)


def check_sources(sources: Sequence[Source], plan: Plan, support_lines: Sequence[int]) -> None:
    """Refuses sources that cannot be trained on or be judged, before any trial.

    Args:
        sources: each is held out once.
        plan: how its tasks are drawn.
        support_lines: of every trial.

    Raises:
        LabelError: one has a single class, or no place for a task.
    """
    for source in sources:
        labels = source.stream.labels
        if labels.all():
            raise LabelError(
                f"the source {source.name} holds alerts alone ({len(labels):,} lines): a source "
                "needs both classes"
            )
        try:
            draw(labels, plan)
        except LabelError as error:
            raise LabelError(f"the source {source.name}: {error}") from error
        for lines in sorted(set(support_lines)):
            if not len(positions(labels, lines)):
                raise LabelError(
                    f"the source {source.name} ({len(labels):,} lines) has no place for a task "
                    f"with support_lines = {lines}, which a trial needs"
                )


def held_out_f1(base: Bundle, source: Source, plan: Plan) -> float:
    """The mean F1 of a base over tasks of a source that it was not trained on; nothing is encoded.

    Args:
        base: trained on other sources, with the encoder of this one.
        source: what is judged.
        plan: how tasks are drawn.
    """
    import polars as pl

    from crosyslog.embedding_cache import EmbeddingCache

    stream = source.stream
    known = KnownVectors(
        source.encoder,
        {template: row for row, template in enumerate(stream.templates)},
        stream.vectors.astype(np.float16),
    )
    methods = BasedMethods(
        base,
        stream,
        pl.Series("offset", source.offsets),
        plan=plan,
        system=source.system,
        encoder=known,
        cache=EmbeddingCache(),
    )
    tasks = replace(draw(stream.labels, plan), outside=[])
    results = judge(stream, tasks, [(_METHOD, methods.method(_METHOD))], plan)
    return float(np.mean([counts.f1 for counts in results[_METHOD].counts]))
