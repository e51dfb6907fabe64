"""What meta-training and adaptation learn, on sessions that are made up by a rule."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from crosyslog.errors import LabelError, SettingError
from crosyslog.logits import sigmoid
from crosyslog.manifest import SessionShape
from crosyslog.session_detector import _DIRECT_SCALE, SessionDetector
from crosyslog.session_scorer import judge_sessions
from tests.trainer.sessions.corpora import HERE, QUICK, THERE, corpus_of, log_of, made_corpus
from trainer.metrics import average_precision, count
from trainer.sessions import training
from trainer.sessions.estimates import Estimates, cluster_sessions, estimate_labels
from trainer.sessions.training import (
    Held,
    Lessons,
    SessionConfig,
    State,
    adapt_states,
    choose,
    meta_train,
    side_by_side,
)
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainer.sessions.corpus import SessionCorpus

#: What learns a rule whichever seed it gets; one network alone may be unlucky.
SURE = QUICK.model_copy(update={"members": 3, "steps": 24})

#: What a test of numbers alone takes.
SHORT = QUICK.model_copy(update={"steps": 6, "batch": 4})


#: What a process does that is to be interrupted: two that never end, unless they are told to.
FOREVER = """
import signal, threading, time
import polars  # whose handler of SIGINT lets system calls go on
from trainer.sessions.training import side_by_side

signal.signal(signal.SIGINT, signal.default_int_handler)
left = threading.Event()

def work(number):
    print(number, flush=True)
    while not left.is_set():
        time.sleep(0.01)

try:
    side_by_side(work, [1, 2], left)
except KeyboardInterrupt:
    raise SystemExit(130)
