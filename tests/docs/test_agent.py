"""docs/agent.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from agent.app import App
from agent.reasons import REASONS
from agent.settings import load_settings
from crosyslog.embedding_cache import EmbeddingCache

PAGE = (Path(__file__).parents[2] / "docs" / "agent.md").read_text(encoding="utf-8")


async def test_every_metric_is_documented_and_no_other() -> None:
    metrics = App(load_settings(flags={"kafka.topic": "x"})).metrics
    metrics.watch_cache(EmbeddingCache())
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("crosyslog_")
    }
    documented = set(re.findall(r"`(crosyslog_\w+)[`{]", PAGE))
    assert documented == names


def test_every_reason_is_documented() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \| (?!for|events)", PAGE, re.MULTILINE)) >= set(REASONS)


def test_every_setting_that_is_named_is_one() -> None:
    settings = load_settings(flags={"kafka.topic": "x"})
    for part, name in re.findall(r"`(kafka|batch|delivery|model|http)\.([a-z_]+)[`=]", PAGE):
        assert hasattr(getattr(settings, part), name), f"{part}.{name}"
