"""Tables that people fill in: CSV as spreadsheets write it."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING

from crosyslog.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What separates cells, by how often it is in a header; spreadsheets write their country's.
_SEPARATORS = ",;\t"

#: Cells that are longer than csv reads by itself are log lines, too.
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


def columns_of(path: Path) -> list[str]:
    """The names in the header, in small letters.

    Raises:
        LabelError: the file cannot be read, or is empty.
    """
    header = _read(path).lstrip("\r\n").partition("\n")[0]
    names = next(csv.reader([header.rstrip("\r")], delimiter=_separator(header)), [])
    return [name.strip().lower() for name in names]


def cells(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows below the header: the number that editors show for where one starts, and its cells.

    Yields:
        Cells by the name of their column in small letters; none for one that the row lacks.

    Raises:
        LabelError: the file cannot be read, or is no CSV.
    """
    text = _read(path).lstrip("\r\n")
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=_separator(text.partition("\n")[0]), strict=True
    )
    start = 2
    try:
        for row in reader:
            if any(cell.strip() for cell in row.pop(None, ())):
                raise LabelError(
                    f"the labels {path}, row {start}: it has more cells than the header has names"
                )
            yield start, {str(name).strip().lower(): value for name, value in row.items()}
            start = reader.line_num + 1
    except csv.Error as error:
        why = str(error)
        if "unexpected end" in why:
            why = 'a quote (") is never closed'
        raise LabelError(f"the labels {path} are no CSV file: row {start}: {why}") from error


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise LabelError(f"cannot read the labels {path}: it is no regular file")
        text = path.read_bytes().decode("utf-8-sig", errors="surrogatepass")
    except FileNotFoundError as error:
        raise LabelError(f"cannot read the labels {path}: there is no such file") from error
    except OSError as error:
        raise LabelError(f"cannot read the labels {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LabelError(f"the labels {path} are no CSV file in UTF-8: {error}") from error
    if not text.strip():
        raise LabelError(f"the labels {path} are empty: not even a header is there")
    return text


def _separator(header: str) -> str:
    return max(_SEPARATORS, key=header.count)
