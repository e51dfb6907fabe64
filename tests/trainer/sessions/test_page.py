"""The page of an evaluation of sessions: complete, and harmless whatever a log holds."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pytest

from crosyslog.errors import SettingError, ToolMissingError
from crosyslog.terminal import printable
from tests.trainer.evaluated import HOSTILE
from tests.trainer.page_reader import Page
from tests.trainer.sessions.corpora import HERE, QUICK, THERE, corpus_of, log_of, made_corpus
from trainer.metrics import Counts
from trainer.sessions.evaluation import OURS, PLAIN, SessionEvaluation, SessionResult
from trainer.sessions.inspection import SessionDetails, WrongSessions, inspect_sessions
from trainer.sessions.page import _EXPLAINED, write_session_page
from trainer.sessions.report import SessionReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.sessions.corpus import SessionCorpus

CONFIG = QUICK.model_copy(update={"steps": 6, "kept": 2, "batch": 8})
METHODS = [OURS, PLAIN, "count_logreg", "count_clusters", "never_seen"]


class Judged(NamedTuple):
    """An evaluation, and what is said of it."""

    evaluation: SessionEvaluation
    results: dict[str, SessionResult]
    content: dict[str, Any]
    details: dict[str, SessionDetails]


def judged(
    target: SessionCorpus,
    *,
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = (0, 1),
    share: float = 0.5,
) -> Judged:
    source = made_corpus(HERE, 60, "here")
    evaluation = SessionEvaluation(target, [source], CONFIG, share, 0.5)
    results = evaluation.judge(methods, seeds)
    return told(evaluation, results, seeds, share)


def told(
    evaluation: SessionEvaluation,
    results: dict[str, SessionResult],
    seeds: Sequence[int] = (0, 1),
    share: float = 0.5,
) -> Judged:
    report = SessionReport(
        evaluation, ["there.log"], "key", share, 0.5, list(seeds), CONFIG, None, results
    )
    return Judged(evaluation, results, report.content(), inspect_sessions(evaluation, results))


@pytest.fixture(scope="module")
def target() -> SessionCorpus:
    """Ten of the judged sessions are called what they are not, so that any method errs."""
    made = made_corpus(THERE, 100, "there", seed=1)
    labels = made.labels.copy()
    labels[50:60] ^= 1
    return replace(made, labels=labels)


@pytest.fixture(scope="module")
def every(target: SessionCorpus) -> Judged:
    """All methods, on two seeds."""
    return judged(target)


@pytest.fixture(scope="module")
def whole(every: Judged, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page with every part."""
    return page(tmp_path_factory.mktemp("whole"), every.content, every.details)


def page(folder: Path, said: dict[str, Any], known: Mapping[str, SessionDetails]) -> Page:
    return Page(write_session_page(said, known, folder))


def test_every_figure_of_every_method_is_there(every: Judged, whole: Page) -> None:
    assert list(every.content["methods"]) == METHODS
    for name, figures in every.content["methods"].items():
        f1, best = figures["f1"], figures.get("f1_of_best_state_on_judged")
        result, (row,) = every.results[name], whole.rows_of(name)
        network = name in {OURS, PLAIN}
        assert (best is not None) == network
        assert row[1:] == [
            f"{f1['mean']:.3f}",
            f"{f1['low']:.3f}-{f1['high']:.3f} ",
            *(f"{figures[key]:.3f}" for key in ("precision", "recall", "auprc", "unseen_recall")),
            f"{figures['false_alerts_per_10k']:,.1f}",
            f"{best['mean']:.3f} {best['low']:.3f}-{best['high']:.3f}" if best else "-",
            f"{result.seconds / 2:,.1f} s",
            f"{result.judged / result.judging_seconds:,.0f}" if network else "-",
        ]


def test_methods_and_settings_are_explained(
    every: Judged, whole: Page, target: SessionCorpus, tmp_path: Path
) -> None:
    assert set(_EXPLAINED) == set(METHODS)
    for name, said in _EXPLAINED.items():
        assert f"{name}{said}" in whole.words
    for name, value in every.content["settings"].items():
        assert f"{name} {value if isinstance(value, str) else json.dumps(value)}" in whole.words
    alone = judged(target, methods=["never_seen"])
    said = page(tmp_path, alone.content, alone.details).words
    assert _EXPLAINED["never_seen"] in said
    assert _EXPLAINED[OURS] not in said
    assert "of the networks:" not in said


def test_what_was_judged_is_said(every: Judged, whole: Page) -> None:
    content = every.content
    support = content["support"]
    for said in (
        f"there.log: 100 sessions by key, {content['anomalous']} of them anomalous",
        "Trained onhere",
        "the first 30 sessions",
        f"of {support['size']} of {support['anomalous']} anomalous ones",
        f"and {support['normal_size']} of {support['normal']} normal ones",
        "10 sessions after them",
        f"the last 60 sessions, {content['query_anomalous']} of them anomalous",
        "Seeds0, 1",
    ):
        assert said in whole.words
    assert whole.title == "there: evaluation on there.log"