"""


@pytest.fixture(scope="module")
def here() -> SessionCorpus:
    return made_corpus(HERE, 100, "here")


@pytest.fixture(scope="module")
def there() -> SessionCorpus:
    return made_corpus(THERE, 150, "there", seed=1)


def known(corpus: SessionCorpus) -> Lessons:
    """All sessions with their labels."""
    truth = (corpus.labels == 1).astype(np.float32)
    return Lessons(corpus, np.arange(len(corpus)), Estimates(truth, np.ones_like(truth)))


def few_known(corpus: SessionCorpus, sessions: int, anomalous: int) -> Lessons:
    """The first sessions, of which so few anomalous ones have a label."""
    learnt = np.arange(sessions)
    labels = np.full(sessions, NO_LABEL, dtype=np.int8)
    labels[np.flatnonzero(corpus.labels[:sessions] == 1)[:anomalous]] = 1
    return Lessons(
        corpus, learnt, estimate_labels(cluster_sessions(corpus, learnt), labels, "normal")
    )


def logits_of(state: State, corpus: SessionCorpus, sessions: slice) -> NDArray[np.float32]:
    rows = corpus.rows.chosen(np.arange(len(corpus))[sessions])
    return judge_sessions(state.detector, corpus.vectors, rows)[0]


def precision_of(state: State, corpus: SessionCorpus, sessions: slice) -> float:
    return average_precision(corpus.labels[sessions] == 1, logits_of(state, corpus, sessions))


def weights_of(states: Sequence[State]) -> list[bytes]:
    return [
        b"".join(tensor.numpy().tobytes() for tensor in state.detector.state_dict().values())
        for state in states
    ]


def test_a_rule_is_learnt_on_a_source_and_helps_on_a_target(
    here: SessionCorpus, there: SessionCorpus
) -> None:
    target = few_known(there, 60, 3)
    last = meta_train([known(here)], target, SURE)[-1]
    assert precision_of(last, here, slice(None)) > 0.95
    assert precision_of(last, there, slice(60, None)) > 0.95


def test_what_the_source_taught_helps_before_the_target_has_shown_anything(
    here: SessionCorpus, there: SessionCorpus
) -> None:
    """Their anomalies share words, and those of a source that knows none have nothing to say."""
    draw = np.random.default_rng(5)
    truth = (draw.random(len(here)) < 0.2).astype(np.float32)
    random = Lessons(here, np.arange(len(here)), Estimates(truth, np.ones_like(truth)))
    config = SURE.model_copy(update={"seed": 4})
    taught, untaught = (
        np.max(
            [precision_of(state, there, slice(None)) for state in meta_train([one], None, config)]
        )
        for one in (known(here), random)
    )
    assert taught > 0.6 > untaught


def test_several_sources_take_the_part_of_the_target_in_turn(
    here: SessionCorpus, there: SessionCorpus
) -> None:
    last = meta_train([known(here), known(there)], None, QUICK)[-1]
    assert precision_of(last, here, slice(None)) > 0.95
    assert precision_of(last, there, slice(None)) > 0.95


def test_one_source_alone_takes_both_parts(here: SessionCorpus) -> None:
    last = meta_train([known(here)], None, QUICK)[-1]
    assert precision_of(last, here, slice(None)) > 0.95


@pytest.mark.parametrize("anomalous", [1, 2, 7, 20])
def test_each_half_of_a_source_has_both_kinds(here: SessionCorpus, anomalous: int) -> None:
    every = known(here)
    bad, good = (np.flatnonzero(here.labels == kind) for kind in (1, 0))
    some = np.sort(np.concatenate([bad[:anomalous], good]))
    lessons = Lessons(here, some, Estimates(*(part[some] for part in every.estimates)))
    for seed in range(5):
        halves = training._halves(lessons, np.random.default_rng(seed))
        for half in halves:
            np.testing.assert_array_equal(half.estimates.anomalous, here.labels[half.sessions] == 1)
            assert 0 < half.estimates.anomalous.sum() < len(half.sessions)
        together = np.concatenate([half.sessions for half in halves])
        assert np.unique(together).tolist() == some.tolist()
        assert len(together) == (2 * len(some) if anomalous == 1 else len(some))


def test_the_same_seed_gives_the_same_bytes(here: SessionCorpus, there: SessionCorpus) -> None:
    def trained(**changes: object) -> list[bytes]:
        config = SHORT.model_copy(update={"steps": 3} | changes)
        return weights_of(meta_train([known(here)], few_known(there, 60, 3), config))

    once = trained()
    torch.manual_seed(123)
    assert trained() == once
    others = {"seed": 1, "trial_rate": 0.0, "first_order": True, "beta": 2.0, "batch": 5,
              "dropout": 0.5, "rate": 1e-2, "weight_decay": 0.5}  # fmt: skip
    for name, value in others.items():
        assert trained(**{name: value})[-1] != once[-1], f"{name} has no effect"


def test_members_differ(here: SessionCorpus) -> None:
    states = meta_train([known(here)], None, SHORT.model_copy(update={"members": 2}))
    one, other = states[0].detector.each()
    for name, value in one.state_dict().items():
        assert not torch.equal(value, other.state_dict()[name]), name


def test_nothing_of_the_caller_is_changed(here: SessionCorpus) -> None:
    torch.manual_seed(3)
    before, vectors = torch.random.get_rng_state(), here.vectors.copy()
    base = meta_train([known(here)], None, SHORT)[-1]
    weights = weights_of([base])
    adapted = adapt_states(base.detector, known(here), SHORT)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(here.vectors, vectors)
    assert weights_of([base]) == weights
    assert weights_of(adapted[:1]) == weights != weights_of(adapted[-1:])
    for state in (base, *adapted):
        assert not state.detector.training
        assert not any(value.requires_grad for value in state.detector.parameters())


@pytest.mark.parametrize(
    ("steps", "kept", "expected"),
    [(12, 4, [3, 6, 9, 12]), (6, 1, [6]), (1, 1, [1]), (3, 12, [1, 2, 3]), (10, 3, [3, 7, 10])],
)
def test_states_are_kept_evenly_and_are_those_of_their_step(
    here: SessionCorpus, steps: int, kept: int, expected: list[int]
) -> None:
    config = SHORT.model_copy(update={"steps": steps, "kept": kept, "members": 2, "batch": 2})
    told: list[int] = []
    states = meta_train([known(here)], None, config, lambda step, _: told.append(step))
    assert [state.step for state in states] == expected
    assert told == list(range(1, 2 * steps + 1))
    assert len(set(weights_of(states))) == len(expected)
    # More of them are the same where they are of the same step.
    all_kept = meta_train([known(here)], None, config.model_copy(update={"kept": steps}))
    assert [state.step for state in all_kept] == list(range(1, steps + 1))
    by_step = dict(zip(range(1, steps + 1), weights_of(all_kept), strict=True))
    assert weights_of(states) == [by_step[step] for step in expected]


def test_adaptation_begins_at_the_base(here: SessionCorpus, there: SessionCorpus) -> None:
    base = meta_train([known(here)], None, QUICK)[-1].detector
    states = adapt_states(base, few_known(there, 60, 3), QUICK)
    assert [state.step for state in states] == [0, 6, 12, 18, 24]
    assert weights_of(states[:1]) == weights_of([State(0, base)])
    assert precision_of(states[-1], there, slice(60, None)) > 0.95


def test_draws_are_of_both_kinds_alike_and_as_likely_as_their_weight(here: SessionCorpus) -> None:
    anomalous = np.array([1, 0, 0, 0, 0.5], dtype=np.float32)
    weights = np.array([1, 1, 1, 0, 1], dtype=np.float32)
    shares = Lessons(here, np.arange(5), Estimates(anomalous, weights)).shares()
    assert shares == pytest.approx([1 / 3, 0.2, 0.2, 0, 1 / 6 + 0.1])
    alone = Lessons(here, np.arange(2), Estimates(anomalous[1:3], weights[1:3])).shares()
    assert alone == pytest.approx([0.5, 0.5])


def test_lessons_without_any_session_are_refused_in_one_line(here: SessionCorpus) -> None:
    nothing = np.zeros(3, dtype=np.float32)
    lessons = Lessons(here, np.arange(3), Estimates(nothing, nothing))
    with pytest.raises(LabelError) as caught:
        meta_train([lessons], None, SHORT)
    assert str(caught.value) == "here has no session to learn from"


def test_of_a_long_session_a_part_is_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_LONGEST_LEARNT", 5)
    rng = np.random.default_rng(0)
    lines = np.arange(12)
    parts = {tuple(training._cut(lines, rng).tolist()) for _ in range(200)}
    assert parts == {tuple(range(start, start + 5)) for start in range(8)}
    assert training._cut(lines[:5], rng).tolist() == [0, 1, 2, 3, 4]
    long = corpus_of(
        log_of(
            [*HERE.routine, *HERE.bad],
            [np.tile(np.arange(5), 4), np.arange(7)],
            np.array([0, 1], dtype=np.int8),
        )
    )
    batch = training._Drawing(known(long)).draw(32, 0, rng)
    assert batch.vectors_BLD.shape == (32, 5, 17)
    assert set(batch.anomalous_B.tolist()) == {0, 1}


class Fixed(SessionDetector):
    """Gives each session the logit that its first line's vector begins with."""

    def __init__(self, scale: float) -> None:
        super().__init__(SessionShape(dim=2, hidden=1, layers=1))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.each()[0].direct.weight[0, 0] = scale / _DIRECT_SCALE


