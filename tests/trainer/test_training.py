"""Meta-training and adaptation on tiny streams whose alerts can be learnt."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import BaseModel

from crosyslog.bundle import Bundle, load_bundle, write_bundle
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import BundleVersionError, LabelError, SettingError
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder, lstm_of
from tests.trainer.made import TINY_TRAINING
from trainer import tasks as tasks_module
from trainer.adaptation import adapt, adapt_to_stream, novel_below
from trainer.config_files import read_config
from trainer.evidence_training import EvidenceConfig
from trainer.sessions.training import SessionConfig
from trainer.tasks import LabelledStream, TaskSampler, labelled_stream, line_weights, positions
from trainer.training import TrainingConfig, train_base

pytestmark = pytest.mark.usefixtures("short_queries")

TINY = TINY_TRAINING


def tiny_stream(name: str, seed: int, lines: int = 2_000, templates: int = 30) -> LabelledStream:
    """A stream whose alerts lie on one side of a plane."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((templates, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = rng.integers(0, templates, lines)
    alert = vectors[:, 0] > np.quantile(vectors[:, 0], 0.7)
    return LabelledStream(
        name, [f"{name} {t}" for t in range(templates)], vectors, rows, alert[rows]
    )


def train(sources: Sequence[LabelledStream], config: TrainingConfig = TINY) -> Bundle:
    return train_base(sources, name="tiny", config=config, encoder=FakeEncoder(), command="test")


def weights_of(bundle: Bundle) -> dict[str, torch.Tensor]:
    return lstm_of(bundle).stacked()


@pytest.fixture(scope="module")
def sources() -> list[LabelledStream]:
    return [tiny_stream("one", 1), tiny_stream("two", 2)]


def test_the_same_seed_gives_the_same_base(sources: list[LabelledStream]) -> None:
    first, second = train(sources), train(sources)
    assert first.manifest.inner_loop == second.manifest.inner_loop
    for name, value in weights_of(first).items():
        assert torch.equal(value, weights_of(second)[name])


def test_another_seed_gives_another_base(sources: list[LabelledStream]) -> None:
    other = train(sources, TINY.model_copy(update={"seed": 1}))
    assert not torch.equal(
        weights_of(train(sources))["head.weight"], weights_of(other)["head.weight"]
    )


def test_members_are_trained_and_adapted_each_from_its_own_weights(
    sources: list[LabelledStream], tmp_path: Path
) -> None:
    base = train(sources, TINY.model_copy(update={"members": 2}))
    write_bundle(tmp_path / "base", base.manifest, base.detector, base.support)
    base = load_bundle(tmp_path / "base")
    adapted = adapt_to_stream(
        base, tiny_stream("three", 3), system=load_system("plain"), version="1", command=""
    )
    before, after = lstm_of(base).stacked(), lstm_of(adapted).stacked()
    rates = base.manifest.inner_loop.rates
    for name in ("project.weight", "head.weight", "direct.weight"):
        assert len(rates[name]) == len(before[name]) == 2
        assert not torch.equal(before[name][0], before[name][1])
        steps = after[name] - before[name]
        assert not torch.equal(steps[0], steps[1])
        assert steps.flatten(1).abs().amax(dim=1).min() > 0


@pytest.mark.parametrize("number", [0, 1])
def test_each_source_has_influence(sources: list[LabelledStream], number: int) -> None:
    zeroed = list(sources)
    given = sources[number]
    zeroed[number] = LabelledStream(
        given.name, given.templates, np.zeros_like(given.vectors), given.rows, given.labels
    )
    same, changed = weights_of(train(sources)), weights_of(train(zeroed))
    for name in ("project.weight", "head.weight", "direct.weight"):
        assert not torch.equal(same[name], changed[name]), name


@pytest.mark.parametrize(
    "changed", [{"dropout": 0.4}, {"noise": 0.5}, {"chosen": 1.0, "asked": 8}, {"disguised": 1.0}]
)
def test_each_setting_of_the_tasks_has_an_effect(
    sources: list[LabelledStream], changed: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "HISTORY_LINES", 400)
    before, after = (
        weights_of(train(sources, TINY.model_copy(update=update))) for update in ({}, changed)
    )
    assert not torch.equal(before["project.weight"], after["project.weight"])