def test_the_figure_that_knew_the_answers_says_so(
    every: Judged, whole: Page, tmp_path: Path
) -> None:
    assert "F1 of best state on judged no result\xa0†" in whole.rows[0]
    assert "is chosen by the labels that are judged" in whole.words
    assert "Nothing is chosen on them but the figure that says so in its name." in whole.words
    content = copy.deepcopy(every.content)
    for name in (OURS, PLAIN):
        del content["methods"][name]
    bare = page(tmp_path, content, {})
    assert "best state" not in bare.text
    assert "no result" not in bare.text
    assert "Nothing is chosen on them." in bare.words


def test_curves_of_all_methods_are_drawn(every: Judged, whole: Page) -> None:
    for name, details in every.details.items():
        assert details.recall == sorted(details.recall), name
        assert details.recall[-1] == 1
        assert 0 <= min(details.precision) <= max(details.precision) <= 1
        # The area under the mean curve is the mean of the areas.
        area = np.mean(details.precision[1:])
        assert area == pytest.approx(every.content["methods"][name]["auprc"], abs=0.02), name
    assert whole.values("role").count("img") == 1
    # In the table of methods, where they are explained, and in the legend.
    assert whole.text.count("count_clusters") == 3


def by_hand() -> tuple[SessionEvaluation, SessionResult]:
    """Twelve sessions to judge, and a method that takes four of them for what they are not."""
    learnt = [[0, 1], [0, 1], [0, 2], [0, 1], [0], [0], [0]]
    judging = [[0, 1, 2], [0, 0], [1, 2, 0], [0, 3, 4, 1], [0, 1], *[[0]] * 7]
    rows = [np.array(one) for one in (*learnt, *judging)]
    labels = np.array([1, *[0] * 4, 1, 0, 0, 1, 0, 1, 1, *[0] * 7], dtype=np.int8)
    texts = ["start", "work", "rest", "burn", "crash"]
    target = replace(corpus_of(log_of(texts, rows, labels), "there"), texts=texts)
    evaluation = SessionEvaluation(target, [made_corpus(HERE, 60)], CONFIG, 0, 0)
    assert len(evaluation.parts.learnt) == 5
    assert evaluation.judged[0] == 7
    truth = evaluation.truth
    flagged = [truth.copy(), truth.copy()]
    flagged[0][[0, 1]] ^= True
    flagged[1][[1, 2, 3]] ^= True
    result = SessionResult(
        counts=[Counts(1, 1, 1, 1)] * 2,
        average_precisions=[0.5, 0.5],
        scores=[one.astype(np.float32) for one in flagged],
        flagged=flagged,
    )
    return evaluation, result


def test_what_was_judged_wrong_is_there(tmp_path: Path) -> None:
    evaluation, result = by_hand()
    said = told(evaluation, {"never_seen": result, OURS: result}, share=0)
    assert said.details["never_seen"].wrong is None
    wrong = said.details[OURS].wrong
    assert wrong is not None
    assert (wrong.missed, wrong.false_alerts) == (2, 2)
    shown = page(tmp_path, said.content, said.details)
    # Missed ones first, of either kind those of more seeds first. The rarest text is the first of
    # those that no session to learn from holds, and of the others that of the fewest.
    assert shown.rows[-4:] == [
        ["s8start", "missed", "2 of 2", "2", "5"],
        ["s10burn", "missed", "1 of 2", "4", "0"],
        ["s7rest", "false alert", "1 of 2", "3", "1"],
        ["s9rest", "false alert", "1 of 2", "3", "1"],
    ]
    assert "What metalog judged wrong" in shown.headings
    assert "2 anomalous sessions were missed in at least one seed" in shown.words
    assert "2 normal ones were false alerts" in shown.words


def test_without_a_network_the_first_method_is_looked_at() -> None:
    evaluation, result = by_hand()
    details = inspect_sessions(evaluation, {"never_seen": result, "count_clusters": result})
    assert details["never_seen"].wrong is not None
    assert details["count_clusters"].wrong is None
    assert inspect_sessions(evaluation, {}) == {}


def test_nothing_wrong_is_said_too(every: Judged, tmp_path: Path) -> None:
    right = {OURS: replace(every.details[OURS], wrong=WrongSessions(0, 0, []))}
    assert "Nothing was judged wrong." in page(tmp_path, every.content, right).text


@pytest.mark.parametrize(
    ("wrong", "missed", "false_alerts"), [((240, 240), 50, 50), ((10, 240), 10, 90)]
)
def test_endless_logs_make_no_endless_page(
    wrong: tuple[int, int], missed: int, false_alerts: int, tmp_path: Path
) -> None:
    target = made_corpus(THERE, 1_000, "there", every=2)
    evaluation = SessionEvaluation(target, [made_corpus(HERE, 60)], CONFIG, 0, 0)
    flagged = evaluation.truth.copy()
    for kind, many in zip((True, False), wrong, strict=True):
        flagged[np.flatnonzero(evaluation.truth == kind)[:many]] ^= True
    result = SessionResult(
        counts=[Counts()],
        average_precisions=[0.0],
        scores=[flagged.astype(np.float32)],
        flagged=[flagged],
    )
    said = told(evaluation, {OURS: result}, [0], 0)
    shown = page(tmp_path, said.content, said.details)
    kinds = [row[1] for row in shown.rows if row[0].startswith("s") and row[2:]]
    assert [kinds.count(kind) for kind in ("missed", "false alert")] == [missed, false_alerts]
    assert f"And {sum(wrong) - 100} more sessions." in shown.words


