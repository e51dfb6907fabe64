"""The base that an adaptation starts from, and what to say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosyslog.errors import SettingError, StoreError
from crosyslog.manifest import load_manifest
from crosyslog.store import DEFAULT_BASE, base_path

if TYPE_CHECKING:
    from pathlib import Path

    from crosyslog.manifest import Manifest
    from crosyslog.store import DetectorKind
    from trainer.method_choice import Method

#: What each method judges.
_JUDGES: dict[Method, str] = {"crosyslog": "lines", "metalog": "sessions"}


def starting_base(name: str | None, method: Method, detector: DetectorKind | None) -> Path:
    """The folder of a base.

    Args:
        name: a shipped one, or a folder; without one, that which ships, if there is one.
        method: what is to be judged with it.
        detector: of which kind it must be.

    Raises:
        SettingError: none is named, and none ships.
        StoreError: there is no such base, or it is one of the other method.
        BundleError: its manifest cannot be read.
    """
    if name is None and method == "metalog":
        raise SettingError(
            "no base that judges sessions ships: make one with `trainer train --method metalog "
            "--source NAME=PATH --output FOLDER` and name it with --base FOLDER, or judge lines "
            "with --method crosyslog"
        )
    name = name or DEFAULT_BASE
    folder = base_path(name, detector)
    kind = load_manifest(folder)[0].detector.kind
    other: Method = "metalog" if kind == "metalog" else "crosyslog"
    if other != method:
        raise StoreError(
            f"the base {name} judges {_JUDGES[other]}, by {kind}, and --method {method} judges "
            f"{_JUDGES[method]}: name another base, or choose --method {other}"
        )
    return folder


def known_notes(adapted: Manifest) -> list[str]:
    """What to say where the base knows the target's system already."""
    own = {adapted.target} | ({adapted.system.name} if adapted.system else set())
    known = ", ".join(sorted(own & set(adapted.sources)))
    if not known:
        return []
    said = (
        f"the base was trained on {known} itself: figures measured with it say nothing about a new "
        "system"
    )
    return [said]
