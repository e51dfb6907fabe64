"""Labels that stand beside a log: a CSV file with the columns `line` and `label`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosyslog.errors import LabelError

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

#: What a label can be called.
ALERT = frozenset({"alert", "anomaly", "1"})
NORMAL = frozenset({"normal", "0", "-"})
_WORDS = dict.fromkeys(ALERT, True) | dict.fromkeys(NORMAL, False)


def with_labels(lines: pl.DataFrame, path: Path, log: str) -> pl.DataFrame:
    """A log's lines with the labels of a file in place of their own.

    Lines that the file does not name have no label.

    Args:
        lines: all lines of the log.
        path: a CSV file with a header: `line`, the line's number counted from 1 as editors count,
            and `label`: `alert`, `anomaly` or `1`; `normal`, `0` or `-`.
        log: how an error calls the log.

    Raises:
        LabelError: the file cannot be read, names a line that the log does not have, or names one
            twice, or a label is none.
    """
    import polars as pl

    try:
        table = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except FileNotFoundError as error:
        raise LabelError(f"cannot read the labels {path}: there is no such file") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LabelError(f"the labels {path} are no CSV file: {first_line(error)}") from error
    if not {"line", "label"} <= set(table.columns):
        raise LabelError(
            f"the labels {path} lack a header: the columns are `line` (counted from 1) and `label` "
            f"(alert or normal), and these are {', '.join(table.columns)}"
        )
    table = table.select(
        pl.int_range(2, pl.len() + 2).alias("row"),
        pl.col("line").str.strip_chars().cast(pl.Int64, strict=False).alias("number"),
        pl.col("line").alias("given"),
        pl.col("label").alias("word"),
        pl.col("label")
        .str.strip_chars()
        .str.to_lowercase()
        .replace_strict(_WORDS, default=None, return_dtype=pl.Boolean),
    )
    unknown = table.filter(~pl.col("number").is_between(1, lines.height).fill_null(value=False))
    if unknown.height:
        row, given = unknown["row"][0], unknown["given"][0]
        raise LabelError(
            f"{path}, row {row}: there is no line {given!r} in {log}, which has lines 1 to "
            f"{lines.height:,} ({unknown.height:,} such rows)"
        )
    if (wrong := table.filter(pl.col("label").is_null())).height:
        raise LabelError(
            f"{path}, row {wrong['row'][0]}: {wrong['word'][0]!r} is no label: "
            "write alert or normal"
        )
    if (twice := table.filter(pl.col("number").is_duplicated())).height:
        raise LabelError(
            f"{path}, row {twice['row'][1]}: line {twice['number'][0]} is named twice: name it once"
        )
    places = table.select((pl.col("number") - 1).alias("offset"), "label")
    return (
        lines.drop("label", strict=False)
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("offset"))
        .join(places, on="offset", how="left", maintain_order="left")
    )


def first_line(error: Exception) -> str:
    """What an error says, without what follows in further lines."""
    return (str(error).splitlines() or [type(error).__name__])[0]
