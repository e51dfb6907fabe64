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
    SessionShape,
    SupportSummary,
    Threshold,
)
from crosyslog.session_rules import SessionRule
from crosyslog.systems import load_system

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    import polars as pl
    from numpy.typing import NDArray
    from torch import nn

    from crosyslog.bundle import Bundle
    from crosyslog.detector import LstmDetector
    from crosyslog.encoder import Encoder
    from crosyslog.session_bundle import SessionBundle
    from crosyslog.session_contrast import Contrast
    from crosyslog.session_detector import SessionDetector
    from crosyslog.store import Store
    from crosyslog.word_vectors import TfidfVectors, WordVectors

#: What `tiny_bundle` was adapted on unless a test says otherwise: template to "is an alert".
#: With memory, a line whose template is among these scores exactly 1 or 0.
SUPPORT: Mapping[str, bool] = {
    "kernel panic on node #": True,
    "disk failure": True,
    "session opened for user": False,
    "heartbeat ok": False,
}

#: What `tiny_session_bundle` groups unless a test says otherwise: the last two are one group.
TEMPLATES = (*SUPPORT, "session # opened for ann", "session # opened for bob")


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
    from crosyslog.bundle import load_bundle, write_bundle

    encoder = encoder or FakeEncoder()
    base = kind == "base"
    shape = DetectorShape(dim=encoder.dim, projected=6, hidden=5)
    manifest = _manifest(
        support,
        shape,
        encoder=encoder,
        target=target,
        version=version,
        base=base,
        system=system,
        memory=memory,
        threshold=threshold,
    )
    detector = _detector(shape, bias, seed)
    write_bundle(folder, manifest, detector, _support(support, encoder, base=base))
    return load_bundle(folder)


def tiny_session_bundle(
    folder: Path,
    *,
    encoder: Encoder | None = None,
    templates: Sequence[str] = TEMPLATES,
    words: WordVectors | None = None,
    target: str = "hdfs",
    version: str = "0001",
    kind: Literal["adapted", "base"] = "adapted",
    threshold: float = 0.5,
    bias: float = 0.0,
    seed: int = 0,
) -> SessionBundle:
    """Writes a whole bundle that judges sessions into a new folder, and loads it.

    Args:
        folder: must not exist.
        encoder: whose vectors it reads; a `FakeEncoder()` unless given.
        templates: that Drain groups; those of a base are not kept.
        words: where the vectors of words come from that it reads in place of the encoder's.
        target: the system it is for.
        version: of the bundle.
        kind: `adapted` or `base`.
        threshold: from which score on a session is an anomaly.
        bias: of the logit.
        seed: of the weights.
    """
    from crosyslog.drain_groups import TemplateGroups
    from crosyslog.session_bundle import SessionBundle, load_session_bundle, write_session_bundle
    from crosyslog.session_contrast import Contrast
    from crosyslog.systems.profile import DrainSettings
    from crosyslog.word_vectors import TfidfVectors

    encoder = encoder or FakeEncoder()
    base = kind == "base"
    drain = DrainSettings().model_dump()
    shape = SessionShape(
        dim=encoder.dim if words is None else words.dim,
        vectors="sentences" if words is None else "words",
        hidden=4,
        layers=1,
        members=2,
    )
    fitted = TemplateGroups.fit(templates, **drain)
    support = {text: SUPPORT.get(text, False) for text in fitted.groups}
    manifest = _manifest(
        support,
        shape,
        encoder=encoder,
        target=target,
        version=version,
        base=base,
        system="hdfs",
        memory=False,
        threshold=threshold,
    )
    groups = TemplateGroups.fit([], **drain) if base else fitted
    weighted = None if words is None else TfidfVectors.fit(groups.groups, words)
    rule = None if base else SessionRule(by="key")
    table = _support(support, weighted or encoder, base=base)
    bundle = SessionBundle(
        manifest.model_copy(update={"sessions": rule}),
        _session_detector(shape, bias, seed),
        groups,
        weighted,
        Contrast.nothing() if base else _contrast(table),
        table,
        sha256="",
    )
    write_session_bundle(folder, bundle)
    return load_session_bundle(folder, words)


def _contrast(support: pl.DataFrame) -> Contrast:
    """As if each row's sessions had the label of its kind."""
    from crosyslog.session_contrast import Contrast

    alert = support["alert"].to_numpy()
    return Contrast.between(
        support["template"].to_list(), support["vector"].to_numpy(), ~alert, alert
    )


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


def add_tiny_session_model(store: Store, target: str) -> str:
    """Adds a `tiny_session_bundle` to a store, makes it current, and returns its version."""

    def write(folder: Path, version: str) -> None:
        tiny_session_bundle(folder, target=target, version=version)

    return store.add(target, write)


def lstm_of(bundle: Bundle) -> LstmDetector:
    """The detector of a bundle that is known to be `maml_lstm`."""
    from crosyslog.detector import LstmDetector

    assert isinstance(bundle.detector, LstmDetector)
    return bundle.detector


def _manifest(
    support: Mapping[str, bool],
    shape: DetectorShape | SessionShape,
    *,
    encoder: Encoder,
    target: str,
    version: str,
    base: bool,
    system: str | None,
    memory: bool,
    threshold: float,
) -> Manifest:
    from crosyslog.bundle import now

    summary = SupportSummary(
        lines=len(support),
        alerts=sum(support.values()),
        templates=len(support),
        alert_templates=sum(support.values()),
    )
    return Manifest(
        kind="base" if base else "adapted",
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
        support=SupportSummary() if base else summary,
        sources=("bgl", "liberty"),
        base=None if base else "bgl-liberty",
        command="trainer adapt --target " + target,
    )


def _support(
    support: Mapping[str, bool], encoder: Encoder | TfidfVectors, *, base: bool
) -> pl.DataFrame:
    """Each template seen once; a base keeps their vectors alone."""
    from crosyslog.bundle import support_frame

    alert = np.fromiter(support.values(), dtype=np.bool_, count=len(support))
    counts = np.ones(len(support), dtype=np.int64)
    return support_frame(
        templates=None if base else list(support),
        alert=alert,
        lines=counts,
        alerts=counts * alert,
        source=["bgl"] * len(support) if base else None,
        vectors=encoder.encode(list(support)),
    )


def _detector(shape: DetectorShape, bias: float, seed: int) -> LstmDetector:
    from crosyslog.detector import LstmDetector

    detector = LstmDetector(shape)
    _draw(detector, bias, seed)
    return detector


def _session_detector(shape: SessionShape, bias: float, seed: int) -> SessionDetector:
    import torch

    from crosyslog.session_detector import SessionDetector

    detector = SessionDetector(shape)
    _draw(detector, bias, seed)
    with torch.no_grad():
        for member in detector.each():
            # It is multiplied: as drawn, one line would decide alone.
            member.direct.weight *= 0.02
    return detector


def _draw(detector: nn.Module, bias: float, seed: int) -> None:
    """Random weights, the recurrent part strong enough that what came before can be seen."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.8)
        for name, parameter in detector.named_parameters():
            if name.endswith("head.bias"):
                parameter.fill_(bias)


@lru_cache(maxsize=100_000)
def _direction(word: str, dim: int) -> NDArray[np.float32]:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    draw = np.random.default_rng(int.from_bytes(digest, "big"))
    return draw.standard_normal(dim, dtype=np.float32)
