"""What tests of the trainer share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes import FakeEncoder
from tests.trainer.made import make_base

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
def tiny_base(tmp_path: Path, encoder: FakeEncoder) -> Bundle:
    """A base with random weights that was trained on nothing, and can adapt."""
    return make_base(tmp_path / "tiny-base", encoder)
