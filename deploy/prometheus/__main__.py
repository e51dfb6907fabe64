"""`python -m deploy.prometheus`: writes Prometheus's files, or says which are not current."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.prometheus.generated import FOLDER, files
from deploy.prometheus.rules import RUNBOOKS
from deploy.prometheus.scraping import JOB


def _job(name: str) -> str:
    if not re.fullmatch(r"[\w./:-]+", name):
        raise argparse.ArgumentTypeError(
            f"{name!r}: a job is named with letters, digits and _ - . / : only"
        )
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the files.

    Returns:
        The exit status: 0, 1 if a file is not current, 2 if the folder cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m deploy.prometheus",
        description="Writes Prometheus's settings, rules and the rules' tests.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if a file is not current"
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where they go; beside the generator if not set"
    )
    parser.add_argument(
        "--runbooks",
        default=RUNBOOKS,
        metavar="URL",
        help=f"comes before a page's name in an alert's runbook_url [default: {RUNBOOKS}]",
    )
    parser.add_argument(
        "--job",
        default=JOB,
        type=_job,
        metavar="NAME",
        help=f"what the agents are called in Prometheus [default: {JOB}]",
    )
    chosen = parser.parse_args(arguments)
    current = True
    for name, text in files(chosen.runbooks, chosen.job).items():
        path = chosen.folder / name
        try:
            if not chosen.check:
                chosen.folder.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            elif not path.exists() or path.read_text(encoding="utf-8") != text:
                current = False
                print(f"{path} is not current: run python -m deploy.prometheus", file=sys.stderr)
        except OSError as error:
            print(f"{path}: {error.strerror}: name another --folder", file=sys.stderr)
            return 2
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
