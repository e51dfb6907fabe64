"""Another version of the model while the agent runs, without Kafka."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.app import load_judge
from agent.metrics import Metrics
from agent.reloading import Reloading
from agent.settings import Settings, load_settings
from crosyslog.store import Store
from tests.fakes import FakeEncoder, add_tiny_model, add_tiny_session_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.judging import Judge


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def settings(store: Store, tmp_path: Path) -> Settings:
    return load_settings(
        flags={
            "model.target": "tiny",
            "model.store": str(store.root),
            "model.reload_interval": "10ms",
            "encoder.cache": str(tmp_path / "cache"),
        }
    )


class Taker:
    """Takes judges, and remembers them."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bool]] = []
        self.judges: list[Judge] = []

    async def __call__(self, judge: Judge, again: bool) -> None:
        self.taken.append((judge.model.bundle.manifest.version, again))
        self.judges.append(judge)


async def run_until(reloading: Reloading, taker: Taker, holds: Callable[[], bool]) -> None:
    task = asyncio.create_task(reloading.run(taker))
    try:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    finally:
        task.cancel()


def value(metrics: Metrics, result: str) -> float:
    labels = {"result": result}
    return metrics.registry.get_sample_value("crosyslog_model_reloads_total", labels) or 0.0


async def test_a_new_version_is_taken_and_a_broken_one_is_refused(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add_tiny_model(store, "tiny", system="plain")
    metrics, taker = Metrics(), Taker()
    loaded = load_judge(settings, lambda *_: FakeEncoder())
    reloading = Reloading(settings, *loaded, metrics)

    add_tiny_model(store, "tiny", system="plain")
    await run_until(reloading, taker, lambda: value(metrics, "taken") == 1)
    assert taker.taken == [("0002", False)]
    labels = {"target": "tiny", "version": "0002", "adapted": "true"}
    assert metrics.registry.get_sample_value("crosyslog_model_info", labels) == 1

    add_tiny_model(store, "tiny", system="plain")
    weights = store.path("tiny", "0003") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    reloading = Reloading(settings, *loaded, metrics)
    reloading._seen = "0002"
    await run_until(reloading, taker, lambda: value(metrics, "refused") == 1)
    assert len(taker.taken) == 1
    assert "model tiny/0003 is refused, the old one stays in use" in caplog.text
    # Back to an older version is a change like any other.
    store.use("tiny", "0001")
    await run_until(reloading, taker, lambda: value(metrics, "taken") == 2)
    assert taker.taken[-1] == ("0001", False)
    loaded.cache.close()


async def test_a_model_that_reads_lines_otherwise_has_windows_read_again(
    settings: Settings, store: Store
) -> None:
    add_tiny_model(store, "tiny", system="plain")
    metrics, taker = Metrics(), Taker()
    loaded = load_judge(settings, lambda *_: FakeEncoder())
    reloading = Reloading(settings, *loaded, metrics)
    add_tiny_model(store, "tiny", system="spirit")
    await run_until(reloading, taker, lambda: bool(taker.taken))
    assert taker.taken == [("0002", True)]
    loaded.cache.close()


async def test_a_model_that_was_made_with_another_encoder_is_refused(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add_tiny_model(store, "tiny", system="plain")
    metrics, taker = Metrics(), Taker()
    loaded = load_judge(settings, lambda *_: FakeEncoder())
    reloading = Reloading(settings, *loaded, metrics)
    add_tiny_model(store, "tiny", system="plain", encoder=FakeEncoder("other"))
    await run_until(reloading, taker, lambda: value(metrics, "refused") == 1)
    assert "was made with the encoder" in caplog.text
    assert not taker.taken
    loaded.cache.close()


async def test_a_model_that_judges_sessions_is_refused_and_the_old_one_stays(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    add_tiny_model(store, "tiny", system="plain")
    metrics, taker = Metrics(), Taker()
    loaded = load_judge(settings, lambda *_: FakeEncoder())
    reloading = Reloading(settings, *loaded, metrics)
    add_tiny_session_model(store, "tiny")
    await run_until(reloading, taker, lambda: value(metrics, "refused") == 1)
    assert (
        "model tiny/0002 is refused, the old one stays in use: the bundle "
        f"{store.path('tiny', '0002')} judges sessions, and lines are to be judged here: "
        "`crosyslog-agent scan FILE --model tiny` judges those of a log"
    ) in caplog.text
    assert not taker.taken
    # It is not tried again, and the next one that judges lines is taken.
    add_tiny_model(store, "tiny", system="plain")
    await run_until(reloading, taker, lambda: bool(taker.taken))
    assert taker.taken == [("0003", False)]
    assert value(metrics, "refused") == 1
    loaded.cache.close()
