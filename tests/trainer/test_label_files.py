"""Labels beside a log: what a file of them may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from crosyslog.errors import LabelError
from trainer.label_files import with_labels

if TYPE_CHECKING:
    from pathlib import Path

LINES = pl.DataFrame({"text": ["a", "b", "c"], "label": [True, True, True]})


def labels_of(path: Path, content: bytes) -> list[bool | None]:
    path.write_bytes(content)
    return with_labels(LINES, path, "x.log")["label"].to_list()


@pytest.mark.parametrize(
    "content",
    [
        b"line,label\n1,normal\n3,alert\n",
        b"label,line,who\nAlert , 3,me\n-,1,me\n",
        b"line,label\r\n1,0\r\n3,1\r\n",
        b"\xef\xbb\xbfLine;Label\n1;0\n2;\n3;anomaly\n",
        b"line\tlabel\n1\t0\n2\tunsure\n3\t1\n",
        b"line,label\n1,normal,\n2\n3,alert\n",
    ],
)
def test_labels_stand_in_place_of_the_logs_own(tmp_path: Path, content: bytes) -> None:
    assert labels_of(tmp_path / "labels.csv", content) == [False, None, True]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"line,label\n1,normal\n4,alert\n", "row 3: there is no line '4' in x.log"),
        (b"line,label\n0,normal\n", "row 2: there is no line '0' in x.log, which has lines 1 to 3"),
        (b"line,label\nfirst,normal\n", "there is no line 'first'"),
        (b"line,label\n,normal\n", "there is no line ''"),
        (b"line,label\n1,maybe\n", "row 2: 'maybe' is no label: write alert, normal or unsure"),
        (b"line,label\n1,0,what\n", "row 2: it has more cells than the header"),
        (b"line,label\n1,0\n2,0\n1,0\n", "row 4: line 1 is named twice"),
        (b"number,label\n1,0\n", "lack a header"),
        (b"", "are empty"),
        (b"line,label\n\xff\xfe,1\n", "labels"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(LabelError) as refused:
        labels_of(tmp_path / "labels.csv", content)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="there is no such file"):
        with_labels(LINES, tmp_path / "none.csv", "x.log")
