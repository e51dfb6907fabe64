"""docs/commands.md and docs/settings.md are what the code says now."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from pydantic import Field

import deploy.docs
from agent import settings as agent_settings
from agent.setting_parts import LogSettings
from agent.settings import PREFIX, Settings
from tests.docs.markdown import ROOT

DOCS = ROOT / "docs"


def test_the_committed_pages_are_current() -> None:
    assert deploy.docs.stale() == [], "run python -m deploy.docs"


@pytest.mark.parametrize("words", [["trainer", "adapt"], ["crosyslog-agent", "replay-dlq"]])
def test_a_help_page_is_what_a_terminal_of_80_columns_shows(words: list[str]) -> None:
    program = str(Path(sys.executable).with_name(words[0]))
    shown = subprocess.run(
        [program, *words[1:], "--help"],
        env=os.environ | {"COLUMNS": "80", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert f"`{' '.join(words)}`\n```text\n{shown.rstrip()}\n```" in page


def test_every_setting_is_there_with_its_meaning_and_its_variable() -> None:
    rows = {
        line.split("`")[1]: line
        for line in (DOCS / "settings.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    }
    named = set()
    for part, outer in Settings.model_fields.items():
        assert outer.annotation is not None
        for name, field in outer.annotation.model_fields.items():
            row = rows[f"{part}.{name}"]
            named.add(f"{part}.{name}")
            assert f"`{PREFIX}{part.upper()}__{name.upper()}`" in row
            assert field.description, f"{part}.{name} says nothing"
            assert field.description in row
    assert set(rows) == named


def test_a_new_setting_makes_the_page_old(monkeypatch: pytest.MonkeyPatch) -> None:
    class MoreLogSettings(LogSettings):
        """How the agent tells what it does."""

        colour: Annotated[str, Field(description="of what it tells")] = "green"

    class MoreSettings(Settings):
        log: MoreLogSettings = MoreLogSettings()

    for module in (deploy.docs, agent_settings):
        monkeypatch.setattr(module, "Settings", MoreSettings)
    assert deploy.docs.stale() == ["settings.md"]


def test_another_help_text_makes_the_page_old(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command()
    def agent(topic: Annotated[str, typer.Option(help="another text")]) -> None:
        """Does nothing."""

    monkeypatch.setitem(deploy.docs.PROGRAMS, "crosyslog-agent", app)
    assert deploy.docs.stale() == ["commands.md"]


def test_pages_are_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deploy.docs.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        "docs/commands.md is not current: run python -m deploy.docs",
        "docs/settings.md is not current: run python -m deploy.docs",
    ]
    assert list(tmp_path.iterdir()) == []
    # Whoever writes them, and however wide the terminal is, they are the same.
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    monkeypatch.setenv("COLUMNS", "200")
    assert deploy.docs.main([], tmp_path) == 0
    assert deploy.docs.main(["--check"], tmp_path) == 0
    for name in deploy.docs.PAGES:
        assert (tmp_path / name).read_bytes() == (DOCS / name).read_bytes()
