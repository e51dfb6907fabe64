"""The files of the chart that are made: Helm reads nothing outside a chart, so it holds copies."""

import json
from pathlib import Path

from deploy.helm.value_schema import build, durations

_DEPLOY = Path(__file__).parents[1]

CHART = _DEPLOY / "helm" / "crosyslog-agent"

_RULES = _DEPLOY / "prometheus" / "rules.yml"
_DASHBOARDS = _DEPLOY / "grafana" / "dashboards"


def made_files() -> dict[str, str]:
    """Each made file's place in the chart, and its text."""
    files = {
        "values.schema.json": json.dumps(build(), indent=2) + "\n",
        "files/durations.json": json.dumps(durations(), indent=2) + "\n",
        "files/rules.yml": _RULES.read_text(encoding="utf-8"),
    }
    for path in sorted(_DASHBOARDS.glob("*.json")):
        files[f"files/dashboards/{path.name}"] = path.read_text(encoding="utf-8")
    return files


def differences() -> list[str]:
    """The files of the chart that are missing, other than made now, or too many."""
    files = made_files()
    wrong = [
        name
        for name, text in files.items()
        if not (CHART / name).is_file() or (CHART / name).read_text(encoding="utf-8") != text
    ]
    return sorted(wrong + _surplus(files))


def write() -> None:
    """Makes them all, and removes those that are made no longer."""
    files = made_files()
    for name in _surplus(files):
        (CHART / name).unlink()
    for name, text in files.items():
        (CHART / name).parent.mkdir(parents=True, exist_ok=True)
        (CHART / name).write_text(text, encoding="utf-8")


def _surplus(files: dict[str, str]) -> list[str]:
    there = [path for path in (CHART / "files").rglob("*") if path.is_file()]
    return [name for path in there if (name := str(path.relative_to(CHART))) not in files]
