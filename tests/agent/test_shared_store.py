"""The agent on a store by URL: what it does while the store is away, without Kafka."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.app import App, describe_model, load_judge
from agent.metrics import Metrics
from agent.reloading import Reloading
from agent.settings import Settings, describe_settings, load_settings
from crosyslog.errors import SettingError, StoreAwayError
from crosyslog.store import find_model, open_store
from tests.cloud import URL, connect
from tests.fakes import FakeEncoder, add_tiny_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.app import Loaded
    from agent.judging import Judge
    from crosyslog.store import Store
    from tests.cloud import Network


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Network:
    return connect(monkeypatch)


@pytest.fixture
def settings(cloud: Network, tmp_path: Path) -> Settings:
    assert cloud.buckets
    return load_settings(
        flags={
            "kafka.topic": "tiny-logs",
            "http.port": "0",
            "model.store": URL,
            "model.reload_interval": "10ms",
            "encoder.cache": str(tmp_path / "cache"),
        }
    )


@pytest.fixture
def trainer(cloud: Network, tmp_path: Path) -> Store:
    """The store as an operator's machine has it."""
    assert cloud.buckets
    return open_store(URL, tmp_path / "operator")


@pytest.fixture
async def loaded(settings: Settings, trainer: Store) -> AsyncIterator[Loaded]:
    add_tiny_model(trainer, "tiny", system="plain")
    loaded = load_judge(settings, lambda *_: FakeEncoder())
    yield loaded
    loaded.cache.close()


async def taken(
    reloading: Reloading, holds: Callable[[list[str]], bool], meanwhile: Callable[[], None]
) -> list[str]:
    """The versions that were put to work until a condition holds."""
    versions: list[str] = []

    async def take(judge: Judge, _: bool) -> None:
        versions.append(judge.model.bundle.manifest.version)

    task = asyncio.create_task(reloading.run(take))
    try:
        async with asyncio.timeout(30):
            await asyncio.sleep(0.05)
            meanwhile()
            while not holds(versions):
                assert not task.done()
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
    return versions


async def test_a_version_that_comes_into_use_elsewhere_is_taken(
    settings: Settings, trainer: Store, loaded: Loaded
) -> None:
    reloading = Reloading(settings, *loaded, Metrics())
    assert await taken(reloading, lambda _: True, lambda: None) == []

    def add() -> None:
        add_tiny_model(trainer, "tiny", system="plain")

    assert await taken(reloading, bool, add) == ["0002"]


