"""A base trained from beginning to end behind a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosyslog.threads import torch_threads
from trainer.screen import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crosyslog.bundle import Bundle
    from crosyslog.encoder import Encoder
    from trainer.evidence_training import EvidenceConfig
    from trainer.tasks import LabelledStream
    from trainer.training import TrainingConfig


def train_evidence_base(
    streams: Sequence[LabelledStream],
    *,
    name: str,
    settings: EvidenceConfig,
    encoder: Encoder,
    command: str,
) -> Bundle:
    """Trains a base of the detector `evidence`.

    Raises:
        SettingError: there is one source alone.
        LabelError: a source has no place for an episode.
    """
    from trainer.evidence_training import train_evidence

    with torch_threads(1), progress("meta-training", settings.total_steps) as moved:
        return train_evidence(
            streams,
            name=name,
            config=settings,
            encoder=encoder,
            command=command,
            progress=moved,
        )


def train_lstm_base(
    streams: Sequence[LabelledStream],
    *,
    name: str,
    settings: TrainingConfig,
    encoder: Encoder,
    command: str,
) -> Bundle:
    """Trains a base of the detector `maml_lstm`, without keeping its state on the way.

    Raises:
        LabelError: a source has no place for a task.
    """
    from trainer.training import train_base

    with torch_threads(1), progress("meta-training", settings.outer_steps) as moved:
        return train_base(
            streams,
            name=name,
            config=settings,
            encoder=encoder,
            command=command,
            progress=lambda step, _: moved(step),
        )
