from __future__ import annotations

import asyncio
import os
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from agent.app import App, _on_signal, load_judge
from agent.settings import load_settings
from crosyslog.errors import BundleVersionError, EncoderError
from crosyslog.store import Store
from tests.fakes import FakeEncoder, add_tiny_model, add_tiny_session_model, tiny_session_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from agent.settings import Settings
    from crosyslog.encoder import Encoder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """On a store with a model, and a broker that has all topics."""

    async def prepared(_: object) -> None:
        pass

    monkeypatch.setattr("agent.app.prepare_topics", prepared)
    store = Store(tmp_path / "store")
    add_tiny_model(store, "tiny", system="plain")
    return load_settings(
        flags={
            "kafka.topic": "tiny-logs",
            "http.port": "0",
            "model.store": str(store.root),
            "model.target": "tiny",
            "encoder.cache": str(tmp_path / "cache"),
        }
    )


async def test_a_second_signal_ends_the_agent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    app = App(load_settings(flags={"kafka.topic": "spirit-logs"}))

    _on_signal(app, signal.SIGTERM)
    assert app.stopping
    assert not exits

    _on_signal(app, signal.SIGINT)
    assert exits == [128 + signal.SIGINT]


async def test_an_agent_that_is_stopped_while_it_starts_ends() -> None:
    app = App(load_settings(flags={"kafka.topic": "spirit-logs", "http.port": "0"}))
    assert app.not_started() == app.not_ready() == "starting"

    app.stop()

    await app.run()
    assert app.not_ready() == "starting"


def test_a_stop_does_not_wait_for_the_model_to_be_loaded(settings: Settings) -> None:
    begun, release = threading.Event(), threading.Event()

    def load(*_: str) -> Encoder:
        begun.set()
        release.wait(60)
        raise EncoderError("too late to be told")

    app = App(settings, load)

    async def stop_it() -> float:
        running = asyncio.create_task(app.run())
        await asyncio.to_thread(begun.wait, 30)
        app.stop()
        asked = monotonic()
        await running
        return asked

    # To the end of the loop, which waits for threads that it knows.
    asked = asyncio.run(stop_it())
    took = monotonic() - asked
    still_loading = app.loading
    release.set()

    assert took < 2
    assert still_loading


async def test_what_fails_while_the_model_is_loaded_is_raised(settings: Settings) -> None:
    def load(*_: str) -> Encoder:
        raise EncoderError("no such encoder")

    with pytest.raises(EncoderError, match="no such encoder"):
        await App(settings, load).run()


def refusal(settings: Settings) -> str:
    with pytest.raises(BundleVersionError) as caught:
        load_judge(settings, lambda *_: FakeEncoder())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_judges_sessions_is_refused_in_one_line(
    settings: Settings, tmp_path: Path
) -> None:
    add_tiny_session_model(Store(tmp_path / "store"), "tiny")
    assert refusal(settings) == (
        f"the bundle {tmp_path / 'store' / 'tiny' / '0002'} judges sessions, and lines are to be "
        "judged here: `crosyslog-agent scan FILE --model tiny` judges those of a log"
    )


def test_a_base_that_judges_sessions_is_refused_in_one_line(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    tiny_session_bundle(folder, kind="base")
    other = {"target": "other", "base": str(folder)}
    model = settings.model.model_copy(update=other)
    assert refusal(settings.model_copy(update={"model": model})) == (
        f"the bundle {folder} judges sessions, and lines are to be judged here: name another base"
    )


def test_it_says_what_it_reads_and_whether_it_is_ready(settings: Settings) -> None:
    registry = App(settings).metrics.registry
    labels = {"topic": "tiny-logs", "group": "crosyslog-tiny-logs"}
    assert registry.get_sample_value("crosyslog_agent_info", labels) == 1
    assert registry.get_sample_value("crosyslog_ready") == 0
