"""What tests of prepared logs share: a log, and the folder that is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog import terminal
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder
from trainer import preparation
from trainer.cli import app

if TYPE_CHECKING:
    import pytest

    from trainer.preparation import Watcher
    from trainer.prepared_logs import PreparedManifest


def prepare(
    *logs: Path | str,
    output: Path = Path("made"),
    system: str = "spirit",
    encoder: FakeEncoder | None = None,
    replace: bool = False,
    watcher: Watcher | None = None,
) -> PreparedManifest:
    manifest, _ = preparation.prepare(
        [str(log) for log in logs],
        load_system(system),
        encoder=encoder or FakeEncoder(),
        cache=EmbeddingCache(),
        output=output,
        replace=replace,
        watcher=watcher,
    )
    return manifest


def content_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder; the manifest without the time that it was made at."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files["manifest.json"])
    del manifest["created"], manifest["checksum"], manifest["logs"]
    return files | {"manifest.json": json.dumps(manifest).encode()}


def command(*arguments: object) -> int:
    return terminal.run(app, [str(argument) for argument in arguments])


def refused(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that the user got wrong."""
    assert command(*arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err