def test_the_state_with_the_best_average_precision_is_chosen_and_its_best_threshold() -> None:
    draw = np.random.default_rng(0)
    held, states = (
        [],
        [State(step, Fixed(scale)) for step, scale in ((1, -1), (2, 1), (3, 1), (4, 0))],
    )
    for name, many in (("one", 20), ("other", 40)):
        angles = draw.uniform(0, np.pi, many)
        vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
        labels = (vectors[:, 0] + draw.normal(0, 0.5, many) > 0.3).astype(np.int8)
        log = log_of([f"t{row}" for row in range(many)], list(np.arange(many)[:, None]), labels)
        corpus = corpus_of(log, name)
        object.__setattr__(corpus, "vectors", vectors)
        held.append(Held(corpus, np.arange(2, many)))
    chosen = choose(states, held, "those of the test")
    logits = {
        state.step: [
            judge_sessions(state.detector, one.corpus.vectors, one.corpus.rows)[0][2:]
            for one in held
        ]
        for state in states
    }
    precisions = {
        step: np.mean(
            [average_precision(one.labels, own) for one, own in zip(held, each, strict=True)]
        )
        for step, each in logits.items()
    }
    assert precisions[2] == precisions[3] == max(precisions.values()) > precisions[1]
    assert chosen.state.step == 2
    assert chosen.average_precision == pytest.approx(precisions[2])
    assert chosen.threshold.chosen == "best F1 on those of the test"

    def mean_f1(threshold: float) -> float:
        return float(
            np.mean(
                [
                    count(sigmoid(own) >= threshold, one.labels, one.labels).f1
                    for one, own in zip(held, logits[2], strict=True)
                ]
            )
        )

    best = max(mean_f1(float(value)) for value in sigmoid(np.concatenate(logits[2])))
    assert chosen.f1 == pytest.approx(best)
    assert mean_f1(chosen.threshold.value) == pytest.approx(best)


def test_a_session_without_a_label_is_not_held_for_anomalous() -> None:
    labels = np.array([1, 0, NO_LABEL], dtype=np.int8)
    corpus = corpus_of(log_of(list(HERE.routine), list(np.arange(3)[:, None]), labels))
    assert Held(corpus, np.array([2, 0])).labels.tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong",
    [{"vectors": "letters"}, {"hidden": 0}, {"layers": 9}, {"members": 17}, {"steps": 0},
     {"batch": 1}, {"trial_rate": -0.1}, {"beta": 0}, {"rate": 0}, {"kept": 0}, {"colour": 1}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SessionConfig.model_validate(wrong)


def test_the_settings_say_the_networks_form() -> None:
    config = SessionConfig(vectors="words", hidden=7, layers=3, members=2)
    assert config.shape(50) == SessionShape(dim=50, vectors="words", hidden=7, layers=3, members=2)


def test_ctrl_c_ends_what_is_done_side_by_side() -> None:
    process = subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()


def test_what_one_raises_ends_the_others() -> None:
    left = threading.Event()

    def work(number: int) -> None:
        if number:
            raise LabelError("no")
        assert left.wait(20)

    with pytest.raises(LabelError, match="no"):
        side_by_side(work, [0, 1], left)


def test_a_training_that_comes_to_nothing_is_refused(here: SessionCorpus) -> None:
    vectors = here.vectors.copy()
    vectors[0, 0] = np.nan
    broken = known(replace(here, vectors=vectors))
    with pytest.raises(SettingError, match="came to nothing at step 1: "):
        meta_train([broken], None, SHORT)