def test_text_of_a_log_is_shown_as_text(every: Judged, whole: Page, tmp_path: Path) -> None:
    target = every.evaluation.target
    hostile = replace(
        target,
        name=HOSTILE,
        keys=[HOSTILE] * len(target),
        texts=[HOSTILE + "b" * 5000] * len(target.texts),
    )
    evaluation = copy.copy(every.evaluation)
    evaluation.target = hostile
    said = told(evaluation, every.results)
    content = said.content | {"file": HOSTILE, "sources": [HOSTILE]}
    content["methods"][HOSTILE] = content["methods"].pop(OURS)
    details = dict(said.details)
    details[HOSTILE] = details.pop(OURS)
    shown = page(tmp_path, content, details)
    wrong = details[HOSTILE].wrong
    assert wrong is not None
    assert len(wrong.shown) > 3
    # In the title and above the table, twice each, as a source, as a method, and of each session.
    assert shown.text.count(printable(HOSTILE)) >= 7 + 2 * len(wrong.shown)
    assert not set(shown.tags) - set(whole.tags)
    assert "{{ 7 * 7 }}" in shown.text
    assert not set("\x00\x1b\u202e") & set(shown.source)
    assert "more characters)" in shown.text
    assert "b" * 1001 not in shown.text


def test_it_asks_for_nothing(whole: Page) -> None:
    whole.must_ask_for_nothing()


def test_everybody_can_read_it(whole: Page) -> None:
    scopes = [value for tag, name, value in whole.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == whole.tags["th"]
    assert whole.tags["caption"] == whole.tags["table"] == 2
    assert len(whole.values("id")) == len(set(whole.values("id")))
    targets = {value.removeprefix("#") for value in whole.values("href")}
    assert targets <= set(whole.values("id"))


def test_the_same_input_gives_the_same_bytes(every: Judged, whole: Page, tmp_path: Path) -> None:
    with mpl.rc_context({"axes.facecolor": "black", "svg.fonttype": "path"}):
        again = write_session_page(every.content, every.details, tmp_path)
    assert again.name == "evaluation.html"
    assert again.read_text(encoding="utf-8") == whole.source


def test_it_opens_without_details(every: Judged, tmp_path: Path) -> None:
    shown = page(tmp_path, every.content, {})
    assert shown.headings == ["Evaluation on there", "How it was measured", "Methods"]
    assert [row[-2:] for row in shown.rows[1:]] == [["-", "-"]] * len(METHODS)
    assert "None" not in shown.text


def test_without_labels_of_the_target_the_page_says_so(
    target: SessionCorpus, tmp_path: Path
) -> None:
    said = judged(target, methods=["count_logreg", "never_seen"], seeds=[3], share=0)
    shown = page(tmp_path, said.content, said.details)
    assert "No label of the target is used" in shown.words
    assert "count_logreg needs labels and is left out." in shown.words
    assert not shown.rows_of("count_logreg")
    assert "sessions after them" not in shown.words
    # One seed has no interval.
    assert "Seed3" in shown.words
    assert "There is one seed: the spread is unknown." in shown.words
    assert shown.rows_of("never_seen")[0][2] == "-"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("hdfs-Reconstructed.log.gz", "Measured on a reconstructed log"),
        ("simulated-7.log", "Measured on a simulated log"),
        ("hdfs.log", ""),
    ],
)
def test_no_stand_in_for_a_log_goes_unsaid(
    every: Judged, file: str, said: str, tmp_path: Path
) -> None:
    shown = page(tmp_path, every.content | {"file": file}, {})
    assert said in shown.words
    assert ("not on the original" in shown.words) == bool(said)
    assert file in shown.title


@pytest.mark.parametrize(
    ("rule", "said"), [("key", "by key,"), ("20", "of 20 lines,"), ("300s", "of 300s,")]
)
def test_what_makes_a_session_is_said(every: Judged, rule: str, said: str, tmp_path: Path) -> None:
    shown = page(tmp_path, every.content | {"sessions_by": rule}, {})
    assert f"100 sessions {said}" in shown.words


def test_a_folder_that_cannot_be_written_is_one_line(every: Judged, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingError, match="taken: it cannot be written") as refused:
        write_session_page(every.content, {}, tmp_path / "taken")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("tool", ["jinja2", "matplotlib"])
def test_a_missing_tool_says_what_to_install(
    every: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(ToolMissingError, match=r"install the extra crosyslog\[trainer\]"):
        write_session_page(every.content, {}, tmp_path / "none")
    assert not (tmp_path / "none").exists()
