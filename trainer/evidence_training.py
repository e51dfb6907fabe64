"""Meta-training of the detector `evidence` on labelled source systems.

Shapes: S templates of a support, T of a query, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch.func import functional_call
from torch.nn import functional

from crosyslog.bundle import Bundle, now
from crosyslog.errors import SettingError
from crosyslog.evidence_network import EvidenceDetector, EvidenceMember
from crosyslog.manifest import EncoderReference, EvidenceShape, InnerLoop, Manifest, Threshold
from trainer.adaptation import novel_below
from trainer.base_parts import prototypes
from trainer.config_files import LARGEST_SEED
from trainer.evidence_episodes import (
    Kinds,
    Lesson,
    SourceTemplates,
    draw_episodes,
    lessons,
    source_evidence,
    source_templates,
)
from trainer.evidence_inner_loop import inner_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from crosyslog.encoder import Encoder
    from crosyslog.evidence import SourceEvidence
    from trainer.tasks import LabelledStream

Share = Annotated[float, Field(ge=0, le=1)]

#: The score from which a template is an alert: what the network is trained to tell apart.
_THRESHOLD = Threshold(value=0.5, chosen="even odds, as the network was trained")

#: Sources without which there is no evidence of *other* sources to learn to weigh.
_FEWEST_SOURCES = 2


class EvidenceConfig(BaseModel):
    """The settings of the training; `trainer train --detector evidence --config` reads them.

    Attributes:
        hidden: units of each hidden layer.
        members: networks from other initial weights, whose logits are averaged.
        episodes: drawn of each source.
        chosen: the share of them whose support are chosen templates.
        one_class: the share of them whose support holds no alert.
        empty: the share of them without support.
        rounds: of those of chosen templates, the share that was asked for in rounds, as
            `trainer label` asks, and not all at once.
        single_sources: let an episode be seen with each of the other sources alone, too, and not
            only with all of them: how much the sources help then differs from lesson to lesson.
        line_power: a template of the query counts by how many lines it has, to this power.
        inner_steps: gradient steps on a support of chosen templates, through which the training
            goes. On lines in a row none are taken: what is in a burst has labelled neighbours
            there, so left out it looks easier than what is to come.
        inner_rate: their size.
        first_order: leave out the second derivatives.
        outer_steps: steps of the outer loop.
        lessons_a_source: of each source in one outer step.
        outer_rate: the largest size of the outer steps (AdamW, one cycle).
        weight_decay: of the outer loop.
        dropout: the share of the hidden units left out, at random for each template.
        noise: deviation of the noise added to standardised features.
        prototypes: vectors that stand for the normal templates of a source.
        source_penalty: of the weights of the sources' regression.
        seed: of all chance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: PositiveInt = 32
    members: Annotated[int, Field(ge=1, le=16)] = 4
    episodes: PositiveInt = 120
    chosen: Share = 0.45
    one_class: Share = 0.05
    empty: Share = 0.05
    rounds: Share = 0.0
    single_sources: bool = True
    line_power: Share = 1.0
    inner_steps: NonNegativeInt = 3
    inner_rate: PositiveFloat = 0.05
    first_order: bool = False
    outer_steps: PositiveInt = 600
    lessons_a_source: PositiveInt = 1
    outer_rate: PositiveFloat = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    noise: Annotated[float, Field(ge=0)] = 0.1
    prototypes: PositiveInt = 256
    source_penalty: PositiveFloat = 1e-3
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.chosen + self.one_class + self.empty > 1:
            raise ValueError(
                "chosen, one_class and empty are shares of one whole: at most 1 in all"
            )
        return self

    @property
    def total_steps(self) -> int:
        """Outer steps of all members."""
        return self.members * self.outer_steps


def check_count(sources: Sequence[str]) -> None:
    """Refuses too few sources.

    Raises:
        SettingError: there is one alone.
    """
    if len(sources) < _FEWEST_SOURCES:
        raise SettingError(
            f"--source {sources[0]} alone cannot train the detector evidence, which learns on each "
            "source how far to trust the others: name two or more (three are better), or say "
            "--detector maml_lstm"
        )