def test_a_source_too_short_to_choose_templates_from_is_refused(
    sources: list[LabelledStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "HISTORY_LINES", 5_000)
    with pytest.raises(LabelError, match="no place for a task of chosen templates"):
        train(sources, TINY.model_copy(update={"chosen": 0.5}))


def test_a_base_adapts_with_as_many_steps_as_were_set(sources: list[LabelledStream]) -> None:
    base = train(sources, TINY.model_copy(update={"adaptation_steps": 7}))
    assert base.manifest.inner_loop.steps == 7


def test_chosen_supports_are_templates_of_the_history_with_their_labels(
    sources: list[LabelledStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "HISTORY_LINES", 400)
    source = sources[0]
    zero, one = np.zeros(16, dtype=np.float32), np.ones(16, dtype=np.float32)
    sampler = TaskSampler(
        [source],
        zero,
        one,
        support_lines=200,
        query_windows=2,
        seen_weight=0.1,
        repeat_power=0.5,
        permuted=0.5,
        disguised=0.0,
        chosen=1.0,
        asked=8,
        rng=np.random.default_rng(0),
    )
    tasks = sampler.draw(3)
    assert tasks.support.rows_KBL.shape == (3, 1, 100)
    alert = {row: bool(label) for row, label in zip(source.rows, source.labels, strict=True)}
    for task in range(3):
        counted = tasks.support.weights_KBL[task].ravel() > 0
        assert int(counted.sum()) == 8
        assert float(tasks.support.weights_KBL[task].sum()) == pytest.approx(1)
        rows = tasks.support.rows_KBL[task].ravel()[counted]
        assert len(set(rows.tolist())) == 8
        vectors = tasks.vectors_KTD[task][rows].numpy()
        labels = tasks.support.labels_KBL[task].ravel()[counted]
        for vector, label in zip(vectors, labels, strict=True):
            (row,) = np.flatnonzero((source.vectors == vector).all(axis=1))
            assert alert[row] == bool(label)


def test_a_base_holds_no_text(sources: list[LabelledStream], tmp_path: Path) -> None:
    bundle = train(sources)
    assert bundle.support["template"].null_count() == bundle.support.height
    assert set(bundle.support["source"]) == {"one", "two"}
    write_bundle(tmp_path / "base", bundle.manifest, bundle.detector, bundle.support)
    content = b"".join(path.read_bytes() for path in (tmp_path / "base").iterdir())
    assert b"one 1" not in content
    assert load_bundle(tmp_path / "base").manifest.sources == ("one", "two")


def test_a_source_with_one_class_is_refused(sources: list[LabelledStream]) -> None:
    given = sources[0]
    quiet = LabelledStream(
        "quiet", given.templates, given.vectors, given.rows, np.zeros_like(given.labels)
    )
    with pytest.raises(LabelError, match="quiet holds normal lines alone"):
        train([quiet, sources[1]])


def test_a_source_that_is_too_short_is_refused(sources: list[LabelledStream]) -> None:
    with pytest.raises(LabelError, match=r"short .*has no place for a task"):
        train([tiny_stream("short", 3, lines=500), sources[1]])


def adapted(base: Bundle, stream: LabelledStream) -> Bundle:
    return adapt_to_stream(base, stream, system=load_system("plain"), version="1", command="test")


def test_adaptation_leaves_the_base_as_it_was(sources: list[LabelledStream]) -> None:
    base = train(sources)
    before = {name: value.clone() for name, value in weights_of(base).items()}
    own = adapted(base, tiny_stream("target", 5))
    for name, value in weights_of(base).items():
        assert torch.equal(value, before[name])
    assert not torch.equal(weights_of(own)["head.weight"], before["head.weight"])
    assert own.manifest.threshold == base.manifest.inner_loop.threshold


def test_repeats_count_in_adaptation_as_they_did_in_training(
    sources: list[LabelledStream],
) -> None:
    target = tiny_stream("target", 5)
    base = train(sources, TINY.model_copy(update={"repeat_power": 0.25}))
    assert base.manifest.inner_loop.repeat_power == 0.25
    inner = base.manifest.inner_loop.model_copy(update={"repeat_power": 1.0})
    other = replace(base, manifest=base.manifest.model_copy(update={"inner_loop": inner}))
    ours, others = adapted(base, target), adapted(other, target)
    assert not torch.equal(weights_of(ours)["head.weight"], weights_of(others)["head.weight"])
    # What a manifest tells of its training for people decides nothing.
    silent = replace(base, manifest=base.manifest.model_copy(update={"settings": {}}))
    assert torch.equal(
        weights_of(adapted(silent, target))["head.weight"], weights_of(ours)["head.weight"]
    )


@pytest.mark.parametrize("alerts", [True, False])
def test_a_support_of_one_class_takes_the_base_as_it_is(
    sources: list[LabelledStream], *, alerts: bool
) -> None:
    base = train(sources)
    given = tiny_stream("target", 5)
    labels = np.full_like(given.labels, alerts)
    own = adapted(
        base, LabelledStream("target", given.templates, given.vectors, given.rows, labels)
    )
    for name, value in weights_of(base).items():
        assert torch.equal(value, weights_of(own)[name])
    assert own.manifest.threshold.value == base.manifest.threshold.value
    assert "alone" in own.manifest.threshold.chosen
    assert own.support["alert"].all() == alerts


def test_what_was_labelled_is_remembered(sources: list[LabelledStream]) -> None:
    target = tiny_stream("target", 5)
    own = adapted(train(sources), target)
    lines = np.bincount(target.rows, minlength=len(target.templates))
    assert own.support["template"].to_list() == target.templates
    assert own.support["lines"].to_list() == lines.tolist()
    assert own.manifest.support.lines == len(target)
    assert own.manifest.support.alerts == int(target.labels.sum())


def test_a_template_with_both_labels_is_what_it_mostly_is(sources: list[LabelledStream]) -> None:
    vectors = tiny_stream("target", 5).vectors[:3]
    rows = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    labels = np.array([True, False, False, True, True, False, True, False])
    own = adapted(train(sources), LabelledStream("target", ["a", "b", "c"], vectors, rows, labels))
    assert own.support["alert"].to_list() == [False, True, True]


def test_adapting_with_another_encoder_is_refused(sources: list[LabelledStream]) -> None:
    base = train(sources)
    other = FakeEncoder()
    other.id = "fake:other"
    lines = pl.DataFrame({"text": ["a"], "label": [True]})
    with pytest.raises(BundleVersionError, match="use its encoder"):
        adapt(
            base,
            lines,
            system=load_system("plain"),
            target="t",
            encoder=other,
            cache=EmbeddingCache(),
        )


def test_lines_without_labels_are_no_stream() -> None:
    lines = pl.DataFrame({"text": ["a"], "label": pl.Series([None], dtype=pl.Boolean)})
    with pytest.raises(LabelError, match="no line of t has a label"):
        labelled_stream("t", lines, FakeEncoder(), EmbeddingCache())


def test_positions_hold_the_shares_that_a_task_needs() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(5_000) < np.where(np.arange(5_000) < 2_500, 0.02, 0.3)
    found = positions(labels, 300)
    assert len(found)
    for start in found:
        support = labels[start : start + 300].mean()
        query = labels[start + 300 : start + 700].mean()
        assert 0.05 <= support <= 0.6
        assert 0.002 <= query <= 0.6
    assert found.max() <= 5_000 - 700


def test_the_query_is_strictly_after_the_support() -> None:
    # Templates are numbered by their place, so what a task holds tells where it was cut.
    lines = 2_000
    vectors = np.arange(lines, dtype=np.float32)[:, None].repeat(4, axis=1)
    labels = np.arange(lines) % 5 == 0
    stream = LabelledStream("s", [str(n) for n in range(lines)], vectors, np.arange(lines), labels)
    sampler = TaskSampler(
        [stream],
        np.zeros(4, np.float32),
        np.ones(4, np.float32),
        support_lines=200,
        query_windows=2,
        seen_weight=0.1,
        repeat_power=0.5,
        permuted=0.5,
        disguised=0.0,
        rng=np.random.default_rng(0),
    )
    for _ in range(20):
        task = sampler.draw(1)
        places = task.vectors_KTD[0, :, 0]
        support = places[task.support.rows_KBL[0].ravel()]
        query = places[task.query.rows_KBL[0].ravel()]
        assert support.max() - support.min() == 199
        assert query.min() > support.max()
        assert query.max() <= support.max() + 400


def test_a_line_counts_less_the_more_often_its_template_occurs() -> None:
    weights = line_weights(np.array([0, 0, 0, 0, 1]), 0.5)
    assert weights.sum() == pytest.approx(1)
    assert weights[4] == pytest.approx(2 * weights[0])


def test_novelty_is_measured_against_the_support_itself() -> None:
    assert novel_below(np.full((1, 4), 0.5, np.float32)) == 0.95
    vectors = np.eye(4, dtype=np.float32)
    assert novel_below(vectors) == 0.3
    assert novel_below(np.concatenate((vectors, vectors))) == 0.95


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inner_stepz = 3", "there is no inner_stepz, but .*inner_steps"),
        ("inner_steps = 0", "inner_steps=0: .*greater than 0"),
        ("support_lines = 150", "support_lines=150: .*multiple of 100"),
        ("inner_steps =", "are not TOML"),
    ],
)
def test_impossible_settings_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=message) as caught:
        read_config(path, TrainingConfig)
    assert "\n" not in str(caught.value)


