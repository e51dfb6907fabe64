"""What tests of the core share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crosyslog.encoder import load_encoder

if TYPE_CHECKING:
    from crosyslog.encoder import Encoder


@pytest.fixture(scope="session")
def minilm() -> Encoder:
    """The encoder that ships: it takes ten seconds to load, so all tests share it."""
    return load_encoder(device="cpu")
