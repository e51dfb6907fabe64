"""What the chart holds of the rest of the project is current; needs no helm."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from agent.settings import Settings, describe_settings
from deploy.helm import chart_files
from deploy.helm.__main__ import main
from deploy.helm.chart_files import CHART, differences, write
from deploy.helm.value_schema import ELSEWHERE

ROOT = Path(__file__).parents[2]


def schema() -> dict[str, Any]:
    return dict(json.loads((CHART / "values.schema.json").read_text()))


def with_settings(**settings: dict[str, Any]) -> dict[str, Any]:
    kafka = {"bootstrap_servers": "kafka:9092", "topic": "web-logs"} | settings.pop("kafka", {})
    return {"settings": {"kafka": kafka, **settings}}


def test_the_copies_and_the_schema_are_current() -> None:
    assert differences() == [], "run `python -m deploy.helm`"


def test_a_copy_that_is_changed_missing_or_left_over_is_found_and_mended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    monkeypatch.setattr(chart_files, "CHART", chart)
    (chart / "files" / "rules.yml").write_text("groups: []\n")
    (chart / "values.schema.json").unlink()
    (chart / "files" / "dashboards" / "old.json").write_text("{}")
    assert differences() == ["files/dashboards/old.json", "files/rules.yml", "values.schema.json"]
    assert main(["--check"]) == 1
    assert "run `python -m deploy.helm`" in capsys.readouterr().out
    assert main([]) == 0
    assert main(["--check"]) == 0
    write()
    assert differences() == []


def test_every_setting_can_be_given_in_one_place() -> None:
    parts = schema()["properties"]["settings"]["properties"]
    given = {f"{part}.{name}" for part, one in parts.items() for name in one["properties"]}
    known = {one.name for one in describe_settings(Settings())}
    assert known >= ELSEWHERE
    assert given == known - ELSEWHERE


@pytest.mark.parametrize(
    "values",
    [
        with_settings(batch={"linger": "100ms", "max_lines": 5}),
        with_settings(batch={"linger": 0.5}),
        with_settings(kafka={"start_from": "earliest"}),
        with_settings(kafka={"start_from": "2026-01-31T12:00:00Z"}),
        with_settings(kafka={"start_from": "2026-01-31 12:00:00.5+01:00"}),
        with_settings(kafka={"session_timeout": "0.5 m"}),
        with_settings(model={"threshold": 0.5}, encoder={"precision": "int8"}),
    ],
)
def test_possible_settings_are_taken(values: dict[str, Any]) -> None:
    Draft7Validator.check_schema(schema())
    assert [one.message for one in Draft7Validator(schema()).iter_errors(values)] == []


@pytest.mark.parametrize(
    "values",
    [
        with_settings(batch={"max_lines": "many"}),
        with_settings(batch={"max_lines": 0}),
        with_settings(batch={"linger": -1}),
        with_settings(batch={"linger": "soon"}),
        with_settings(kafka={"start_from": "tomorrow"}),
        with_settings(model={"threshold": 1.5}),
        with_settings(encoder={"precision": "fp64"}),
        with_settings(kafka={"topic": "a topic"}),
        with_settings(nonesuch={"x": 1}),
        {"settings": {"kafka": {"topic": "web-logs"}}},
        {},
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any]) -> None:
    assert list(Draft7Validator(schema()).iter_errors(values))


def test_every_value_has_a_default_that_is_allowed_and_a_line_in_the_readme() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    filled = values | with_settings(**values["settings"])
    assert [one.message for one in Draft7Validator(schema()).iter_errors(filled)] == []
    assert set(values) == set(schema()["properties"]) - {"global"}
    readme = (CHART / "README.md").read_text()
    assert [name for name in paths(values) if f"`{name}`" not in readme] == []


def paths(values: dict[str, Any], above: str = "") -> list[str]:
    """Each value's name, `part.name`; a map without names of its own is one value."""
    found: list[str] = []
    for name, value in values.items():
        path = f"{above}{name}"
        free = path in {"settings", "resources"} or path.endswith(("labels", "annotations"))
        found += (
            paths(value, f"{path}.") if isinstance(value, dict) and value and not free else [path]
        )
    return found


def test_the_chart_has_the_project_s_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == version
