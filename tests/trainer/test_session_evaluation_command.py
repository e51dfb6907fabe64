"""`trainer evaluate` of what judges sessions, on simulated logs."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.word_vectors import words_of
from tests.trainer.page_reader import Page
from tests.trainer.shell import Shell
from trainer.simulation import write_simulated_log

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["metalog", "no_meta", "count_logreg", "count_clusters", "never_seen"]

#: A training of a moment.
QUICK = "members = 1\nsteps = 6\nhidden = 4\nlayers = 1\nbatch = 16\nkept = 3\n"

EVALUATE = (
    "evaluate", "--target", "hdfs", "--log", "hdfs.log", "--source", "openstack=openstack.log",
    "--config", "quick.toml", "--label-share", "0.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of each system, labels beside them, and quick settings."""
    folder = tmp_path_factory.mktemp("simulated")
    for name in ("hdfs", "openstack"):
        write_simulated_log(
            system=name, lines=4_000, anomaly_rate=0.3, seed=0, output=folder / f"{name}.log"
        )
    (folder / "quick.toml").write_text(QUICK, encoding="utf-8")
    return folder


@pytest.fixture
def trainer(here: Path, simulated: Path, capfd: pytest.CaptureFixture[str]) -> Shell:
    for path in simulated.iterdir():
        shutil.copy(path, here)
    return Shell(capfd)


def test_all_methods_are_judged_and_reported(trainer: Shell, here: Path) -> None:
    content = trainer.reports(*EVALUATE, "--seeds", 2, "--output", "found")
    assert json.loads((here / "found" / "evaluation.json").read_bytes()) == content
    page = Page(here / "found" / "evaluation.html")
    assert [page.rows_of(name)[0][0] for name in METHODS] == METHODS
    assert "What metalog judged wrong" in page.headings
    assert list(content["methods"]) == METHODS
    assert content["unit"] == "session"
    assert content["sessions"] == content["query"] + content["chosen_on"] + content["support"]["of"]
    assert content["support"]["kind"] == "share"
    support = content["support"]
    assert support["anomalous"] + support["normal"] == support["of"]
    assert 0 < support["size"] <= support["anomalous"] // 5
    assert support["normal_size"] == round(support["normal"] / 2)
    for name, figures in content["methods"].items():
        assert 0 <= figures["f1"]["low"] <= figures["f1"]["mean"] <= figures["f1"]["high"] <= 1
        assert len(figures["f1_by_task"]) == 2
        assert ("f1_of_best_state_on_judged" in figures) == (name in {"metalog", "no_meta"})


def test_no_normal_session_need_be_known(trainer: Shell) -> None:
    words = (*EVALUATE, "--seeds", 1, "--method", "metalog", "--method", "never_seen")
    known, unknown = (trainer.reports(*words, "--normal-share", share) for share in (0.5, 0))
    assert unknown["support"] == known["support"] | {"normal_size": 0, "normal_share": 0}
    assert unknown["methods"] != known["methods"]


def test_the_table_names_the_figure_that_is_no_result(trainer: Shell) -> None:
    said = trainer.says(*EVALUATE, "--seeds", 1, "--method", "metalog", "--method", "never_seen")
    assert "F1 of best state on judged" in said
    assert "it is no result" in said
    assert "no_meta" not in said


def test_the_same_seeds_give_the_same_figures(trainer: Shell) -> None:
    words = (*EVALUATE, "--seeds", 1, "--method", "metalog")
    first = trainer.reports(*words)
    assert trainer.reports(*words) == first
    other = trainer.reports(*words, "--first-seed", 1)
    assert other["seed_list"] == [1]


def test_without_labels_of_the_target_none_of_them_is_used(trainer: Shell) -> None:
    content = trainer.reports(*EVALUATE[:-1], 0, "--seeds", 1)
    assert content["support"] == {
        "kind": "none", "size": 0, "share": 0.0, "normal_size": 0, "normal_share": 0.0,
        **{key: content["support"][key] for key in ("anomalous", "normal", "of")},
    }  # fmt: skip
    assert content["left_out"] == ["count_logreg"]
    assert "count_logreg" not in content["methods"]


def test_vectors_of_words_come_from_the_file_that_was_named(trainer: Shell, here: Path) -> None:
    (here / "words.toml").write_text(f'{QUICK}vectors = "words"\n', encoding="utf-8")
    logged = "".join((here / f"{name}.log").read_text() for name in ("hdfs", "openstack"))
    draw = np.random.default_rng(0)
    vectors = [
        " ".join([word, *(f"{number:.3f}" for number in draw.standard_normal(8))])
        for word in sorted(set(words_of(logged)))
    ]
    (here / "glove.txt").write_text("\n".join(vectors) + "\n", encoding="utf-8")
    words = (*EVALUATE, "--seeds", 1, "--method", "metalog", "--config", "words.toml")
    own, named = trainer.reports(*words), trainer.reports(*words, "--word-vectors", "glove.txt")
    assert (own["word_vectors"], named["word_vectors"]) == (None, "glove.txt")
    assert own["settings"] == named["settings"]
    assert own["methods"] != named["methods"]
    said = trainer.says(*words, "--word-vectors", "glove.txt", "--output", "found")
    assert "vectors of words from glove.txt" in said
    assert "Vectors of wordsfrom glove.txt" in Page(here / "found" / "evaluation.html").words


def test_what_the_page_needs_is_missed_before_any_work(
    trainer: Shell, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    (here / "hdfs.log").unlink()
    assert "needs Jinja2" in trainer.refuses(*EVALUATE, "--output", "found")
    assert not (here / "found").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "metalog", "--method", "logreg"), "--method logreg: of those that judge"),
        (("--ask", 50), "--ask has no effect with --method metalog"),
        (("--source", "hdfs=hdfs.log"), "the target itself cannot be a source"),
        (("--labels", "a.csv", "--labels", "b.csv"), "the target has one"),
        (("--word-vectors", "glove.txt"), "--word-vectors glove.txt has no effect without"),
        (("--label-share", 0, "--normal-share", 0.3), "--normal-share has no effect with"),
        (("--label-share", 0, "--method", "count_logreg"), "count_logreg learns from labels"),
        (("--method", "foo"), "count_clusters, never_seen, which judge sessions"),
        (("--sessions", "20 lines"), "sessions by '20 lines'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    trainer: Shell, words: tuple[object, ...], said: str
) -> None:
    assert said in trainer.refuses(*EVALUATE, *words)


def test_sessions_need_a_source(trainer: Shell) -> None:
    said = trainer.refuses("evaluate", "--target", "hdfs", "--log", "hdfs.log")
    assert "no source to learn from" in said


def test_options_of_sessions_are_refused_for_lines(trainer: Shell) -> None:
    words = ("evaluate", "--target", "hdfs", "--log", "hdfs.log", "--method", "logreg")
    for option in ("--config", "--word-vectors"):
        said = trainer.refuses(*words, option, "quick.toml")
        assert f"{option} has no effect with --method crosyslog" in said
