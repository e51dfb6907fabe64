"""`python -m deploy.grafana`: writes the dashboards and the provisioning, or checks them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.grafana import dashboards, provisioning

if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDER = Path(__file__).parent


def files() -> dict[str, str]:
    """Every file that is made, by its place below a folder, and its text."""
    boards = {
        f"dashboards/{name}": json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        for name, board in dashboards.build().items()
    }
    return boards | {f"provisioning/{name}": text for name, text in provisioning.build().items()}


def stale(folder: Path) -> list[str]:
    """What is wrong with the files of a folder, in a line each."""
    made = files()
    found = {
        path.relative_to(folder).as_posix()
        for part in ("dashboards", "provisioning")
        for path in (folder / part).rglob("*.*")
        if path.is_file()
    }
    missing = (f"{folder / name} is missing" for name in sorted(made.keys() - found))
    spare = (f"{folder / name} is made by nothing any more" for name in sorted(found - made.keys()))
    changed = (
        f"{folder / name} is not current"
        for name in sorted(made.keys() & found)
        if (folder / name).read_text(encoding="utf-8") != made[name]
    )
    return [*missing, *spare, *changed]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files, or checks them.

    Returns:
        The exit status: 0, 1 if a file is not current, 2 if one cannot be written or read.
    """
    parser = argparse.ArgumentParser(
        prog="python -m deploy.grafana",
        description="Writes Grafana's dashboards, and what makes it show them at once.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if a file is not current"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=_FOLDER,
        help="where they go; beside the generator if not set",
    )
    options = parser.parse_args(arguments)
    try:
        if options.check:
            wrong = stale(options.folder)
            for line in wrong:
                print(f"{line}: run python -m deploy.grafana", file=sys.stderr)
            return 1 if wrong else 0
        for name, text in files().items():
            path = options.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"{error.filename}: {error.strerror}: name another --folder", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
