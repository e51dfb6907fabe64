"""Meta-training of a base on labelled source systems."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from crosyslog.bundle import Bundle, now, support_frame
from crosyslog.detector import LstmDetector, detector_logits
from crosyslog.errors import LabelError, SettingError
from crosyslog.manifest import (
    DetectorShape,
    EncoderReference,
    InnerLoop,
    Manifest,
    Threshold,
)
from crosyslog.windows import WINDOW
from trainer.adaptation import novel_below
from trainer.maml import Parameters, adapt_parameters, meta_loss
from trainer.tasks import LabelledStream, TaskSampler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.encoder import Encoder

Share = Annotated[float, Field(ge=0, le=1)]

#: Some MiniLM dimensions hardly vary; dividing by less than this would blow up noise.
_SCALE_FLOOR = 0.02

#: Prototypes of one label of one source: they explain a base's events.
_PROTOTYPES = 64

#: Tasks a source that the thresholds are chosen on.
_THRESHOLD_TASKS = 24


class TrainingConfig(BaseModel):
    """The settings of meta-training; `trainer train --config` reads them as TOML.

    Attributes:
        projected: dimensions that the vectors are projected to.
        hidden: hidden dimensions of the LSTM.
        support_lines: lines of a task's support, whole windows.
        query_windows: windows of a task's query.
        tasks_a_source: tasks of each source in one outer step.
        inner_steps: gradient steps on the support.
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
        noise: deviation of the noise added to standardised vectors.
        seed: of all chance.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    projected: PositiveInt = 48
    hidden: PositiveInt = 32
    support_lines: Annotated[int, Field(ge=WINDOW, multiple_of=WINDOW)] = 1000
    query_windows: Annotated[int, Field(ge=1, le=100)] = 10
    tasks_a_source: PositiveInt = 2
    inner_steps: PositiveInt = 4
    inner_rate: PositiveFloat = 0.1
    rates_rate: PositiveFloat = 3e-2
    first_order: bool = False
    outer_steps: PositiveInt = 400
    outer_rate: PositiveFloat = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    unadapted_weight: Share = 0.3
    seen_weight: Share = 0.1
    repeat_power: Share = 0.5
    permuted: Share = 0.5
    disguised: Share = 0.5
    noise: Annotated[float, Field(ge=0)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0


def read_config(path: Path) -> TrainingConfig:
    """Reads settings from a TOML file.

    Raises:
        SettingError: the file cannot be read, or a setting is unknown or impossible.
    """
    try:
        return TrainingConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingError(f"cannot read the settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the settings {path} are not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        given = f"={first['input']!r}" if first["type"] != "extra_forbidden" else ""
        known = ", ".join(sorted(TrainingConfig.model_fields))
        hint = f" (there are {known})" if first["type"] == "extra_forbidden" else ""
        raise SettingError(f"the settings {path}: {name}{given}: {first['msg']}{hint}") from error


def train_base(
    sources: Sequence[LabelledStream],
    *,
    name: str,
    config: TrainingConfig,
    encoder: Encoder,
    command: str,
    progress: Callable[[int, float], None] | None = None,
) -> Bundle:
    """Meta-trains a base.

    Args:
        sources: the labelled source systems.
        name: the base's name.
        config: the settings.
        encoder: the encoder that made the sources' vectors.
        command: what was called, for the manifest.
        progress: called after each outer step with its number and loss.

    Returns:
        A base bundle in memory: weights, rates, thresholds and prototypes; no log text.

    Raises:
        LabelError: a source has only one class, or no place for a task.
    """
    for source in sources:
        if source.labels.all() or not source.labels.any():
            only = "alerts" if source.labels.any() else "normal lines"
            raise LabelError(
                f"the source {source.name} holds {only} alone ({len(source)} lines): a source "
                "needs both classes"
            )
    torch.manual_seed(config.seed)
    sampler, mean, scale = _sampler(sources, config)
    shape = DetectorShape(dim=encoder.dim, projected=config.projected, hidden=config.hidden)
    detector = LstmDetector(shape)
    detector.mean.copy_(torch.from_numpy(mean))
    detector.scale.copy_(torch.from_numpy(scale))
    parameters, rates = _outer_loop(detector, sampler, config, progress)
    detector.load_state_dict({**detector.state_dict(), **parameters})
    adapted_threshold, own_threshold, figures = _thresholds(parameters, rates, sampler, config)
    manifest = Manifest(
        kind="base",
        target=name,
        version="1",
        created=now(),
        encoder=EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
        detector=shape,
        inner_loop=InnerLoop(
            steps=config.inner_steps,
            rates={key: round(float(rate), 8) for key, rate in rates.items()},
            threshold=adapted_threshold,
        ),
        threshold=own_threshold,
        novel_below=novel_below(np.concatenate([source.vectors for source in sources])),
        sources=tuple(source.name for source in sources),
        figures=figures,
        settings=config.model_dump(),
        command=command,
    )
    detector.eval().requires_grad_(requires_grad=False)
    return Bundle(manifest, detector, _prototypes(sources, config.seed), sha256="")


def _sampler(
    sources: Sequence[LabelledStream], config: TrainingConfig
) -> tuple[TaskSampler, NDArray[np.float32], NDArray[np.float32]]:
    vectors = [source.vectors.astype(np.float64) for source in sources]
    # Each source counts the same, however many templates it has.
    mean = np.mean([part.mean(axis=0) for part in vectors], axis=0)
    square = np.mean([((part - mean) ** 2).mean(axis=0) for part in vectors], axis=0)
    scale = np.maximum(np.sqrt(square), _SCALE_FLOOR).astype(np.float32)
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
        rng=np.random.default_rng(config.seed),
    )
    return sampler, mean.astype(np.float32), scale


def _outer_loop(
    detector: LstmDetector,
    sampler: TaskSampler,
    config: TrainingConfig,
    progress: Callable[[int, float], None] | None,
) -> tuple[Parameters, Parameters]:
    parameters = dict(detector.named_parameters())
    log_rates = {
        key: torch.full((), float(np.log(config.inner_rate)), requires_grad=True)
        for key in parameters
    }
    optimiser = torch.optim.AdamW(
        [
            {"params": list(parameters.values()), "weight_decay": config.weight_decay},
            {"params": list(log_rates.values()), "weight_decay": 0.0},
        ]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=[config.outer_rate, config.rates_rate], total_steps=config.outer_steps
    )
    noise = torch.Generator().manual_seed(config.seed)
    for step in range(1, config.outer_steps + 1):
        tasks = sampler.draw(config.tasks_a_source)
        jitter = torch.randn(tasks.vectors_KTD.shape, generator=noise) * config.noise
        loss = meta_loss(
            parameters,
            {key: rate.exp() for key, rate in log_rates.items()},
            tasks._replace(vectors_KTD=tasks.vectors_KTD + jitter),
            steps=config.inner_steps,
            first_order=config.first_order,
            unadapted_weight=config.unadapted_weight,
        )
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([*parameters.values(), *log_rates.values()], 1.0)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step, float(loss.detach()))
    return (
        {key: value.detach() for key, value in parameters.items()},
        {key: rate.detach().exp() for key, rate in log_rates.items()},
    )


