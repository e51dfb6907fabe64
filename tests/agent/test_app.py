from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from agent.app import App, _on_signal
from agent.settings import load_settings

if TYPE_CHECKING:
    import pytest


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
