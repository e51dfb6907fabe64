"""Meta-training of a base on labelled source systems."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from crosyslog.bundle import Bundle, now
from crosyslog.detector import LstmDetector
from crosyslog.errors import LabelError, SettingError
from crosyslog.evidence import SCALE_FLOOR
from crosyslog.manifest import (
    DetectorShape,
    EncoderReference,
    InnerLoop,
    Manifest,
)
from crosyslog.windows import WINDOW
from trainer.adaptation import novel_below
from trainer.base_parts import prototypes, thresholds
from trainer.checkpoint import fingerprint, read_checkpoint, write_checkpoint
from trainer.config_files import LARGEST_SEED
from trainer.maml import Parameters, meta_loss
from trainer.tasks import LabelledStream, TaskSampler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from crosyslog.encoder import Encoder

Share = Annotated[float, Field(ge=0, le=1)]


class TrainingConfig(BaseModel):
    """The settings of meta-training; `trainer train --config` reads them as TOML.

    Attributes:
        projected: dimensions that the vectors are projected to.
        hidden: hidden dimensions of the LSTM.
        members: networks that are trained side by side, and whose logits are averaged.
        support_lines: lines of a task's support, whole windows.
        query_windows: windows of a task's query.
        tasks_a_source: tasks of each source in one outer step of a member.
        inner_steps: gradient steps on the support, through which the training goes.
        adaptation_steps: gradient steps with which the base adapts to a target. Held out in turn,
            BGL and Liberty gain nothing from 12 (.681 against .680 with the 4 of the training).
        inner_rate: their initial size; each parameter then learns its own.
        rates_rate: step size of the outer loop for the logarithms of the inner rates.
        first_order: leave out the second derivatives.
        outer_steps: steps of the outer loop.
        outer_rate: their largest size (AdamW, one cycle).
        weight_decay: of the outer loop.
        unadapted_weight: the share of the outer loss that the initial weights answer for
            without any inner step.
        seen_weight: how much a query line counts whose template the support has shown.
        repeat_power: a line counts 1 / (how often its template occurs) to this power.
        permuted: the share of tasks whose lines are shuffled.
        disguised: the share of tasks whose vectors are disguised by changed signs.
        chosen: the share of batches whose supports are templates chosen by facility location.
        asked: how many templates are chosen.
        noise: deviation of the noise added to standardised vectors.
        dropout: the share of their dimensions that is left out, at random for each template.
        seed: of all chance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    projected: PositiveInt = 48
    hidden: PositiveInt = 32
    members: Annotated[int, Field(ge=1, le=16)] = 3
    support_lines: Annotated[int, Field(ge=WINDOW, multiple_of=WINDOW)] = 1000
    query_windows: Annotated[int, Field(ge=1, le=100)] = 10
    tasks_a_source: PositiveInt = 1
    inner_steps: PositiveInt = 4
    adaptation_steps: PositiveInt = 4
    inner_rate: PositiveFloat = 0.1
    rates_rate: PositiveFloat = 3e-2
    first_order: bool = False
    outer_steps: PositiveInt = 600
    outer_rate: PositiveFloat = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    unadapted_weight: Share = 0.3
    seen_weight: Share = 0.1
    repeat_power: Share = 0.5
    permuted: Share = 0.5
    disguised: Share = 0.5
    chosen: Share = 0.0
    asked: Annotated[int, Field(ge=2, le=1000)] = WINDOW
    noise: Annotated[float, Field(ge=0)] = 0.1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0