def _thresholds(
    parameters: Parameters, rates: Parameters, sampler: TaskSampler, config: TrainingConfig
) -> tuple[Threshold, Threshold, dict[str, float]]:
    """The thresholds with the best F1 on tasks of the sources, after the inner loop and without.

    After the inner loop, disguised tasks stand for a system that the weights have never seen.
    """
    found = []
    for steps, disguised in ((config.inner_steps, float(config.disguised > 0)), (0, 0.0)):
        tasks = sampler.draw(_THRESHOLD_TASKS, disguised)
        adapted = adapt_parameters(parameters, rates, tasks.vectors_KTD, tasks.support, steps=steps)
        with torch.no_grad():
            logits = detector_logits(adapted, tasks.vectors_KTD, tasks.query.rows_KBL)
        found.append(
            _best_threshold(
                logits.sigmoid().numpy(),
                tasks.query.labels_KBL.numpy() > 0,
                tasks.query.weights_KBL.numpy(),
            )
        )
    (after, after_f1), (before, before_f1) = found
    how = f"best F1 on {_THRESHOLD_TASKS} tasks of each source"
    return (
        Threshold(value=after, chosen=f"{how}, after the inner loop"),
        Threshold(value=before, chosen=f"{how}, without inner steps"),
        {"source_f1_adapted": after_f1, "source_f1_unadapted": before_f1},
    )


def _best_threshold(
    scores: NDArray[np.float32], labels: NDArray[np.bool_], weights: NDArray[np.float32]
) -> tuple[float, float]:
    """The threshold with the best weighted F1, and that F1."""
    candidates = np.linspace(0.05, 0.95, 91)
    values = []
    for candidate in candidates:
        flagged = scores >= candidate
        hit = weights[flagged & labels].sum()
        wrong = weights[flagged != labels].sum()
        values.append(2 * hit / max(2 * hit + wrong, 1e-12))
    best = int(np.argmax(values))
    return round(float(candidates[best]), 4), round(float(values[best]), 4)


def _prototypes(sources: Sequence[LabelledStream], seed: int) -> pl.DataFrame:
    """Means of groups of like templates, by source and label: they explain, and hold no text."""
    from sklearn.cluster import KMeans

    rows: dict[str, list[Any]] = {"alert": [], "lines": [], "alerts": [], "source": []}
    vectors = []
    for source in sources:
        lines = np.bincount(source.rows, minlength=len(source.templates))
        alerts = np.bincount(source.rows, weights=source.labels, minlength=len(lines))
        alert = 2 * alerts >= lines
        for label in (False, True):
            members = np.flatnonzero(alert == label)
            distinct = len(np.unique(source.vectors[members], axis=0))
            groups = min(_PROTOTYPES, distinct)
            fit = KMeans(groups, n_init=1, random_state=seed).fit(source.vectors[members])
            for group in range(groups):
                inside = members[fit.labels_ == group]
                centre = source.vectors[inside].mean(axis=0)
                vectors.append(centre / max(float(np.linalg.norm(centre)), 1e-6))
                rows["alert"].append(label)
                rows["lines"].append(int(lines[inside].sum()))
                rows["alerts"].append(int(alerts[inside].sum()))
                rows["source"].append(source.name)
    return support_frame(
        templates=None,
        alert=np.array(rows["alert"]),
        lines=np.array(rows["lines"]),
        alerts=np.array(rows["alerts"]),
        source=rows["source"],
        vectors=np.array(vectors, dtype=np.float16).astype(np.float32),
    )
