"""What the chart's tests share: helm's answers, and what is looked up in rendered manifests."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.settings import Settings, load_settings
from crosyslog.errors import ToolMissingError
from deploy.helm.chart_files import CHART
from deploy.helm.program import helm
from tests.conftest import absent

SETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir())

Manifests = list[dict[str, Any]]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What helm says; the test is skipped where it cannot be had."""
    try:
        program = helm()
    except ToolMissingError as error:
        absent("Go", str(error))
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def values_of(name: str) -> list[str]:
    """The options that give a set of values."""
    return ["--values", str(CHART / "ci" / f"{name}-values.yaml")]


def template(name: str, *options: str, release: str = "web") -> Manifests:
    """The manifests of a set of values and what is given besides."""
    given = [*values_of(name), *options]
    done = run("template", release, str(CHART), "--namespace", "logs", *given)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@cache
def rendered(name: str) -> Manifests:
    """The manifests of a set of values."""
    return template(name)


def of_kind(manifests: Manifests, kind: str) -> Manifests:
    return [one for one in manifests if one["kind"] == kind]


def one_of_kind(manifests: Manifests, kind: str) -> dict[str, Any]:
    (found,) = of_kind(manifests, kind)
    return found


def workload(manifests: Manifests) -> dict[str, Any]:
    (found,) = of_kind(manifests, "StatefulSet") + of_kind(manifests, "Deployment")
    return found


def pod(manifests: Manifests) -> dict[str, Any]:
    return dict(workload(manifests)["spec"]["template"]["spec"])


def container(manifests: Manifests) -> dict[str, Any]:
    (found,) = pod(manifests)["containers"]
    return dict(found)


def environment(manifests: Manifests) -> dict[str, str]:
    """The variables of the agent; what Kubernetes fills in is stood in for."""
    variables = container(manifests)["env"]
    names = [one["name"] for one in variables]
    assert len(names) == len(set(names))
    # Kubernetes makes $$ a $.
    filled = {one["name"]: one.get("value", "filled-in").replace("$$", "$") for one in variables}
    return {name: value for name, value in filled.items() if name.startswith("CROSYSLOG_")}


def settings_of(manifests: Manifests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The settings as the agent in the pod loads them."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    for name, value in environment(manifests).items():
        given = str(password) if name.endswith("SASL_PASSWORD_FILE") else value
        monkeypatch.setenv(name, given)
    return load_settings()
