"""Servers for the tests of this folder."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trainer.downloading.publisher import GZIPPED, Publisher, dataset


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Publisher]]:
    """Opens servers, and closes them in the end."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    opened = []

    def serve(content: bytes = GZIPPED) -> Publisher:
        publisher = Publisher(content)
        thread = threading.Thread(target=publisher.server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        opened.append((publisher, thread))
        return publisher

    yield serve
    for publisher, thread in opened:
        publisher.released.set()
        publisher.server.shutdown()
        publisher.server.server_close()
        thread.join()


@pytest.fixture
def publisher(publish: Callable[..., Publisher]) -> Publisher:
    return publish()


@pytest.fixture
def shipped(publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Publisher:
    """A catalogue of one data set, which the command fetches into a folder of the test."""
    monkeypatch.setattr(
        "trainer.downloading.catalogue.load_datasets", lambda: {"made": dataset(publisher)}
    )
    monkeypatch.setenv("CROSYSLOG_DATA", str(tmp_path / "logs"))
    return publisher
