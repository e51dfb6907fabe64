"""What tests of the search for settings share: quick settings, and two prepared logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.trainer.made import messages, write_log
from tests.trainer.preparing import prepare

if TYPE_CHECKING:
    from pathlib import Path

QUICK = """outer_steps = 4
support_lines = 300
query_windows = 2
tasks_a_source = 1
hidden = 3
"""


def two_logs(folder: Path, lines: int = 10_600) -> tuple[Path, Path]:
    """Prepared logs of two systems."""
    made = []
    for seed, system in enumerate(("spirit", "liberty")):
        log = write_log(folder / f"{system}.log", *messages(lines, seed))
        prepare(log, output=folder / system, system=system)
        made.append(folder / system)
    return made[0], made[1]
