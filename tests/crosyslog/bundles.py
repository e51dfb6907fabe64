"""Small bundles of either kind, and how a test damages them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from crosyslog.bundle import load_bundle
from crosyslog.manifest import MANIFEST, SUPPORT, TEMPLATES, WEIGHTS, checksum, sha256
from crosyslog.session_bundle import load_session_bundle
from tests.fakes import tiny_bundle, tiny_session_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crosyslog.bundle import Bundle
    from crosyslog.errors import CrosyslogError
    from crosyslog.session_bundle import SessionBundle


class Kind(NamedTuple):
    """A kind of bundle.

    Attributes:
        files: what one consists of.
        make: writes a small one into a new folder.
        load: loads one.
    """

    files: tuple[str, ...]
    make: Callable[..., Bundle | SessionBundle]
    load: Callable[[Path], Bundle | SessionBundle]


KINDS = {
    "lines": Kind((MANIFEST, WEIGHTS, SUPPORT), tiny_bundle, load_bundle),
    "sessions": Kind(
        (MANIFEST, WEIGHTS, SUPPORT, TEMPLATES), tiny_session_bundle, load_session_bundle
    ),
}


def refusal(load: Callable[[Path], object], folder: Path, error: type[CrosyslogError]) -> str:
    """The one line that loading a bundle is refused in."""
    with pytest.raises(error) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest and gives it the checksum of what it then is."""
    content = json.loads((folder / MANIFEST).read_bytes())
    del content["checksum"]
    change(content)
    content["checksum"] = checksum(content)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def put(folder: Path, name: str, data: bytes) -> None:
    """Puts a file into a bundle that its manifest agrees to."""
    (folder / name).write_bytes(data)
    rewrite(folder, lambda content: content["files"].update({name: sha256(data)}))
