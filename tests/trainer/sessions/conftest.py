"""What tests of sessions share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crosyslog.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with torch_threads(1):
        yield
