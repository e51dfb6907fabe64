"""All lines of a log as numbers, whether they have labels or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.errors import InputError
from crosyslog.systems import load_system
from tests.trainer.made import messages, write_log
from trainer.example_lines import Examples, identity_of
from trainer.labelled_logs import read_labelled
from trainer.labelling import Question
from trainer.whole_logs import NO_LABEL, read_whole

if TYPE_CHECKING:
    from pathlib import Path

SPIRIT = load_system("spirit")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A log of Spirit whose odd lines have lost their label."""
    path = write_log(tmp_path / "mixed.log", *messages(600))
    lines = path.read_text(encoding="utf-8").splitlines()
    cut = [line.partition(" ")[2] if row % 2 else line for row, line in enumerate(lines)]
    path.write_text("\n".join(cut) + "\n", encoding="utf-8")
    return path


def test_lines_with_and_without_label_are_told_apart(mixed: Path) -> None:
    whole = read_whole(mixed, SPIRIT, lines_at_once=70)
    assert len(whole) == 600
    assert whole.labels[1::2].tolist() == [NO_LABEL] * 300
    assert whole.labels[::2].tolist() == messages(600)[1][::2].tolist()
    assert whole.counts.sum() == 600
    labelled, apart = whole.labelled(), read_labelled(mixed, SPIRIT)
    assert labelled.labels.tolist() == apart.labels.tolist()
    assert labelled.offsets.tolist() == apart.offsets.tolist() == list(range(0, 600, 2))
    of_lines = [labelled.templates[row] for row in labelled.rows]
    assert of_lines == [apart.templates[row] for row in apart.rows]


def test_hours_are_those_of_some_lines(mixed: Path) -> None:
    whole = read_whole(mixed, SPIRIT)
    assert whole.hours(whole.labels == NO_LABEL) == pytest.approx(598 / 3600)
    assert whole.hours(np.zeros(600, dtype=np.bool_)) is None
    assert whole.hours(np.arange(600) == 3) is None


def test_a_log_without_times_has_no_hours(tmp_path: Path) -> None:
    (tmp_path / "plain.log").write_text("one\ntwo\nthree\n", encoding="utf-8")
    whole = read_whole(tmp_path / "plain.log", load_system("plain"))
    assert whole.hours(whole.labels == NO_LABEL) is None


def test_what_is_no_log_of_the_system_is_refused(tmp_path: Path, mixed: Path) -> None:
    with pytest.raises(InputError, match="none of its 600 lines splits"):
        read_whole(mixed, load_system("bgl"), lines_at_once=70)
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="is empty"):
        read_whole(tmp_path / "empty", SPIRIT)


def test_examples_stand_between_their_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("rare a\n" + "often\n" * 8 + "rare a\n", encoding="utf-8")
    log = read_whole(path, load_system("plain"))
    questions = [Question(40 + row, one, 1, 0.5, None) for row, one in enumerate(log.templates)]
    found = Examples(path, log, identity_of(path)).of(
        [*questions, Question(99, "in no log", 0, 0.5, None)]
    )
    assert set(found) == {40, 41}
    assert [example.number for example in found[40]] == [1, 10]
    first, last = found[40]
    assert first.lines == [(1, "rare a"), (2, "often"), (3, "often")]
    assert last.lines == [(8, "often"), (9, "often"), (10, "rare a")]
    assert [example.text for example in found[41]] == ["often", "often"]
    assert [example.number for example in found[41]] == [2, 6]


def test_examples_of_a_log_that_has_changed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one a\ntwo b\n", encoding="utf-8")
    log, seen = read_whole(path, load_system("plain")), identity_of(path)
    questions = [Question(row, one, 1, 0.5, None) for row, one in enumerate(log.templates)]
    with path.open("a", encoding="utf-8") as grows:
        grows.write("three c\n")
    assert set(Examples(path, log, seen).of(questions)) == {0, 1}
    path.write_text("two b\n", encoding="utf-8")
    with pytest.raises(InputError, match="is another file than when it was read"):
        Examples(path, log, seen).of(questions)
    (tmp_path / "other").write_text("six d\nten e\n" * 9, encoding="utf-8")
    (tmp_path / "other").replace(path)
    with pytest.raises(InputError, match="every answer is kept"):
        Examples(path, log, seen).of(questions)


def test_a_pipe_has_no_examples(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert identity_of(tmp_path / "pipe") is None
    (tmp_path / "x.log").write_text("one a\n", encoding="utf-8")
    log = read_whole(tmp_path / "x.log", load_system("plain"))
    assert Examples(tmp_path / "pipe", log, None).of([Question(0, "one a", 1, 0.5, None)]) == {}
