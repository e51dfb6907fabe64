"""Labels that stand beside a log: a CSV file with the columns `line` and `label`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosyslog.errors import LabelError
from trainer.csv_cells import cells, columns_of

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

#: What a label can be called.
ALERT = frozenset({"alert", "anomaly", "1"})
NORMAL = frozenset({"normal", "0", "-"})

#: What says that somebody has looked and cannot tell.
UNSURE = frozenset({"unsure", "u", "?"})


def label_of(word: str, where: str) -> bool | None:
    """What a word says: an alert, or none, or that it could not be told.

    Args:
        word: as it is written.
        where: what an error begins with.

    Raises:
        LabelError: the word is no label.
    """
    known = word.strip().lower()
    if known not in ALERT | NORMAL | UNSURE:
        raise LabelError(f"{where}: {word!r} is no label: write alert, normal or unsure")
    return None if known in UNSURE else known in ALERT


def with_labels(lines: pl.DataFrame, path: Path, log: str) -> pl.DataFrame:
    """A log's lines with the labels of a file in place of their own.

    Lines that the file does not name, or without a label, or calls unsure, have none.

    Args:
        lines: all lines of the log.
        path: a CSV file with a header: `line`, the line's number counted from 1 as editors count,
            and `label`: `alert`, `anomaly` or `1`; `normal`, `0` or `-`; `unsure` or `?`.
        log: how an error calls the log.

    Raises:
        LabelError: the file cannot be read, names a line that the log does not have, or names one
            twice, or a label is none.
    """
    import polars as pl

    names = columns_of(path)
    if not {"line", "label"} <= set(names):
        raise LabelError(
            f"the labels {path} lack a header: the columns are `line` (counted from 1) and `label` "
            f"(alert, normal or unsure), and these are {', '.join(names)}"
        )
    found: dict[int, bool | None] = {}
    for row, values in cells(path):
        where, given, word = f"{path}, row {row}", values["line"] or "", values["label"] or ""
        if not word.strip():
            continue
        label = label_of(word, where)
        number = int(given) if given.strip().isdecimal() else 0
        if not 1 <= number <= lines.height:
            raise LabelError(
                f"{where}: there is no line {given!r} in {log}, which has lines 1 to "
                f"{lines.height:,}"
            )
        if number in found:
            raise LabelError(f"{where}: line {number} is named twice: name it once")
        found[number] = label
    schema = {"offset": pl.Int64, "label": pl.Boolean}
    places = pl.DataFrame(
        [(number - 1, label) for number, label in found.items()], schema, orient="row"
    )
    return (
        lines.drop("label", strict=False)
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("offset"))
        .join(places, on="offset", how="left", maintain_order="left")
    )