def test_settings_that_do_not_fit_together_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("chosen = 0.6\none_class = 0.3\nempty = 0.2\n")
    with pytest.raises(SettingError, match=r"\.toml: chosen, one_class and empty") as caught:
        read_config(path, EvidenceConfig)
    assert "\n" not in str(caught.value)


def test_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("inner_steps = 2\nfirst_order = true\n")
    assert read_config(path, TrainingConfig) == TrainingConfig(inner_steps=2, first_order=True)


@pytest.mark.parametrize(
    ("detector", "config"),
    [("evidence", EvidenceConfig), ("maml_lstm", TrainingConfig), ("metalog", SessionConfig)],
)
def test_every_setting_is_documented_with_its_default(
    detector: str, config: type[BaseModel]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
    told = page.split("\n## Settings\n")[1].split(f"Of `{detector}`")[1]
    table = told[told.index("\n|") + 1 :]
    lines = takewhile(lambda line: line.startswith("|"), table.splitlines())
    rows = [line.split("|")[1:3] for line in lines if line.startswith("| `")]
    documented = {name.strip(" `"): default.strip(' "') for name, default in rows}
    assert documented.keys() == config.model_fields.keys()
    for name, field in config.model_fields.items():
        default = documented[name]
        assert default == str(field.default).lower() or float(default) == field.default, name
