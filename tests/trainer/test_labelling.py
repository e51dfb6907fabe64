"""Asking in rounds: what is asked, in which order, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.manifest import EncoderReference
from crosyslog.threads import torch_threads
from tests.fakes import FakeEncoder
from tests.trainer.evidenced import RIGHT, evidence_base, evidence_stream
from trainer import labelling as labelling_module
from trainer.asking import ROUND
from trainer.label_screen import ask
from trainer.labelled_lines import KnownVectors
from trainer.labelling import Labelling, Question, labelling_of
from trainer.template_labels import Answer, Answers
from trainer.whole_logs import NO_LABEL, WholeLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.example_lines import Example


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "target" / "labels.csv"


def history() -> WholeLog:
    """A log of which nobody knows a label."""
    stream = evidence_stream("target", 9, 3_000)
    used, rows = np.unique(stream.rows, return_inverse=True)
    templates = [stream.templates[row] for row in used.tolist()]
    encoder = FakeEncoder()
    vectors = KnownVectors(
        EncoderReference(id=encoder.id, name=encoder.name, dim=encoder.dim),
        {template: row for row, template in enumerate(templates)},
        stream.vectors[used].astype(np.float16),
    )
    none = np.full(len(rows), NO_LABEL, dtype=np.int8)
    return WholeLog(templates, rows.astype(np.int64), none, np.arange(3_000.0), vectors)


def opened(kept: Path, log: WholeLog | None = None) -> Labelling:
    return labelling_of(log or history(), evidence_base("one", "two", "three"), Answers(kept))


def truth(template: str) -> bool:
    return template.split(" ")[1] not in RIGHT


def answer_round(labelling: Labelling) -> list[Question]:
    asked = labelling.questions()
    for question in asked:
        labelling.answer(question, truth(question.template))
    return asked


def test_a_round_asks_for_what_stands_for_the_most_lines(kept: Path) -> None:
    labelling = opened(kept)
    first = labelling.questions()
    assert len({question.template for question in first}) == len(first) == ROUND
    assert all(question.before is None and question.lines > 0 for question in first)
    assert labelling.progress().coverage.labelled == 0
    answer_round(labelling)
    progress = labelling.progress()
    lines = sum(question.lines for question in first)
    assert progress.coverage.labelled == pytest.approx(lines / 3_000)
    assert progress.coverage.alike >= progress.coverage.labelled
    assert progress.normal + progress.alerts == ROUND
    assert labelling.round == 2


def test_the_model_learns_from_the_answers(kept: Path) -> None:
    labelling = opened(kept)
    for _ in range(3):
        answer_round(labelling)
    last = labelling.questions()
    new = [question for question in last if question.before is None]
    right = [labelling.guess(question) == truth(question.template) for question in new]
    assert np.mean(right) > 0.8
    progress = labelling.progress()
    assert progress.precision is not None
    assert progress.recall is not None
    assert progress.recall.cases == progress.alerts


def test_whoever_comes_back_finds_the_same_questions(kept: Path) -> None:
    labelling = opened(kept)
    answer_round(labelling)
    second = labelling.questions()
    for question in second[:7]:
        labelling.answer(question, truth(question.template))
    again = opened(kept)
    assert again.round == 2
    assert [one.template for one in again.questions()] == [one.template for one in second[7:]]


def test_an_answer_that_is_taken_back_is_asked_for_again(kept: Path) -> None:
    labelling = opened(kept)
    asked = labelling.questions()
    assert not labelling.undo()
    for question in asked[:3]:
        labelling.answer(question, alert=True)
    assert labelling.undo()
    assert labelling.questions() == asked[2:]
    for question in asked[2:]:
        labelling.answer(question, truth(question.template))
    assert labelling.round == 2
    assert labelling.undo()
    assert labelling.round == 1
    assert labelling.questions() == asked[-1:]


def test_labels_that_the_others_contradict_are_asked_for_once_more(kept: Path) -> None:
    labelling = opened(kept)
    wrong = set()
    for _ in range(2):
        for place, question in enumerate(labelling.questions()):
            said = truth(question.template)
            if place % 7 == 3 and question.before is None:
                wrong.add(question.template)
                said = not said
            labelling.answer(question, said)
    doubted = [template for template, _ in labelling.progress().contradicted]
    assert set(doubted[:2]) <= wrong
    asked: list[str] = []
    for _ in range(4):
        again = [one for one in labelling.questions() if one.before is not None]
        assert len(again) <= ROUND // 10
        assert all(one.before != truth(one.template) for one in again if one.template in wrong)
        asked += [one.template for one in again]
        answer_round(labelling)
    assert len(set(asked)) == len(asked)
    assert set(asked) & wrong
    for template in set(asked) & wrong:
        assert labelling.answers.labels()[template] == truth(template)


def test_what_nobody_can_tell_is_no_label_and_is_not_asked_again(kept: Path) -> None:
    labelling = opened(kept)
    odd = labelling.questions()[0]
    labelling.answer(odd, None)
    seen = []
    for _ in range(2):
        seen += [question.template for question in answer_round(labelling)]
    assert odd.template not in seen
    assert odd.template not in labelling.answers.labels()
    assert labelling.progress().unsure == 1


def test_it_ends_when_every_template_has_an_answer(kept: Path) -> None:
    labelling = opened(kept)
    asked = [one.template for _ in range(20) for one in answer_round(labelling) if not one.before]
    assert labelling.questions() == []
    assert set(asked) == set(history().templates)
    assert labelling.progress().coverage == labelling_module.Coverage(1.0, 1.0)


def test_suggestions_are_templates_without_answer(kept: Path) -> None:
    labelling = opened(kept)
    before = {question.template for question in answer_round(labelling)}
    suggested = [question.template for question in labelling.suggestions(50)]
    assert len(set(suggested)) == 50
    assert not before & set(suggested)


def test_labels_of_templates_that_the_log_lacks_teach_all_the_same(kept: Path) -> None:
    log = history()
    gone, *left = log.templates
    rows = log.rows[log.rows > 0] - 1
    encoder = FakeEncoder()
    fewer = WholeLog(left, rows, log.labels[: len(rows)], log.times[: len(rows)])
    Answers(kept).add([Answer(gone, truth(gone)), Answer("never seen", None)])
    labelling = Labelling(
        [*left, gone, "never seen"],
        encoder.encode([*left, gone, "never seen"]),
        np.append(fewer.counts, [0, 0]),
        len(rows),
        evidence_base("one", "two", "three"),
        Answers(kept),
    )
    asked = answer_round(labelling)
    assert not {gone, "never seen"} & {question.template for question in asked}
    assert labelling.progress().normal + labelling.progress().alerts == ROUND + 1


def test_the_most_frequent_templates_can_be_asked_for(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling_module, "MOST_CANDIDATES", 10)
    log = history()
    labelling = opened(kept, log)
    asked = {question.template for question in labelling.questions()}
    frequent = np.sort(log.counts)[-10]
    assert len(asked) == 10
    assert all(question.lines >= frequent for question in labelling.questions())


def test_a_guess_has_a_reason(kept: Path) -> None:
    labelling = opened(kept)
    first, second, *_ = labelling.questions()
    assert " of one" in (said := labelling.reason(first)) or " of t" in said
    labelling.answer(first, alert=True)
    assert f"like `{first.template}` (alert)" in labelling.reason(second)
    alarming = next(one for one in labelling.suggestions(100) if "failure" in one.template)
    assert "says failure" in labelling.reason(alarming)


# --- in a terminal


class NoExamples:
    def of(self, _: Sequence[Question]) -> dict[int, list[Example]]:
        return {}


def pressed(kept: Path, keys: str) -> Labelling:
    labelling, left = opened(kept), iter(keys)
    ask(labelling, NoExamples(), lambda: next(left))
    return labelling


def test_a_key_is_an_answer(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = opened(kept).questions()
    pressed(kept, "nAuq")
    assert list(Answers(kept).last().items()) == [
        (asked[0].template, False),
        (asked[1].template, True),
        (asked[2].template, None),
    ]
    shown = capsys.readouterr().out
    assert shown.count("n normal, a anomaly, u unsure, z undo, q quit: ") == 4
    assert f"{asked[0].lines:,} lines, {asked[0].lines / 3_000:.2%} of the log" in shown
    assert "guess: " in shown


def test_other_keys_are_no_answers(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = iter(["\x1b[A", "nn", "", "x", "n", "q"])
    ask(opened(kept), NoExamples(), lambda: next(left))
    assert len(Answers(kept)) == 1
    # The keys are named again once, and with the next question.
    assert capsys.readouterr().out.count("q quit: ") == 3


def test_undo_goes_back(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pressed(kept, "znaz\x7faq")
    assert list(Answers(kept).last().values()) == [True]
    assert "there is nothing to undo" in capsys.readouterr().out


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_a_user_who_goes_away_has_lost_nothing(kept: Path, end: type[BaseException]) -> None:
    keys = iter(["n"])

    def key() -> str:
        for each in keys:
            return each
        raise end

    ask(opened(kept), NoExamples(), key)
    assert len(Answers(kept)) == 1


def test_after_a_round_it_says_where_the_labelling_stands(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelling = opened(kept)
    keys = iter("an" * (ROUND // 2) + "q")
    ask(labelling, NoExamples(), lambda: next(keys))
    shown = capsys.readouterr().out
    assert "round 1 is done" in shown
    assert "10 normal, 10 alert, 0 unsure" in shown
    assert "of the lines; " in shown
    assert "round 2, 20 to go" in shown
    if labelling.progress().contradicted:
        assert "once more, please: you called this" in shown
