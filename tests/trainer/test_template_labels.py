"""Labels of templates: what is kept, and what files may say."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from crosyslog.errors import LabelError, StoreError
from crosyslog.masking import template_id
from crosyslog.systems import load_system
from trainer.csv_cells import columns_of
from trainer.template_labels import (
    Answer,
    Answers,
    last_of_file,
    record_system,
    recorded_system,
    write_rows,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "store" / "web" / "labels.csv"


def read(path: Path, content: bytes, **known: str) -> dict[str, bool | None]:
    path.write_bytes(content)
    return last_of_file(path, known)


def test_answers_are_there_again_and_the_last_one_counts(kept: Path) -> None:
    given = [
        Answer("disk failure, twice", True, 1),
        Answer("all well", False, 1),
        Answer("", None, 2),
        Answer("disk failure, twice", False, 2),
    ]
    with Answers.alone(kept) as answers:
        for answer in given:
            answers.add([answer])
    again = Answers(kept)
    assert list(again.given) == given
    assert again.last() == {"disk failure, twice": False, "all well": False, "": None}
    assert again.labels() == {"disk failure, twice": False, "all well": False}
    assert (again.round, again.times("disk failure, twice")) == (2, 2)
    assert again.before(2).labels() == {"disk failure, twice": True, "all well": False}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_the_last_answer_is_taken_back(kept: Path) -> None:
    answers = Answers(kept)
    answers.add([Answer("all well", False, 1), Answer("all well", True, 2)])
    assert answers.undo() == Answer("all well", True, 2)
    assert Answers(kept).labels() == {"all well": False}


def test_one_asks_at_a_time(kept: Path) -> None:
    with (
        Answers.alone(kept),
        pytest.raises(StoreError, match="another `trainer label` asks about web"),
        Answers.alone(kept),
    ):
        pass
    with Answers.alone(kept) as answers:
        assert len(answers) == 0


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with (
        pytest.raises(StoreError, match="cannot keep the labels"),
        Answers.alone(tmp_path / "store" / "web" / "labels.csv"),
    ):
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"template,label\ndisk failure,alert\nall well,normal\nodd,unsure\n",
        b"\xef\xbb\xbftemplate;label\r\ndisk failure;Anomaly\r\nall well;0\r\nodd;?\r\n",
        b"label\ttemplate\twho\n1\tdisk failure\tme\n-\tall well\tyou\nu\todd\tme\n",
        b'Label,Template\nALERT,"disk failure"\n normal ,all well\nunsure,odd\n,never mind\n',
    ],
    ids=["plain", "semicolons", "tabs", "capitals"],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: bytes) -> None:
    labels = read(tmp_path / "filled.csv", content)
    assert labels == {"disk failure": True, "all well": False, "odd": None}


def test_a_message_is_masked(tmp_path: Path) -> None:
    content = b'template,label\n"=disk 17: failure!",alert\n'
    assert read(tmp_path / "own.csv", content) == {"disk # failure": True}


def test_a_template_that_a_spreadsheet_has_changed_is_known_by_its_id(tmp_path: Path) -> None:
    name = template_id("true is the state")
    content = f"template_id,template,label\n{name},TRUE is the state,alert\n".encode()
    assert read(tmp_path / "filled.csv", content, **{name: "true is the state"}) == {
        "true is the state": True
    }
    shouted = content.replace(name.encode(), name.upper().encode())
    assert read(tmp_path / "filled.csv", shouted, **{name: "true is the state"}) == {
        "true is the state": True
    }
    with pytest.raises(LabelError, match="row 2: the template 'TRUE is the state' is not what"):
        read(tmp_path / "filled.csv", content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"template,label\na,alert\nb,maybe\n", "row 3: 'maybe' is no label"),
        (b"template,label\na b,alert\nc,normal\na 'b',normal\n", "rows 2 and 4: 'a b' is called"),
        (b"text,label\na,alert\n", "lack a header"),
        (b"\n", "are empty"),
        (b"template,label\n\xff,alert\n", "no CSV file in UTF-8"),
        (b"template,label,round\na,alert,first\n", "no number of a round"),
    ],
    ids=["label", "both", "header", "empty", "bytes", "round"],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(LabelError) as refused:
        read(tmp_path / "filled.csv", content)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for call in (lambda: last_of_file(tmp_path / "none.csv", {}), lambda: columns_of(tmp_path)):
        with pytest.raises(LabelError, match="cannot read the labels"):
            call()


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_rows(path, ("example",), [{"example": "=1+1"}, {"example": "- 17 x"}, {"example": "a=1"}])
    assert path.read_text(encoding="utf-8").splitlines() == ["example", "'=1+1", "'- 17 x", "a=1"]


def test_labels_belong_to_the_profile_that_their_lines_were_split_by(kept: Path) -> None:
    assert recorded_system(kept) is None
    record_system(kept, load_system("spirit"))
    assert recorded_system(kept) == load_system("spirit")
    record_system(kept, load_system("bgl"))  # there is no label yet
    Answers(kept).add([Answer("all well", False, 1)])
    with pytest.raises(LabelError, match="split by the profile bgl"):
        record_system(kept, load_system("spirit"))
    kept.with_name("labels-system.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabelError, match="remove it"):
        recorded_system(kept)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('template,label\na,alert\n"b,normal\nc,alert\n', 'row 3: a quote (") is never closed'),
        ("template,label\na,alert,normal\n", "row 2: it has more cells than the header"),
        ("template_id,template,label,round\n,a,alert,1\n,b\n", "row 3: the row is cut off"),
    ],
    ids=["quote", "cells", "cut"],
)
def test_no_row_is_swallowed(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.csv").write_text(content, encoding="utf-8")
    with pytest.raises(LabelError) as refused:
        last_of_file(tmp_path / "x.csv", {})
    assert said in str(refused.value)


def test_rows_may_end_in_empty_cells_or_lack_them(tmp_path: Path) -> None:
    content = "template,lines,label\na,1,alert,,\nb\nc,2,normal\n"
    (tmp_path / "x.csv").write_text(content, encoding="utf-8")
    assert last_of_file(tmp_path / "x.csv", {}) == {"a": True, "c": False}


def test_a_cell_may_be_as_long_as_a_line(tmp_path: Path) -> None:
    content = f"template,label,example\na,alert,{'x' * 200_000}\n"
    (tmp_path / "x.csv").write_text(content, encoding="utf-8")
    assert last_of_file(tmp_path / "x.csv", {}) == {"a": True}


def test_kept_answers_that_are_damaged_are_named_and_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    Answers(path).add([Answer("a", alert=True), Answer("b", alert=False)])
    path.write_bytes(path.read_bytes()[:-12])
    before = path.read_bytes()
    with pytest.raises(LabelError, match=r"answers that are kept in .* are damaged .*start anew"):
        Answers(path)
    assert path.read_bytes() == before


def test_a_damaged_profile_is_written_anew_where_one_is_named(tmp_path: Path) -> None:
    record_system(tmp_path / "labels.csv", load_system("spirit"))
    (tmp_path / "labels.csv").touch()
    (tmp_path / "labels-system.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabelError, match="say --system"):
        recorded_system(tmp_path / "labels.csv")
    record_system(tmp_path / "labels.csv", load_system("bgl"))
    found = recorded_system(tmp_path / "labels.csv")
    assert found is not None
    assert found.name == "bgl"
    assert (tmp_path / "labels-system.json").stat().st_mode & 0o077 == 0
