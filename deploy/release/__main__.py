"""Builds a release and checks it; nothing is published."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import CrosyslogError
from crosyslog.terminal import printable
from deploy.release.building import ROOT, build
from deploy.release.contents import differences, wrong_with_sdist, wrong_with_wheel
from deploy.release.environment import use_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds into a folder, looks into what was built, and uses the wheel.

    Returns:
        The exit status: 1 where something is wrong with what was built, 2 where it cannot be told.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="by default dist/")
    parser.add_argument(
        "--contents-only", action="store_true", help="do not install it in a new environment"
    )
    given = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        given.output.mkdir(parents=True, exist_ok=True)
        sdist, wheel, again = build(given.output)
        wrong = [*wrong_with_wheel(wheel), *wrong_with_sdist(sdist), *differences(wheel, again)]
        again.unlink()
        for line in wrong:
            sys.stderr.write(f"{printable(line)}\n")
        if wrong:
            return 1
        print(f"{sdist.name} and {wheel.name} hold what they should")
        if not given.contents_only:
            with tempfile.TemporaryDirectory(prefix="crosyslog-release-") as folder:
                use_wheel(wheel, Path(folder))
            print("in a new environment, on what the lock pins alone, both commands work")
    except CrosyslogError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return 2
    print(f"{given.output}: {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
