"""Installs a wheel into a new environment, and uses it there as somebody does who has no checkout.

What is installed beside it is what requirements.lock pins, by its hashes, and nothing more: first
what the agent needs, then the extra `trainer`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import CrosyslogError
from deploy.release.building import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What nobody needs who only uses it.
_DEVELOPMENT = {"hatchling", "hypothesis", "mypy", "pytest", "ruff"}


def use_wheel(wheel: Path, folder: Path) -> None:
    """Installs the wheel and runs both commands.

    Args:
        wheel: to be installed.
        folder: an empty one, to work in.

    Raises:
        CrosyslogError: it cannot be installed or used, or brings what the lock does not pin.
    """
    python = folder / "environment" / "bin" / "python"
    _run([_uv(), "venv", "--quiet", "--python", sys.executable, str(folder / "environment")])
    environment = {
        "HOME": str(folder / "home"),
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }
    place = folder / "elsewhere"
    place.mkdir()
    _install(python, str(wheel))
    _check_pins(python)
    for program in ("trainer", "crosyslog-agent"):
        _run([str(python.with_name(program)), "--help"], environment, place)
    simulate = (
        "trainer simulate --system spirit --lines 2000 --anomaly-rate 0.1 --output spirit.log"
    )
    _run(simulate.split(), environment, place)
    _run(["trainer", "systems", "check", "spirit", "spirit.log"], environment, place)
    # On the shipped base: nothing is adapted yet.
    _scan(environment, place, "running on the base 'base'")
    _install(python, f"{wheel}[trainer]")
    _check_pins(python)
    _run(["trainer", "adapt", "--target", "spirit", "--log", "spirit.log"], environment, place)
    if '"anomaly"' not in _scan(environment, place, "model spirit/0001"):
        raise CrosyslogError("the adapted model finds no alert in the log that it learnt from")


def _scan(environment: Mapping[str, str], place: Path, model: str) -> str:
    """The events of a log, judged by the model that is named."""
    scan = "crosyslog-agent scan --model spirit spirit.log"
    events, said = _run(scan.split(), environment, place)
    if model not in said:
        raise CrosyslogError(f"`{scan}` does not say `{model}`: {said.strip()}")
    return events


def _install(python: Path, what: str) -> None:
    lock = str(ROOT / "requirements.lock")
    install = ["pip", "install", "--quiet", "--strict", "--python", str(python)]
    _run([_uv(), *install, "--constraint", lock, what])


def _check_pins(python: Path) -> None:
    """That what is installed is pinned, and nothing of it is for development.

    Raises:
        CrosyslogError: it is not.
    """
    pins = set(re.findall(r"(?m)^([a-z0-9._-]+==[^ ;\\]+)", _lock()))
    listed, _ = _run([_uv(), "pip", "freeze", "--quiet", "--python", str(python)])
    installed = {line for line in listed.splitlines() if not line.startswith("crosyslog ")}
    if loose := sorted(installed - pins):
        raise CrosyslogError(f"requirements.lock does not pin {', '.join(loose)}")
    if tools := sorted(_DEVELOPMENT & {line.split("==")[0] for line in installed}):
        raise CrosyslogError(f"the wheel brings what only development needs: {', '.join(tools)}")


def _lock() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


def _uv() -> str:
    """The uv of this environment, whatever PATH says."""
    return str(Path(sys.executable).with_name("uv"))


def _run(
    command: list[str], environment: Mapping[str, str] | None = None, place: Path | None = None
) -> tuple[str, str]:
    """What a command prints, and what it says on standard error.

    Raises:
        CrosyslogError: it fails.
    """
    given = os.environ if environment is None else environment
    program = command[0] if "/" in command[0] else f"{given['PATH'].split(':')[0]}/{command[0]}"
    done = subprocess.run(
        [program, *command[1:]],
        env=dict(given),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CrosyslogError(f"`{' '.join(command)}` ends with {done.returncode}: {''.join(last)}")
    return done.stdout, done.stderr
