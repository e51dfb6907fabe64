"""What tests of the trainer share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes import FakeEncoder
from tests.trainer.made import make_base, messages, write_log
from trainer import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crosyslog.bundle import Bundle
from crosyslog.threads import torch_threads


@pytest.fixture
def encoder() -> Iterator[FakeEncoder]:
    with torch_threads(1):
        yield FakeEncoder()


@pytest.fixture
def short_queries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A query of 400 lines, so that a tiny stream has room for tasks; and one thread for them."""
    monkeypatch.setattr(tasks, "QUERY_LINES", 400)
    monkeypatch.setattr(tasks.positions, "__defaults__", (400,))
    with torch_threads(1):
        yield


@pytest.fixture
def tiny_base(tmp_path: Path, encoder: FakeEncoder) -> Bundle:
    """A base with random weights that was trained on nothing, and can adapt."""
    return make_base(tmp_path / "tiny-base", encoder)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: FakeEncoder) -> Path:
    """A folder of its own for everything, and the quick encoder wherever one is loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSYSLOG_MODEL__STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CROSYSLOG_ENCODER__CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("crosyslog.encoder.load_encoder", lambda *_, **__: encoder)
    return tmp_path


@pytest.fixture
def log(here: Path) -> Path:
    """A log of Spirit of 2,000 lines."""
    return write_log(here / "spirit.log", *messages(2_000))
