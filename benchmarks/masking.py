"""Raw lines to templates: against reading the lines at all, and against Python's `re`.

Simulated lines of several systems, the same in every run. What is compared is measured in turn,
several times over, and the best time of each counts: a machine that is busy is busy for all.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

SYSTEMS = ("bgl", "liberty", "spirit", "thunderbird")

#: Lines that `re` masks: it takes ten times as long for each.
_BY_RE = 20_000


def main() -> None:
    """Measures, prints a table, and writes its figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000, help="of each system")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory(prefix="crosyslog-bench-") as scratch:
        for system in SYSTEMS:
            log = simulate(system, given.lines, Path(scratch) / system)
            rows[system] = measure(system, log, given.rounds)
    mean = {
        name: sum(row[name] for row in rows.values()) / len(rows)
        for name in next(iter(rows.values()))
    }
    print("thousand lines a second; times as long as a bare read; times as fast as re")
    names = "".join(f"{name:>12}" for name in ("read", "split", "mask", "re"))
    print(f"{'':12}{names}{'split+mask':>16}{'mask':>14}")
    for system, row in {**rows, "mean": mean}.items():
        speeds = "".join(
            f"{row[f'{name}_lines_per_second'] / 1000:>12,.0f}"
            for name in ("read", "split", "mask", "re")
        )
        print(
            f"{system:12}{speeds}{row['split_mask_to_read']:>10.2f} x read"
            f"{row['mask_to_re']:>8.1f} x re"
        )
    if given.json:
        figures = dict(mean)
        for system, row in rows.items():
            figures |= {f"{system}_{name}": value for name, value in row.items()}
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def simulate(system: str, lines: int, path: Path) -> Path:
    """A simulated log."""
    from trainer.simulation import write_simulated_log

    write_simulated_log(system=system, lines=lines, anomaly_rate=0.05, seed=0, output=path)
    return path


def measure(system: str, log: Path, rounds: int) -> dict[str, float]:
    """Lines a second of every step, and their ratios."""
    from crosyslog.lines import decode, read_raw, split
    from crosyslog.masking import mask
    from crosyslog.systems import load_system

    profile = load_system(system)

    def read() -> pl.Series:
        (values,) = read_raw(log, 1 << 30)
        return decode(values)

    raw = read()
    texts = split(raw, profile)["text"]
    some = texts.head(_BY_RE)
    steps: dict[str, tuple[Callable[[], Any], int]] = {
        "read": (read, len(raw)),
        "split": (lambda: split(raw, profile), len(raw)),
        "mask": (lambda: mask(texts), len(raw)),
        "re": (lambda: mask_by_re(some.to_list()), len(some)),
    }
    # The two engines do not agree which marks of other scripts belong to a word.
    plain = some.filter(~some.str.contains(r"[^\x00-\x7F]"))
    if mask(plain).to_list() != mask_by_re(plain.to_list()):
        raise SystemExit(f"{system}: re and Polars mask differently")
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, (step, lines) in steps.items():
            began = perf_counter()
            step()
            seconds[name] = min(seconds[name], (perf_counter() - began) / lines)
    return {f"{name}_lines_per_second": 1 / each for name, each in seconds.items()} | {
        "split_mask_to_read": (seconds["split"] + seconds["mask"]) / seconds["read"],
        "mask_to_re": seconds["re"] / seconds["mask"],
    }


def mask_by_re(texts: list[str]) -> list[str]:
    """The same rules, a text after another."""
    from crosyslog.masking import MAX_CHARACTERS, RULES

    rules = [(re.compile(pattern).sub, replacement) for _, pattern, replacement in RULES]
    templates = []
    for text in texts:
        masked = text
        for substitute, replacement in rules:
            masked = substitute(replacement, masked)
        templates.append(masked.strip(" ,")[:MAX_CHARACTERS].strip(" ,"))
    return templates


if __name__ == "__main__":
    main()
