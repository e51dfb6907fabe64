"""What tests of the trainer share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes import FakeEncoder, one_thread
from tests.trainer.made import make_base

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crosyslog.bundle import Bundle


@pytest.fixture
def encoder() -> Iterator[FakeEncoder]:
    with one_thread():
        yield FakeEncoder()


@pytest.fixture
def tiny_base(tmp_path: Path, encoder: FakeEncoder) -> Bundle:
    """A base with random weights that was trained on nothing, and can adapt."""
    return make_base(tmp_path / "tiny-base", encoder)
