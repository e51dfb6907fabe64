"""A model of sessions whose judgement a test can foresee, and lines of HDFS for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from crosyslog.session_bundle import write_session_bundle
from crosyslog.session_contrast import Contrast
from crosyslog.session_detector import _DIRECT_SCALE
from crosyslog.session_rules import SessionRule
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder, tiny_session_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crosyslog.session_bundle import SessionBundle
    from crosyslog.store import Store
    from crosyslog.systems import System

#: The templates that the model has seen. A session is anomalous if one of its lines is the first.
BAD, HEARTBEAT, OPENED = (
    "INFO DataNode disk failure #",
    "INFO DataNode heartbeat ok #",
    "INFO DataNode session opened for user #",
)

#: How the cosine of a line's vector and that of `BAD` becomes a logit.
_STEEPNESS, _FROM = 8.0, 0.8


def block(message: str, number: int, second: int = 30) -> bytes:
    """A line of HDFS about a block."""
    return f"090214 0715{second:02d} 9 INFO dfs.DataNode: {message} blk_{number}".encode()


def telling_bundle(
    folder: Path,
    *,
    target: str = "hdfs",
    version: str = "0001",
    rule: SessionRule | None = None,
    system: System | None = None,
    templates: Sequence[str] = (BAD, HEARTBEAT, OPENED),
) -> SessionBundle:
    """Writes a bundle that flags sessions with a line like `BAD`, which gets all attention.

    Args:
        folder: must not exist; another is made beside it.
        target: the system it is for.
        version: of the bundle.
        rule: which lines make a session; by key unless given.
        system: the profile of its lines; that of HDFS unless given.
        templates: that it has seen.
    """
    encoder = FakeEncoder()
    beside = folder.with_name(folder.name + "-before")
    tiny = tiny_session_bundle(
        beside, encoder=encoder, templates=templates, target=target, version=version
    )
    vector = torch.from_numpy(encoder.encode([BAD]))
    with torch.no_grad():
        for member in tiny.detector.each():
            # The vector is as long as the root of its dimensions.
            scale = _DIRECT_SCALE * encoder.dim**0.5
            member.direct.weight.copy_(_STEEPNESS * vector / scale)
            member.query.zero_()
            member.head.weight.zero_()
            member.head.bias.fill_(-_STEEPNESS * _FROM)
    manifest = tiny.manifest.model_copy(
        update={
            "sessions": rule or SessionRule(by="key"),
            "system": system or load_system("hdfs"),
        }
    )
    bundle = replace(tiny, manifest=manifest, contrast=Contrast.nothing())
    write_session_bundle(folder, bundle)
    return bundle


def add_telling_model(
    store: Store, target: str, *, rule: SessionRule | None = None, system: System | None = None
) -> str:
    """Adds a `telling_bundle` to a store, makes it current, and returns its version."""

    def write(folder: Path, version: str) -> None:
        telling_bundle(folder, target=target, version=version, rule=rule, system=system)

    return store.add(target, write)
