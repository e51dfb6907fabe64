"""The detector `evidence` under the honest protocol: it asks in rounds, and knows no query."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from crosyslog.bundle import write_bundle
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import SettingError, StoreError
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder
from tests.trainer.evidenced import evidence_base, evidence_stream
from trainer.based_methods import BasedMethods
from trainer.bases_to_judge import bases_for
from trainer.evaluation import judge
from trainer.protocol import Plan, draw, fewer, known_before

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.evaluation import MethodResult
    from trainer.tasks import LabelledStream

ASK = Plan(ask=30, history=5_000, query=5_000, seeds=1, tasks=2)


def judged(stream: LabelledStream, plan: Plan) -> MethodResult:
    based = BasedMethods(
        evidence_base("one", "two", "three"),
        stream,
        pl.Series("offset", np.arange(len(stream))),
        plan=plan,
        system=load_system("plain"),
        encoder=FakeEncoder(),
        cache=EmbeddingCache(),
    )
    tasks = replace(draw(evidence_stream("four", 9).labels, plan), outside=[])
    return judge(stream, tasks, [("crosyslog", based.method("crosyslog"))], plan)["crosyslog"]


def test_it_finds_alerts_it_was_given_no_label_for() -> None:
    for plan in (ASK, replace(ASK, at_once=True)):
        counts = judged(evidence_stream("four", 9), plan).counts
        assert min(each.f1 for each in counts) > 0.8
        assert sum(each.unseen_hits for each in counts) > 0


def test_no_label_of_a_query_reaches_the_rounds() -> None:
    stream = evidence_stream("four", 9)
    task = draw(stream.labels, replace(ASK, tasks=1)).tasks
    middle = task[0][1] + ASK.history
    labels = stream.labels.copy()
    labels[middle:] = ~labels[middle:]
    labels[: task[0][1]] = ~labels[: task[0][1]]
    before, after = (
        judged(each, replace(ASK, tasks=1)) for each in (stream, replace(stream, labels=labels))
    )
    assert before.scores[0].tolist() == after.scores[0].tolist()


def test_the_history_answers_what_most_lines_of_a_template_are() -> None:
    stream = evidence_stream("four", 9)
    known = known_before(stream, 0, 100, ASK)
    assert known.history is not None
    assert known.history.answers == 30
    rows = np.unique(known.history.rows)
    said = [known.history.answer(row) for row in rows.tolist()]
    assert said == [" of four" in stream.templates[row] for row in rows.tolist()]
    less = fewer(known, 20, ASK).history
    assert less is not None
    assert less.answers == 20
    assert known_before(stream, 0, 100, replace(ASK, at_once=True)).history is None
    assert known_before(stream, 0, 100, replace(ASK, ask=None)).history is None


def test_a_wrong_answer_can_be_put_right_by_asking_again() -> None:
    known = known_before(evidence_stream("four", 9), 0, 100, replace(ASK, wrong_labels=0.3))
    assert known.history is not None
    row = int(known.history.rows[0])
    said = [known.history.answer(row) for _ in range(400)]
    assert 0.2 < min(np.mean(said), 1 - np.mean(said)) < 0.4


def test_at_once_is_about_templates() -> None:
    with pytest.raises(SettingError, match="--at-once is about templates"):
        Plan(at_once=True)


def test_a_folder_of_evidence_leaves_the_lstm_out(tmp_path: Path) -> None:
    base = evidence_base("one", "two", "three")
    write_bundle(tmp_path / "mine", base.manifest, base.detector, base.support)
    folder, plain = str(tmp_path / "mine"), load_system("plain")

    def bases(*, asked_for: list[str]) -> list[str]:
        methods = asked_for or ["logreg", "maml_lstm", "crosyslog"]
        found = bases_for(
            methods, folder, [], None, target="four", system=plain, asked_for=asked_for
        )
        return list(found)

    assert bases(asked_for=[]) == ["crosyslog"]
    with pytest.raises(StoreError, match="is of the detector evidence, and maml_lstm is asked"):
        bases(asked_for=["maml_lstm"])


def test_a_shipped_base_gives_each_method_its_detector() -> None:
    found = bases_for(
        ["maml_lstm", "crosyslog"], None, [], None, target="bgl", system=load_system("bgl"),
        asked_for=[],
    )  # fmt: skip
    kinds = {name: load().manifest.detector.kind for name, load in found.items()}
    assert kinds == {"maml_lstm": "maml_lstm", "crosyslog": "evidence"}
    assert {load().manifest.target for load in found.values()} == {"without-bgl"}


def test_one_base_is_shared_by_its_methods() -> None:
    found = bases_for(
        ["maml_lstm", "crosyslog"], "bgl-liberty", [], "maml_lstm", target="four",
        system=load_system("plain"), asked_for=[],
    )  # fmt: skip
    assert found["maml_lstm"]() is found["crosyslog"]()


def test_one_source_alone_is_refused_before_any_work() -> None:
    with pytest.raises(SettingError, match="alone cannot train the detector evidence"):
        bases_for(
            ["crosyslog"], None, ["bgl=nowhere"], None, target="four",
            system=load_system("plain"), asked_for=[],
        )  # fmt: skip
