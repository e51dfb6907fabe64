"""The workflow of a hosted CI runs what we run, on each Python that the project allows."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet

from tests.docs.markdown import ROOT

WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def steps() -> list[dict[str, Any]]:
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_it_runs_on_each_python_that_is_allowed() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    wanted = {f"3.{minor}" for minor in range(50) if f"3.{minor}" in allowed}
    job = WORKFLOW["jobs"]["test"]
    assert set(job["strategy"]["matrix"]["python"]) == wanted
    assert job["container"] == "python:${{ matrix.python }}-bookworm"
    said = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one}
    assert said == wanted


def test_it_runs_what_we_run() -> None:
    assert [step["run"] for step in steps() if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
    # YAML 1.1 takes the key `on` for true.
    assert set(WORKFLOW[True]) == {"push", "pull_request"}


def test_it_may_only_read_and_knows_no_secret() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in WORKFLOW["jobs"].values())
    assert "secrets." not in str(WORKFLOW)
    for step in steps():
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