class MetaTraining:
    """A meta-training: its weights, rates and random state, as far as it has come.

    Stopped, saved, loaded and gone on with, it ends with the same bits as in one go: all chance
    comes from two generators that belong to the state.

    Attributes:
        step: outer steps done.
    """

    def __init__(self, sources: Sequence[LabelledStream], config: TrainingConfig, dim: int) -> None:
        """Prepares a training from the start.

        Args:
            sources: the labelled source systems.
            config: the settings.
            dim: dimensions of the sources' vectors.

        Raises:
            LabelError: a source has only one class, or no place for a task.
        """
        _check_classes(sources)
        self._sources, self._config = sources, config
        self._rng = np.random.default_rng(config.seed)
        self._noise = torch.Generator().manual_seed(config.seed)
        self._sampler, mean, scale = _sampler(sources, config, self._rng)
        shape = DetectorShape(
            dim=dim,
            projected=config.projected,
            hidden=config.hidden,
            members=config.members,
        )
        # The initial weights are drawn from torch's own generator: the caller gets it back as
        # it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._detector = LstmDetector(shape)
        self._detector.mean.copy_(torch.from_numpy(mean))
        self._detector.scale.copy_(torch.from_numpy(scale))
        self._detector.eval().requires_grad_(requires_grad=False)
        self._parameters: Parameters = {
            key: value.requires_grad_() for key, value in self._detector.stacked().items()
        }
        log_rate = float(np.log(config.inner_rate))
        self._log_rates = {
            key: torch.full((config.members,), log_rate, requires_grad=True)
            for key in self._parameters
        }
        self._optimiser = torch.optim.AdamW(
            [
                {"params": list(self._parameters.values()), "weight_decay": config.weight_decay},
                {"params": list(self._log_rates.values()), "weight_decay": 0.0},
            ]
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser,
            max_lr=[config.outer_rate, config.rates_rate],
            total_steps=config.outer_steps,
        )
        self.step = 0

    @property
    def done(self) -> bool:
        """Whether all outer steps are done."""
        return self.step >= self._config.outer_steps

    def run(self, until: int, progress: Callable[[int, float], None] | None = None) -> None:
        """Trains on.

        Args:
            until: the outer step to stop after; at most the last one.
            progress: called after each outer step with its number and the members' mean loss.
        """
        while self.step < min(until, self._config.outer_steps):
            loss = self._outer_step()
            self.step += 1
            if progress is not None:
                progress(self.step, loss)

    def save(self, path: Path) -> None:
        """Writes the state into a file, whole or not at all.

        Raises:
            SettingError: it cannot be written.
        """
        optimiser = self._optimiser.state_dict()
        tensors: Parameters = {f"weight/{name}": value for name, value in self._parameters.items()}
        tensors |= {f"log_rate/{name}": value for name, value in self._log_rates.items()}
        for number, moments in optimiser["state"].items():
            tensors |= {f"adamw/{number}/{name}": value for name, value in moments.items()}
        tensors["noise"] = self._noise.get_state()
        write_checkpoint(
            path,
            tensors,
            {
                "step": self.step,
                "config": self._config.model_dump(mode="json"),
                "sources": self._fingerprint,
                "groups": optimiser["param_groups"],
                "schedule": self._schedule.state_dict(),
                "rng": self._rng.bit_generator.state,
            },
        )

    def load(self, path: Path) -> None:
        """Takes over the state that `save` wrote for the same settings and sources.

        Raises:
            SettingError: it is of other settings or sources, or damaged; then nothing is changed.
        """
        tensors, content = read_checkpoint(path)
        self._check_origin(path, content)
        with torch.no_grad():
            for name, value in self._parameters.items():
                value.copy_(tensors[f"weight/{name}"])
            for name, value in self._log_rates.items():
                value.copy_(tensors[f"log_rate/{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adamw/"):
                _, number, name = key.split("/")
                moments.setdefault(int(number), {})[name] = value
        # JSON has no tuples.
        groups = [group | {"betas": tuple(group["betas"])} for group in content["groups"]]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self._schedule.load_state_dict(content["schedule"])
        self._noise.set_state(tensors["noise"])
        self._rng.bit_generator.state = content["rng"]
        self.step = content["step"]

    def bundle(self, *, name: str, encoder: Encoder, command: str) -> Bundle:
        """The base as it is now; the training can go on as if it had not been asked.

        Args:
            name: the base's name.
            encoder: the encoder that made the sources' vectors.
            command: what was called, for the manifest.

        Returns:
            A base bundle in memory: weights, rates, thresholds and prototypes; no log text.
        """
        sources, config = self._sources, self._config
        detector = copy.deepcopy(self._detector)
        detector.load_stacked(self._parameters)
        rates = {key: rate.detach().exp() for key, rate in self._log_rates.items()}
        before = self._rng.bit_generator.state
        adapted_threshold, own_threshold, figures = thresholds(
            self._parameters,
            rates,
            self._sampler,
            steps=config.adaptation_steps,
            disguise=config.disguised > 0,
        )
        self._rng.bit_generator.state = before
        manifest = Manifest(
            kind="base",
            target=name,
            version="1",
            created=now(),
            encoder=EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
            detector=detector.shape,
            inner_loop=InnerLoop(
                steps=config.adaptation_steps,
                rates={
                    key: tuple(round(value, 8) for value in rate.tolist())
                    for key, rate in rates.items()
                },
                threshold=adapted_threshold,
                repeat_power=config.repeat_power,
            ),
            threshold=own_threshold,
            novel_below=novel_below(np.concatenate([source.vectors for source in sources])),
            sources=tuple(source.name for source in sources),
            figures=figures,
            settings=config.model_dump(),
            command=command,
        )
        return Bundle(manifest, detector, prototypes(sources, config.seed), sha256="")

    @cached_property
    def _fingerprint(self) -> list[dict[str, str]]:
        return fingerprint(self._sources)

    def _check_origin(self, path: Path, content: dict[str, Any]) -> None:
        other = f"the checkpoint {path} is of a training with other"
        own, its = self._config.model_dump(mode="json"), content["config"]
        if differing := sorted(key for key in {*own, *its} if own.get(key) != its.get(key)):
            raise SettingError(
                f"{other} settings ({', '.join(differing)}): go on with those, or start anew with "
                "--restart"
            )
        if content["sources"] != self._fingerprint:
            names = ", ".join(source["name"] for source in content["sources"])
            raise SettingError(
                f"{other} sources (it has read {names}): go on with those, or start anew with "
                "--restart"
            )

    def _outer_step(self) -> float:
        config = self._config
        tasks = self._sampler.draw(config.tasks_a_source, members=config.members)
        vectors_KTD = tasks.vectors_KTD
        shape = vectors_KTD.shape
        vectors_KTD = vectors_KTD + torch.randn(shape, generator=self._noise) * config.noise
        if config.dropout:
            kept = torch.rand(shape, generator=self._noise) >= config.dropout
            vectors_KTD = vectors_KTD * kept / (1 - config.dropout)
        loss = meta_loss(
            self._parameters,
            {key: rate.exp() for key, rate in self._log_rates.items()},
            tasks._replace(vectors_KTD=vectors_KTD),
            steps=config.inner_steps,
            first_order=config.first_order,
            unadapted_weight=config.unadapted_weight,
        )
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        self._clip_gradients()
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach()) / config.members

    def _clip_gradients(self) -> None:
        """Shortens each member's gradient to 1: one that is long must not hold back the others."""
        gradients = [
            value.grad
            for value in (*self._parameters.values(), *self._log_rates.values())
            if value.grad is not None
        ]
        squares_NM = torch.stack(
            [part.view(len(part), -1).square().sum(dim=1) for part in gradients]
        )
        factors_M = (1 / (squares_NM.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for part in gradients:
            part.mul_(factors_M.view(-1, *(1 for _ in part.shape[1:])))


def train_base(
    sources: Sequence[LabelledStream],
    *,
    name: str,
    config: TrainingConfig,
    encoder: Encoder,
    command: str,
    progress: Callable[[int, float], None] | None = None,
) -> Bundle:
    """Meta-trains a base in one go; see `MetaTraining`.

    Args:
        sources: the labelled source systems.
        name: the base's name.
        config: the settings.
        encoder: the encoder that made the sources' vectors.
        command: what was called, for the manifest.
        progress: called after each outer step with its number and the members' mean loss.

    Returns:
        A base bundle in memory: weights, rates, thresholds and prototypes; no log text.

    Raises:
        LabelError: a source has only one class, or no place for a task.
    """
    training = MetaTraining(sources, config, encoder.dim)
    training.run(config.outer_steps, progress)
    return training.bundle(name=name, encoder=encoder, command=command)


def _check_classes(sources: Sequence[LabelledStream]) -> None:
    for source in sources:
        if source.labels.all() or not source.labels.any():
            only = "alerts" if source.labels.any() else "normal lines"
            raise LabelError(
                f"the source {source.name} holds {only} alone ({len(source)} lines): a source "
                "needs both classes"
            )


def _sampler(
    sources: Sequence[LabelledStream], config: TrainingConfig, rng: np.random.Generator
) -> tuple[TaskSampler, NDArray[np.float32], NDArray[np.float32]]:
    vectors = [source.vectors.astype(np.float64) for source in sources]
    # Each source counts the same, however many templates it has.
    mean = np.mean([part.mean(axis=0) for part in vectors], axis=0)
    square = np.mean([((part - mean) ** 2).mean(axis=0) for part in vectors], axis=0)
    scale = np.maximum(np.sqrt(square), SCALE_FLOOR).astype(np.float32)
    sampler = TaskSampler(
        sources,
        mean.astype(np.float32),
        scale,
        support_lines=config.support_lines,
        query_windows=config.query_windows,
        seen_weight=config.seen_weight,
        repeat_power=config.repeat_power,
        permuted=config.permuted,
        disguised=config.disguised,
        chosen=config.chosen,
        asked=config.asked,
        rng=rng,
    )
    return sampler, mean.astype(np.float32), scale
