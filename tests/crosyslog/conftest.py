"""Stores by URL, as several machines see them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from crosyslog.remote_store import RemoteStore
from crosyslog.store import open_store
from tests.cloud import URL, connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cloud import Network

    Machine = Callable[[str], RemoteStore]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Network:
    return connect(monkeypatch)


@pytest.fixture(params=["file", "memory", "cloud"])
def url(request: pytest.FixtureRequest, tmp_path: Path, cloud: Network) -> str:
    """Where a store is, on each file system there is to test on."""
    assert cloud.buckets
    places = {"file": (tmp_path / "shared").as_uri(), "memory": f"memory://{uuid4().hex}"}
    return places.get(request.param, URL)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A store as another machine sees it: with a mirror of its own."""
    count = iter(range(100))

    def opened(url: str) -> RemoteStore:
        store = open_store(url, tmp_path / f"cache-{next(count)}")
        assert isinstance(store, RemoteStore)
        return store

    return opened
