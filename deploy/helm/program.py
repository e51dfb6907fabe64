"""`helm`, built from its Go module: `python -m deploy.helm.program` prints where it is."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from crosyslog.errors import CrosyslogError, InputError, ToolMissingError

HELM_VERSION = "v3.22.0"

_TOOLS = Path(__file__).resolve().parents[2] / ".tools"

#: Which Kubernetes it takes itself to talk to where none is asked; a released helm has a newer one
#: than its sources say.
_KUBERNETES = ("1", "33")

#: On two cores with nothing cached it takes somewhat more than two minutes.
_BUILD_SECONDS = 900


def helm(folder: Path = _TOOLS) -> Path:
    """The program, built if `folder` lacks it; an interrupted build leaves nothing in its place.

    Raises:
        ToolMissingError: it is not there, and nor is Go.
        InputError: Go could not build it.
    """
    program = folder / f"helm-{HELM_VERSION}"
    if program.is_file():
        return program
    go = shutil.which("go")
    if go is None:
        raise ToolMissingError(
            f"Go is needed to build helm {HELM_VERSION}: install a Go that its module takes "
            "(1.26 or later)"
        )
    folder.mkdir(exist_ok=True)
    package, (major, minor) = "helm.sh/helm/v3/pkg/chartutil", _KUBERNETES
    linked = f"-X {package}.k8sVersionMajor={major} -X {package}.k8sVersionMinor={minor}"
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as building:
        done = subprocess.run(
            [go, "install", "-ldflags", linked, f"helm.sh/helm/v3/cmd/helm@{HELM_VERSION}"],
            env=os.environ | {"GOBIN": building},
            capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"helm {HELM_VERSION} could not be built: {said}")
        (Path(building) / "helm").rename(program)
    return program


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
