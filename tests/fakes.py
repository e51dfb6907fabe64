"""Small stand-ins for what is slow or large: an encoder without a network, and a tiny model."""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.manifest import (
    DetectorShape,
    EncoderReference,
    InnerLoop,
    Manifest,
    SupportSummary,
    Threshold,
)
from crosyslog.systems import load_system

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from crosyslog.detector import LstmDetector
    from crosyslog.encoder import Encoder
    from crosyslog.store import Store

#: What `tiny_bundle` was adapted on unless a test says otherwise: template to "is an alert".
#: With memory, a line whose template is among these scores exactly 1 or 0.
SUPPORT: Mapping[str, bool] = {
    "kernel panic on node #": True,
    "disk failure": True,
    "session opened for user": False,
    "heartbeat ok": False,
}


class HashVectors:
    """Unit vectors from digests of the words: texts that share words are close to each other.

    All that a cache asks of an encoder, without torch, so that a process starts quickly.

    Attributes:
        encoded: every text that was asked for, in order, so that a test can count them.
    """

    def __init__(self, name: str = "fake", dim: int = 16) -> None:
        self.name = name
        self.encoded: list[str] = []
        self._dim = dim

    @property
    def dim(self) -> int:
        return self._dim

    @cached_property
    def id(self) -> str:
        return f"fake:{self.name}:{self._dim}:fp32"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded.extend(texts)
        vectors = np.empty((len(texts), self._dim), dtype=np.float32)
        for row, text in enumerate(texts):
            words = [_direction(word, self._dim) for word in text.split()]
            whole = sum(words, start=0.3 * _direction("\n" + text, self._dim))
            vectors[row] = whole / np.linalg.norm(whole)
        return vectors.astype(np.float16).astype(np.float32)


class FakeEncoder(HashVectors):
    """`HashVectors` wherever an `Encoder` is asked for."""

    device = "cpu"


def tiny_bundle(
    folder: Path,
    *,
    encoder: Encoder | None = None,
    support: Mapping[str, bool] = SUPPORT,
    target: str = "spirit",
    version: str = "0001",
    kind: Literal["adapted", "base"] = "adapted",
    system: str | None = "spirit",
    memory: bool = True,
    threshold: float = 0.5,
    bias: float = -4.0,
    seed: int = 0,
) -> Bundle:
    """Writes a whole bundle with random weights into a new folder, and loads it.

    Args:
        folder: must not exist.
        encoder: whose vectors it reads; a `FakeEncoder()` unless given.
        support: templates with their label; a base keeps their vectors alone.
        target: the system it is for.
        version: of the bundle.
        kind: `adapted` or `base`.
        system: the name of the profile it holds; none for a base.
        memory: whether a template of the support keeps its label.
        threshold: from which score on a line is an anomaly.
        bias: of the logit: at -4 a line that the support does not know is never an anomaly, at
            +4 always, at 0 it depends on the lines before it.
        seed: of the weights.
    """
    from crosyslog.bundle import load_bundle, now, support_frame, write_bundle

    encoder = encoder or FakeEncoder()
    alert = np.fromiter(support.values(), dtype=np.bool_, count=len(support))
    counts = np.ones(len(support), dtype=np.int64)
    base = kind == "base"
    shape = DetectorShape(dim=encoder.dim, projected=6, hidden=5)
    manifest = Manifest(
        kind=kind,
        target=target,
        version=version,
        created=now(),
        system=None if base or system is None else load_system(system),
        encoder=EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
        detector=shape,
        memory=memory,
        inner_loop=InnerLoop(
            steps=3,
            rates={"head.weight": (0.05,), "head.bias": (0.05,)},
            threshold=Threshold(value=threshold, chosen="by the test"),
            repeat_power=0.5,
        ),
        threshold=Threshold(value=threshold, chosen="by the test"),
        novel_below=0.6,
        support=SupportSummary()
        if base
        else SupportSummary(
            lines=len(support),
            alerts=int(alert.sum()),
            templates=len(support),
            alert_templates=int(alert.sum()),
        ),
        sources=("bgl", "liberty"),
        base=None if base else "bgl-liberty",
        command="trainer adapt --target " + target,
    )
    vectors = encoder.encode(list(support))
    table = support_frame(
        templates=None if base else list(support),
        alert=alert,
        lines=counts,
        alerts=counts * alert,
        source=["bgl"] * len(support) if base else None,
        vectors=vectors,
    )
    write_bundle(folder, manifest, _detector(shape, bias, seed), table)
    return load_bundle(folder)


def add_tiny_model(
    store: Store,
    target: str,
    *,
    encoder: Encoder | None = None,
    support: Mapping[str, bool] = SUPPORT,
    system: str | None = "spirit",
    memory: bool = True,
    threshold: float = 0.5,
    bias: float = -4.0,
    seed: int = 0,
) -> str:
    """Adds a `tiny_bundle` to a store, makes it current, and returns its version."""

    def write(folder: Path, version: str) -> None:
        tiny_bundle(
            folder,
            encoder=encoder,
            support=support,
            target=target,
            version=version,
            system=system,
            memory=memory,
            threshold=threshold,
            bias=bias,
            seed=seed,
        )

    return store.add(target, write)


def lstm_of(bundle: Bundle) -> LstmDetector:
    """The detector of a bundle that is known to be `maml_lstm`."""
    from crosyslog.detector import LstmDetector

    assert isinstance(bundle.detector, LstmDetector)
    return bundle.detector


def _detector(shape: DetectorShape, bias: float, seed: int) -> LstmDetector:
    """Random weights, the recurrent part strong enough that what came before can be seen."""
    import torch

    from crosyslog.detector import LstmDetector

    detector = LstmDetector(shape)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.8)
        for name, parameter in detector.named_parameters():
            if name.endswith("head.bias"):
                parameter.fill_(bias)
    return detector


@lru_cache(maxsize=100_000)
def _direction(word: str, dim: int) -> NDArray[np.float32]:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    draw = np.random.default_rng(int.from_bytes(digest, "big"))
    return draw.standard_normal(dim, dtype=np.float32)