def train_evidence(
    sources: Sequence[LabelledStream],
    *,
    name: str,
    config: EvidenceConfig,
    encoder: Encoder,
    command: str,
    progress: Callable[[int], None] | None = None,
) -> Bundle:
    """Meta-trains a base.

    Args:
        sources: the labelled source systems, two or more.
        name: the base's name.
        config: the settings.
        encoder: the encoder that made the sources' vectors.
        command: what was called, for the manifest.
        progress: called after each outer step with how many are done, of all members.

    Returns:
        A base bundle in memory: weights and vectors; no log text.

    Raises:
        SettingError: there is one source alone.
        LabelError: one has no place for an episode.
    """
    check_count([source.name for source in sources])
    known = [source_templates(source, config.prototypes, config.seed) for source in sources]
    pools = _pools(sources, known, config)
    knows = source_evidence(known, config.source_penalty)
    detector = _untrained(encoder.dim, config, knows)
    detector.standardise_by(
        np.concatenate([lesson.query for pool in pools for lesson in pool], dtype=np.float32)
    )
    losses = []
    for number, member in enumerate(detector.each()):

        def moved(step: int, before: int = number * config.outer_steps) -> None:
            if progress is not None:
                progress(before + step)

        losses.append(_train_member(detector, member, pools, config, config.seed + number, moved))
    detector.eval().requires_grad_(requires_grad=False)
    detector.attach([], np.zeros((0, encoder.dim), np.float32), np.zeros(0, np.bool_))
    rates = dict.fromkeys(dict(_named(detector.each()[0])), (config.inner_rate,) * config.members)
    manifest = Manifest(
        kind="base",
        target=name,
        version="1",
        created=now(),
        encoder=EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
        detector=detector.shape,
        inner_loop=InnerLoop(
            steps=config.inner_steps, rates=rates, threshold=_THRESHOLD, repeat_power=1.0
        ),
        threshold=_THRESHOLD,
        novel_below=novel_below(np.concatenate([source.vectors for source in sources])),
        sources=tuple(source.name for source in sources),
        figures={"source_loss": round(float(np.mean(losses)), 4)},
        settings=config.model_dump(),
        command=command,
    )
    return Bundle(manifest, detector, prototypes(sources, config.seed), sha256="")


def _untrained(dim: int, config: EvidenceConfig, knows: SourceEvidence) -> EvidenceDetector:
    shape = EvidenceShape(
        dim=dim,
        hidden=config.hidden,
        members=config.members,
        source_templates=len(knows.vectors),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        detector = EvidenceDetector(shape)
    detector.source_weight.copy_(torch.from_numpy(knows.weight))
    detector.source_bias.fill_(knows.bias)
    detector.source_vectors.copy_(torch.from_numpy(knows.vectors))
    detector.source_alert.copy_(torch.from_numpy(knows.alert))
    return detector


def _pools(
    sources: Sequence[LabelledStream], known: Sequence[SourceTemplates], config: EvidenceConfig
) -> list[list[Lesson]]:
    """The lessons of each source: its episodes, seen with the evidence of the others."""
    rng = np.random.default_rng(config.seed)
    kinds = Kinds(config.chosen, config.one_class, config.empty, config.rounds)
    pools = []
    for number, source in enumerate(sources):
        episodes = draw_episodes(source, config.episodes, kinds, rng)
        others = [other for place, other in enumerate(known) if place != number]
        seen_with = [others]
        if config.single_sources and len(others) > 1:
            seen_with += [[other] for other in others]
        pool = []
        for some in seen_with:
            knows = source_evidence(some, config.source_penalty)
            said = knows.features(source.templates, source.vectors)
            pool += lessons(episodes, said, config.line_power)
        pools.append(pool)
    return pools


def _train_member(
    detector: EvidenceDetector,
    member: EvidenceMember,
    pools: Sequence[Sequence[Lesson]],
    config: EvidenceConfig,
    seed: int,
    progress: Callable[[int], None],
) -> float:
    """Trains one member; returns its mean loss over the last tenth of the steps."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(member.parameters(), weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=config.outer_rate, total_steps=config.outer_steps
    )
    losses = []
    # Dropout takes its chance from torch's own generator: the caller gets it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(config.outer_steps):
            drawn = [
                pool[int(rng.integers(len(pool)))]
                for pool in pools
                for _ in range(config.lessons_a_source)
            ]
            loss = torch.stack(
                [_lesson_loss(detector, member, lesson, config) for lesson in drawn]
            ).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
            progress(step + 1)
    return float(np.mean(losses[-max(config.outer_steps // 10, 1) :]))


def _lesson_loss(
    detector: EvidenceDetector, member: EvidenceMember, lesson: Lesson, config: EvidenceConfig
) -> Tensor:
    """The query's loss after the inner loop on the support."""

    def noisy(features: np.ndarray) -> Tensor:
        standard = detector.standardised(torch.from_numpy(features))
        return standard + config.noise * torch.randn_like(standard)

    adapted = inner_steps(
        member,
        dict(_named(member)),
        dict.fromkeys(dict(_named(member)), config.inner_rate),
        noisy(lesson.support),
        torch.from_numpy(lesson.support_alert.astype(np.float32)),
        steps=config.inner_steps if lesson.steps else 0,
        dropout=config.dropout,
        second_order=not config.first_order,
    )
    logits_T = functional_call(member, adapted, (noisy(lesson.query), config.dropout))
    losses_T = functional.binary_cross_entropy_with_logits(
        logits_T, torch.from_numpy(lesson.query_alert), reduction="none"
    )
    return (losses_T * torch.from_numpy(lesson.weight)).sum()


def _named(member: EvidenceMember) -> list[tuple[str, Tensor]]:
    return list(member.named_parameters())