async def test_while_the_store_is_away_the_model_stays_and_it_is_said_once(
    settings: Settings,
    trainer: Store,
    loaded: Loaded,
    cloud: Network,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    reloading = Reloading(settings, *loaded, metrics)
    add_tiny_model(trainer, "tiny", system="plain")
    cloud.cut()

    def errors() -> float:
        labels = {"stage": "reload", "error_type": "StoreAwayError"}
        return metrics.registry.get_sample_value("crosyslog_errors_total", labels) or 0.0

    assert await taken(reloading, lambda _: errors() >= 3, lambda: None) == []
    assert (
        caplog.text.count("no other model can be taken, this one stays in use: cannot reach") == 1
    )
    again = "the store can be read again"
    assert await taken(reloading, lambda _: again in caplog.text, cloud.mend) == ["0002"]
    assert caplog.text.count(again) == 1
    refused = {"result": "refused"}
    assert metrics.registry.get_sample_value("crosyslog_model_reloads_total", refused) in {
        None,
        0.0,
    }


async def test_a_topic_that_no_model_can_be_called_by_is_no_fault_of_the_store(
    settings: Settings, loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    model = settings.model.model_copy(update={"target": "_tiny"})
    reloading = Reloading(settings.model_copy(update={"model": model}), *loaded, Metrics())
    turns = iter(range(20))
    assert await taken(reloading, lambda _: next(turns) == 19, lambda: None) == []
    assert not caplog.records


async def test_a_store_that_goes_away_while_a_bundle_is_fetched_is_tried_again(
    settings: Settings, trainer: Store, loaded: Loaded, cloud: Network
) -> None:
    metrics = Metrics()
    reloading = Reloading(settings, *loaded, metrics)
    add_tiny_model(trainer, "tiny", system="plain")
    reads = cloud.calls.count("cat_file")

    def cut(name: str) -> None:
        # The switch is read, and the manifest; the rest is not.
        if name == "cat_file" and cloud.calls.count("cat_file") == reads + 3:
            cloud.cut()

    cloud.called = cut

    def has_failed(_: list[str]) -> bool:
        labels = {"stage": "reload", "error_type": "StoreAwayError"}
        return bool(metrics.registry.get_sample_value("crosyslog_errors_total", labels))

    assert await taken(reloading, has_failed, lambda: None) == []
    assert await taken(reloading, bool, cloud.mend) == ["0002"]


async def test_a_torn_upload_is_refused_and_the_old_model_stays(
    settings: Settings, trainer: Store, loaded: Loaded, cloud: Network
) -> None:
    from crosyslog.remote_objects import RemoteObjects

    metrics = Metrics()
    reloading = Reloading(settings, *loaded, metrics)
    add_tiny_model(trainer, "tiny", system="plain")
    RemoteObjects(URL).write("tiny/0002/weights.safetensors", b"torn")
    assert cloud.fault is None

    def refused(_: list[str]) -> bool:
        labels = {"result": "refused"}
        found = metrics.registry.get_sample_value("crosyslog_model_reloads_total", labels)
        return found == 1

    assert await taken(reloading, refused, lambda: None) == []


async def test_the_event_loop_does_not_wait_for_a_store_that_does_not_answer(
    settings: Settings, trainer: Store, loaded: Loaded, cloud: Network
) -> None:
    reloading = Reloading(settings, *loaded, Metrics())
    cloud.answering.clear()
    calls = len(cloud.calls)
    turns = 0

    def turn(_: list[str]) -> bool:
        nonlocal turns
        turns += 1
        return turns == 50

    assert await taken(reloading, turn, lambda: None) == []
    assert len(cloud.calls) == calls + 1  # one that waits, and no more behind it
    cloud.answering.set()
    assert trainer.current("tiny") == "0001"


def test_a_program_ends_beside_a_store_that_does_not_answer() -> None:
    program = (
        "import asyncio, threading\n"
        "from agent.reloading import _apart\n"
        "async def main():\n"
        "    await asyncio.wait_for(_apart(threading.Event().wait), 0.1)\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except TimeoutError:\n"
        "    print('ended')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout == "ended\n"


def test_an_agent_without_a_model_of_its_own_names_the_others(
    settings: Settings, trainer: Store
) -> None:
    add_tiny_model(trainer, "other")
    model = find_model(open_store(URL, settings.encoder.cache), settings.target)
    assert "no model for 'tiny' (there are models for other)" in describe_model(model, settings)


def test_a_start_while_the_store_is_away_takes_the_version_that_was_in_use(
    settings: Settings, trainer: Store, cloud: Network
) -> None:
    add_tiny_model(trainer, "tiny", system="plain")
    load_judge(settings, lambda *_: FakeEncoder()).cache.close()
    cloud.cut()
    again = load_judge(settings, lambda *_: FakeEncoder())
    again.cache.close()
    told = describe_model(again.judge.model, settings)
    assert told.startswith(
        "model tiny/0001, lines read as plain; it was in use when the store was seen last ("
    )
    assert "cannot reach the store cloud://bucket/models" in told


def test_a_start_while_the_store_is_away_and_was_never_seen_is_refused(
    settings: Settings, trainer: Store, cloud: Network
) -> None:
    add_tiny_model(trainer, "tiny", system="plain")
    cloud.cut()
    with pytest.raises(StoreAwayError, match="cannot reach the store cloud://bucket/models"):
        load_judge(settings, lambda *_: FakeEncoder())


async def test_an_agent_says_loudly_that_it_starts_on_what_was_in_use(
    settings: Settings,
    trainer: Store,
    cloud: Network,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def prepared(_: object) -> None:
        pass

    monkeypatch.setattr("agent.app.prepare_topics", prepared)
    add_tiny_model(trainer, "tiny", system="plain")
    load_judge(settings, lambda *_: FakeEncoder()).cache.close()
    cloud.cut()
    app = App(settings, lambda *_: FakeEncoder())
    loaded, _ = await app._start()
    loaded.cache.close()
    await app.http.stop()
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "it was in use when the store was seen last" in said.message


@pytest.mark.parametrize(
    ("given", "shown"),
    [("s3://bucket/models/", "s3://bucket/models"), ("models", "models"), ("/a", "/a")],
)
def test_a_folder_or_a_url(
    given: str, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f"[model]\nstore = '{given}'\n")
    monkeypatch.setenv("CROSYSLOG_MODEL__STORE", given)
    kind = str if "://" in given else Path
    for settings in (
        load_settings(),
        load_settings(assignments=[f"model.store={given}"]),
        load_settings(config),
    ):
        assert type(settings.model.store) is type(kind(shown))
        described = {one.name: one.value for one in describe_settings(settings)}
        assert described["model.store"] == shown


@pytest.mark.parametrize("url", ["s3://key:hush@bucket/x", "s3://bucket/x?hush", "ftp://a/b"])
def test_a_url_where_no_store_can_be_is_refused_and_shows_no_secret(url: str) -> None:
    with pytest.raises(SettingError, match=r"model\.store: ") as caught:
        load_settings(assignments=[f"model.store={url}"])
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
