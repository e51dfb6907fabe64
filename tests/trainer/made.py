"""What tests of the trainer are made of: lines with an incident, a log of them, a base to adapt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.fakes import FakeEncoder, lstm_of, tiny_bundle
from trainer.training import TrainingConfig

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle

NORMAL = [
    f"{subject} {state} for {owner}"
    for subject in ("session", "lease", "mount", "heartbeat", "query")
    for state in ("opened", "closed", "renewed", "answered")
    for owner in ("alice", "bob", "carol", "dave")
]
ALERT = ["disk failure on array", "kernel panic caught", "link lost by adapter", "fan fault seen"]


#: A training that takes a moment.
TINY_TRAINING = TrainingConfig(
    projected=4,
    hidden=3,
    support_lines=200,
    query_windows=2,
    tasks_a_source=1,
    inner_steps=1,
    outer_steps=4,
)


def make_base(folder: Path, encoder: FakeEncoder, threshold: float = 0.5) -> Bundle:
    """A base with random weights that can adapt; most of its scores are low."""
    from crosyslog.bundle import load_bundle, write_bundle

    bundle = tiny_bundle(
        folder.with_name(folder.name + "-plain"),
        encoder=encoder,
        kind="base",
        target="tiny",
        threshold=threshold,
    )
    manifest = bundle.manifest
    rates = dict.fromkeys(lstm_of(bundle).stacked(), (0.05,))
    able = manifest.model_copy(
        update={"inner_loop": manifest.inner_loop.model_copy(update={"rates": rates})}
    )
    write_bundle(folder, able, bundle.detector, bundle.support)
    return load_bundle(folder)


def messages(lines: int, seed: int = 0) -> tuple[list[str], NDArray[np.bool_]]:
    """Lines of routine with an incident, a tenth of them alerts, in every thousand."""
    rng = np.random.default_rng(seed)
    place = np.arange(lines) % 1000
    labels = (place >= 300) & (place < 600) & (rng.random(lines) < 0.4)
    texts = np.where(labels, rng.choice(ALERT, lines), rng.choice(NORMAL, lines))
    return texts.tolist(), labels


def write_log(path: Path, texts: list[str], labels: NDArray[np.bool_]) -> Path:
    """Writes lines as Spirit's."""
    path.write_text(
        "".join(
            f"{'ECC' if alert else '-'} {1104566461 + row} 2005.01.01 sn{row % 9} Jan 1 00:01:01 "
            f"sn{row % 9}/sn{row % 9} kernel[{row}]: {text}\n"
            for row, (text, alert) in enumerate(zip(texts, labels.tolist(), strict=True))
        ),
        encoding="utf-8",
    )
    return path
