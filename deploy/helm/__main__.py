"""Writes what the chart holds of the rest of the project: `python -m deploy.helm [--check]`."""

import argparse
import sys
from collections.abc import Sequence

from deploy.helm.chart_files import differences, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files, or says which are not current; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.helm", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if not current"
    )
    if not parser.parse_args(arguments).check:
        write()
        return 0
    wrong = differences()
    for name in wrong:
        print(f"{name} is not current: run `python -m deploy.helm`")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
