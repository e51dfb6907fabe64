"""The honest protocol: what is drawn, what a method may know, and what is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import LabelError, SettingError
from crosyslog.scorer import Scorer
from crosyslog.systems import load_system
from tests.trainer.made import messages
from trainer.adaptation import adapt
from trainer.based_methods import BASED, BasedMethods, refuse_known
from trainer.baselines import BASELINES, Judgement, Known
from trainer.evaluation import by_rule, check_methods, judge
from trainer.protocol import Drawn, Plan, draw
from trainer.report import Evaluation, show_evaluation
from trainer.tasks import REASONS, LabelledStream, labelled_stream, positions, verdicts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from tests.fakes import FakeEncoder
    from trainer.based_methods import Method

METHODS = (*BASELINES, *BASED)
SMALL = Plan(support=200, query=1000, seeds=2, tasks=3)


class Judges:
    """All methods over one small stream."""

    def __init__(self, base: Bundle, encoder: FakeEncoder) -> None:
        texts, labels = messages(5000)
        # As if some lines of the log had no label: places are not row numbers.
        self.offsets = pl.Series("offset", np.arange(5000) + np.arange(5000) // 70)
        self.lines = pl.DataFrame({"offset": self.offsets, "text": texts, "label": labels})
        self.cache = EmbeddingCache()
        self.encoder = encoder
        self.stream = labelled_stream("spirit", self.lines, encoder, self.cache)
        self.base = base

    def methods(self, stream: LabelledStream, plan: Plan = SMALL) -> list[tuple[str, Method]]:
        based = BasedMethods(
            self.base,
            stream,
            self.offsets,
            plan=plan,
            system=load_system("spirit"),
            encoder=self.encoder,
            cache=self.cache,
        )
        return [
            (name, based.method(name) if name in BASED else by_rule(BASELINES[name], stream, plan))
            for name in METHODS
        ]


@pytest.fixture
def judges(tiny_base: Bundle, encoder: FakeEncoder) -> Judges:
    return Judges(tiny_base, encoder)


@given(st.integers(0, 10_000), st.floats(0.001, 0.7), st.integers(10, 60), st.integers(20, 90))
@settings(max_examples=60, deadline=None)
def test_tasks_keep_the_bounds_and_the_order(
    seed: int, rate: float, support: int, query: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(400) < rate * (np.arange(400) % 100 < 60)
    plan = Plan(support=support, query=query, seeds=2, tasks=6)
    try:
        drawn = draw(labels, plan)
    except LabelError:
        assert not len(positions(labels, support, query))
        return
    for task_seed in (0, 1):
        starts = [start for of, start in drawn.tasks if of == task_seed]
        assert len(starts) == len(set(starts)) == min(6, len(positions(labels, support, query)))
    for _, start in drawn.tasks:
        known, judged = labels[start : start + support], labels[start + support :][:query]
        assert len(judged) == query
        assert 0.05 <= known.mean() <= 0.6
        assert 0.002 <= judged.mean() <= 0.6
    verdict = verdicts(labels, plan.support, plan.query)
    assert all(verdict[start] for _, start in drawn.outside)
    assert len(drawn.outside) <= sum(drawn.passed_over.values())


def test_why_a_position_is_no_task() -> None:
    labels = np.zeros(400, dtype=np.bool_)
    labels[100:200] = True
    labels[350:] = True
    verdict = verdicts(labels, 100, 100)
    assert REASONS[verdict[0]] == "support_with_few_alerts"
    assert REASONS[verdict[100]] == "support_with_many_alerts"
    assert REASONS[verdict[145]] == "query_with_few_alerts"
    assert REASONS[verdict[10]] == "query_with_many_alerts"
    assert REASONS[verdict[195]] == "fits"


def test_a_seed_draws_the_same_tasks_whatever_others_draw() -> None:
    _, labels = messages(5000)
    both = draw(labels, SMALL)
    second = draw(labels, replace(SMALL, first_seed=1, seeds=1))
    assert draw(labels, SMALL) == both
    assert [task for task in both.tasks if task[0] == 1] == second.tasks


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.ones(1199, dtype=np.bool_), "1,200 are needed"),
        (np.zeros(5000, dtype=np.bool_), "none of the 5,000 lines is an alert"),
        (np.ones(5000, dtype=np.bool_), "3,801 support with many alerts"),
    ],
)
def test_a_stream_without_tasks_says_why(labels: NDArray[np.bool_], said: str) -> None:
    with pytest.raises(LabelError, match=said) as refused:
        draw(labels, SMALL)
    assert "\n" not in str(refused.value)


def test_no_label_of_the_query_reaches_a_method(judges: Judges) -> None:
    stream = judges.stream
    _, start = draw(stream.labels, SMALL).tasks[0]
    drawn = Drawn([(0, start)], [], {})
    middle = start + SMALL.support
    shuffled = stream.labels.copy()
    shuffled[middle:] = np.random.default_rng(1).permutation(shuffled[middle:])
    shuffled[:start] = ~shuffled[:start]
    said: list[dict[str, Judgement]] = []
    for labels in (stream.labels, shuffled):
        changed = replace(stream, labels=labels)
        heard: dict[str, Judgement] = {}

        def listening(name: str, method: Method, heard: dict[str, Judgement] = heard) -> Method:
            def listen(known: Known, place: int) -> Judgement:
                heard[name] = method(known, place)
                return heard[name]

            return listen

        methods = [(name, listening(name, method)) for name, method in judges.methods(changed)]
        judge(changed, drawn, methods, SMALL)
        said.append(heard)
    for name in METHODS:
        before, after = said[0][name], said[1][name]
        assert before.scores.tolist() == after.scores.tolist(), name
        assert before.flagged.tolist() == after.flagged.tolist(), name


def test_based_methods_score_as_the_agent_would(judges: Judges, tiny_base: Bundle) -> None:
    stream, start = judges.stream, 1234
    middle = start + SMALL.support
    known = Known(
        stream.templates, stream.vectors, stream.rows[start:middle], stream.labels[start:middle]
    )
    bundle = adapt(
        tiny_base,
        judges.lines.slice(start, SMALL.support),
        system=load_system("spirit"),
        target="spirit",
        encoder=judges.encoder,
        cache=judges.cache,
    )
    whole = judges.lines.with_columns(stream=pl.lit("log"))
    expected, _ = Scorer(bundle, judges.encoder, judges.cache).score(whole, {})
    query = expected.slice(middle, SMALL.query)
    said = dict(judges.methods(stream))["crosyslog"](known, middle)
    assert said.scores.tolist() == pytest.approx(query["score"].to_list(), abs=1e-3)


def test_memory_is_what_parts_crosyslog_from_the_published_form(judges: Judges) -> None:
    stream, start = judges.stream, 1234
    middle = start + SMALL.support
    known = Known(
        stream.templates, stream.vectors, stream.rows[start:middle], stream.labels[start:middle]
    )
    methods = dict(judges.methods(stream))
    ours, published = methods["crosyslog"](known, middle), methods["maml_lstm"](known, middle)
    seen = np.isin(stream.rows[middle : middle + SMALL.query], known.rows)
    assert ours.scores[~seen].tolist() == published.scores[~seen].tolist()
    assert set(ours.scores[seen].tolist()) <= {0.0, 1.0}
    assert not set(published.scores[seen].tolist()) <= {0.0, 1.0}


def test_a_stream_split_by_host_is_scored_as_partitions_are(
    judges: Judges, tiny_base: Bundle
) -> None:
    stream, start = judges.stream, 1234
    middle = start + SMALL.support
    known = Known(
        stream.templates, stream.vectors, stream.rows[start:middle], stream.labels[start:middle]
    )
    hosts = (np.random.default_rng(0).integers(0, 40, 5000)).astype(np.uint32)
    based = BasedMethods(
        tiny_base,
        stream,
        judges.offsets,
        plan=SMALL,
        system=load_system("spirit"),
        encoder=judges.encoder,
        cache=judges.cache,
        hosts=hosts,
    )
    said = based.method("crosyslog", by_host=True)(known, middle)
    bundle = adapt(
        tiny_base,
        judges.lines.slice(start, SMALL.support),
        system=load_system("spirit"),
        target="spirit",
        encoder=judges.encoder,
        cache=judges.cache,
    )
    # Every partition by itself, from its first line, as an agent that has it reads it.
    expected = np.full(5000, np.nan, dtype=np.float32)
    for number in range(8):
        inside = np.flatnonzero(hosts % 8 == number)
        lines = pl.DataFrame(
            {"offset": np.arange(len(inside)), "text": judges.lines["text"].gather(inside)}
        ).with_columns(stream=pl.lit(str(number)))
        scored, _ = Scorer(bundle, judges.encoder, judges.cache).score(lines, {})
        expected[inside] = scored["score"].to_numpy()
    query = slice(middle, middle + SMALL.query)
    assert said.scores.tolist() == pytest.approx(expected[query].tolist(), abs=1e-3)
    assert said.scores.tolist() != based.method("crosyslog")(known, middle).scores.tolist()


def test_the_papers_steps_go_on_from_the_base(judges: Judges) -> None:
    stream, start = judges.stream, 1234
    middle = start + SMALL.support
    known = Known(
        stream.templates, stream.vectors, stream.rows[start:middle], stream.labels[start:middle]
    )
    inner = judges.base.manifest.inner_loop
    based = BasedMethods(
        judges.base,
        stream,
        judges.offsets,
        plan=SMALL,
        system=load_system("spirit"),
        encoder=judges.encoder,
        cache=judges.cache,
    )
    steps = list(based.stepped("maml_lstm")(known, middle))
    assert len(steps) == 15
    own = based.method("maml_lstm")(known, middle)
    assert steps[inner.steps - 1].scores.tolist() == pytest.approx(own.scores.tolist(), abs=1e-5)


def test_a_report_is_complete_and_the_same_again(
    judges: Judges, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = []
    for _ in range(2):
        drawn = draw(judges.stream.labels, SMALL)
        done: list[int] = []
        results = judge(judges.stream, drawn, judges.methods(judges.stream), SMALL, done.append)
        assert done == list(range(1, len(drawn.tasks) + len(drawn.outside) + 1))
        evaluation = Evaluation(
            judges.stream, "a[bold]\x1b.log", judges.base, SMALL, drawn, results
        )
        contents.append(json.dumps(evaluation.content(), allow_nan=False))
    assert contents[0] == contents[1]
    content = json.loads(contents[0])
    assert content["support"] == {"kind": "contiguous", "size": 200}
    assert (content["tasks"], content["seeds"], content["seed_list"]) == (6, 2, [0, 1])
    assert (content["base"], content["sources"]) == ("tiny", ["bgl", "liberty"])
    assert list(content["methods"]) == list(METHODS) == list(content["skipped"]["methods"])
    for figures in content["methods"].values():
        assert figures["f1"]["low"] <= figures["f1"]["mean"] <= figures["f1"]["high"]
        assert np.mean(figures["f1_by_task"]) == pytest.approx(figures["f1"]["mean"], abs=1e-5)
        for key in ("pooled_f1", "precision", "recall", "auprc", "unseen_recall"):
            assert 0 <= figures[key] <= 1
    assert content["methods"]["memory"]["unseen_recall"] == 0
    assert content["methods"]["keyword"]["f1"]["mean"] == 1  # every alert of the log has its word
    difference = content["difference"]
    pairs = [content["methods"][name]["f1_by_task"] for name in ("crosyslog", "logreg")]
    assert difference["mean"] == pytest.approx(np.subtract(*pairs).mean(), abs=1e-5)
    assert -1 <= difference["low"] <= difference["mean"] <= difference["high"] <= 1
    show_evaluation(content)
    shown = capsys.readouterr().out
    assert f"less that of logreg, task by task: {difference['mean']:+.3f} (" in shown
    assert all(name in shown for name in METHODS)
    assert "a[bold]\\x1b.log" in shown


def test_a_base_that_knows_the_target_is_refused(tiny_base: Bundle) -> None:
    refuse_known(tiny_base.manifest, "spirit", load_system("spirit"))
    for target, system in (("bgl", "bgl"), ("mine", "bgl"), ("liberty", "spirit")):
        with pytest.raises(SettingError, match="was trained on"):
            refuse_known(tiny_base.manifest, target, load_system(system))


def test_methods_keep_the_order_of_the_table() -> None:
    assert check_methods([], BASELINES) == list(METHODS)
    assert check_methods(["crosyslog", "memory", "memory"], BASELINES) == ["memory", "crosyslog"]
    with pytest.raises(SettingError, match="oracle: it is one of keyword, memory"):
        check_methods(["oracle"], BASELINES)
