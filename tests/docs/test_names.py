"""Settings, metrics, variables and modules that pages name exist."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from agent.app import App
from agent.settings import PREFIX, Settings, load_settings
from crosyslog.embedding_cache import EmbeddingCache
from tests.docs.markdown import ROOT, written_pages

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import Metric

SETTINGS = {
    f"{part}.{name}"
    for part, field in Settings.model_fields.items()
    for name in getattr(field.annotation, "model_fields", {})
}

#: Variables that are no settings of the agent.
OTHERS = {"CROSYSLOG_DATA", "CROSYSLOG_TEST_KAFKA", "CROSYSLOG_DEMO_STARTED"}

every_page = pytest.mark.parametrize(
    "page", written_pages(), ids=lambda page: str(page.relative_to(ROOT))
)


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """The names of all metrics, as a query can write them."""

    async def collected() -> list[Metric]:
        metrics = App(load_settings(flags={"kafka.topic": "x"})).metrics
        metrics.watch_cache(EmbeddingCache())
        return list(metrics.registry.collect())

    ends = {"counter": ("_total",), "histogram": ("", "_bucket", "_sum", "_count")}
    return {
        family.name + end
        for family in asyncio.run(collected())
        for end in ends.get(family.type, ("",))
    }


def variables() -> set[str]:
    named = {f"{PREFIX}{name.replace('.', '__')}".upper() for name in SETTINGS}
    return named | {f"{name}_FILE" for name in named} | OTHERS


@every_page
def test_settings_that_a_page_names_exist(page: Path) -> None:
    parts = "|".join(Settings.model_fields)
    named = re.findall(rf"`(?:--set )?((?:{parts})\.[a-z_]+)[`=]", page.read_text())
    # `log.level` and the like of shippers are fields of their JSON.
    fields = {"log.logger", "log.level"} if page.name == "systems.md" else set()
    assert set(named) - SETTINGS - fields == set()


@every_page
def test_variables_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"\bCROSYSLOG_[A-Z_]+\b", page.read_text())
    assert set(named) - variables() == set()


@every_page
def test_metrics_that_a_page_names_exist(page: Path, metrics: set[str]) -> None:
    # A name between colons is that of a recording rule.
    named = re.findall(r"(?<!:)\bcrosyslog_[a-z_]+\b(?!:)", page.read_text())
    assert set(named) - metrics == set()


def test_modules_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:agent|crosyslog|trainer)/[a-z_/]*(?:\.py)?)`", page)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_architecture_has_a_diagram() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page.count("```mermaid") == 1
