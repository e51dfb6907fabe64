"""`helm`, built from its Go module: `python -m deploy.helm.program` prints where it is."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from crosyslog.errors import CrosyslogError, InputError, ToolMissingError

HELM_VERSION = "v3.22.0"

#: The oldest Go that its module takes. Since 1.21, Go can fetch a newer one by itself.
_GO = (1, 26)

_TOOLS = Path(__file__).resolve().parents[2] / ".tools"

#: Which Kubernetes it takes itself to talk to where none is asked; a released helm has a newer one
#: than its sources say.
_KUBERNETES = ("1", "33")

#: On two cores with nothing cached it takes somewhat more than two minutes.
_BUILD_SECONDS = 900


def helm(folder: Path = _TOOLS) -> Path:
    """The program, built if `folder` lacks it; an interrupted build leaves nothing in its place.

    Raises:
        ToolMissingError: it is not there, and nor is a Go that can build it.
        InputError: Go could not build it, or `folder` cannot be written.
    """
    program = folder / f"helm-{HELM_VERSION}"
    if program.is_file():
        return program
    go = shutil.which("go")
    if go is None:
        raise ToolMissingError(
            f"Go is needed to build helm {HELM_VERSION}: install Go {_shown(_GO)} or later"
        )
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as building:
            _build(go, building)
            (Path(building) / "helm").rename(program)
    except OSError as error:
        raise InputError(
            f"helm {HELM_VERSION} cannot be put into {folder}: {error.strerror or error}"
        ) from error
    return program


def _build(go: str, folder: str) -> None:
    package, (major, minor) = "helm.sh/helm/v3/pkg/chartutil", _KUBERNETES
    linked = f"-X {package}.k8sVersionMajor={major} -X {package}.k8sVersionMinor={minor}"
    try:
        done = subprocess.run(
            [go, "install", "-ldflags", linked, f"helm.sh/helm/v3/cmd/helm@{HELM_VERSION}"],
            env=os.environ | {"GOBIN": folder},
            capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"helm {HELM_VERSION} was not built within {_BUILD_SECONDS} s: try again, Go keeps "
            "what it has so far"
        ) from error
    if not done.returncode:
        return
    version = _version(go)
    if version is not None and version < _GO:
        raise ToolMissingError(
            f"helm {HELM_VERSION} could not be built with Go {_shown(version)}: install Go "
            f"{_shown(_GO)} or later"
        )
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise InputError(f"helm {HELM_VERSION} could not be built: {said}")


def _version(go: str) -> tuple[int, int] | None:
    """Which Go it is; `None` where it does not say."""
    try:
        done = subprocess.run(
            [go, "version"], capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        return None
    found = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def _shown(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def main() -> int:
    """Builds it where it is missing, and returns the exit status."""
    try:
        print(helm())
    except CrosyslogError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
