from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import BundleVersionError
from crosyslog.scorer import Scorer
from crosyslog.threads import torch_threads
from crosyslog.windows import WINDOW, PartitionState
from tests.fakes import SUPPORT, FakeEncoder, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crosyslog.bundle import Bundle

WORDS = ["disk", "node", "kernel", "session", "fan", "heartbeat", "link", "down"]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Without memory and with a bias of zero, so that scores differ and depend on the order."""
    return tiny_bundle(tmp_path_factory.mktemp("scorer") / "bundle", memory=False, bias=-1.7)


@pytest.fixture
def scorer(bundle: Bundle) -> Scorer:
    return Scorer(bundle, FakeEncoder(), EmbeddingCache())


def stream(lines: int, name: str = "p0", start: int = 0, seed: int = 0) -> pl.DataFrame:
    words = np.random.default_rng(seed).choice(WORDS, (lines, 3))
    return pl.DataFrame(
        {
            "stream": [name] * lines,
            "offset": np.arange(start, start + lines),
            "text": [" ".join(three) for three in words],
        }
    )


def said(*texts: str) -> pl.DataFrame:
    return pl.DataFrame({"stream": "p0", "offset": range(len(texts)), "text": texts})


def in_batches(
    scorer: Scorer, lines: pl.DataFrame, size: int, states: dict[str, PartitionState] | None = None
) -> pl.DataFrame:
    states = states or {}
    scored = []
    for batch in lines.iter_slices(size):
        frame, states = scorer.score(batch, states)
        scored.append(frame)
    return pl.concat(scored)


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    by = ["stream", "offset"]
    found, expected = found.sort(by), expected.sort(by)
    assert found.drop("score", "anomalous").equals(expected.drop("score", "anomalous"))
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-3)


def test_batches_of_every_size_give_the_same_scores(scorer: Scorer) -> None:
    lines = stream(1_500, start=37)
    whole, _ = scorer.score(lines, {})
    assert whole["score"].to_numpy().std() > 0.02
    for size in (1, 7, 100, 333, 5_000):
        taken = lines.head(130) if size == 1 else lines.head(1_500 if size > 7 else 450)
        assert_same(in_batches(scorer, taken, size), whole.head(taken.height))


def test_streams_do_not_see_each_other(scorer: Scorer) -> None:
    streams = [stream(400, name, start, seed=start) for name, start in (("a", 0), ("b", 63))]
    alone = pl.concat(scorer.score(lines, {})[0] for lines in streams)
    mixed = pl.concat(streams).sample(fraction=1, shuffle=True, seed=1).with_row_index()
    # Ascending within a stream, in any order among them.
    mixed = mixed.with_columns(pl.col("offset", "text").sort_by("offset").over("stream"))
    scored = in_batches(scorer, mixed, 90)
    assert scored["index"].to_list() == list(range(800))
    assert_same(scored.drop("index"), alone)


def test_what_a_line_says_counts_together_with_what_came_before(scorer: Scorer) -> None:
    one, _ = scorer.score(said("disk down", "fan link"), {})
    other, _ = scorer.score(said("kernel session", "fan link"), {})
    assert abs(one["score"][1] - other["score"][1]) > 1e-3


def test_nothing_carries_over_the_edge_of_a_window(scorer: Scorer) -> None:
    whole, _ = scorer.score(stream(300), {})
    second, _ = scorer.score(stream(300).slice(WINDOW, WINDOW), {})
    assert_same(second, whole.slice(WINDOW, WINDOW))


@pytest.mark.parametrize("stop", [1, 50, 99, 100, 101, 199, 250])
def test_a_restart_that_reads_the_window_again_changes_nothing(scorer: Scorer, stop: int) -> None:
    lines = stream(300)
    whole, _ = scorer.score(lines, {})
    window = stop // WINDOW * WINDOW
    states: dict[str, PartitionState] = {}
    if window < stop:
        _, states = scorer.score(lines.slice(window, stop - window), {})
    rest, _ = scorer.score(lines.slice(stop), states)
    assert_same(rest, whole.slice(stop))


def test_gaps_between_offsets_change_nothing(scorer: Scorer) -> None:
    # Transactions and compaction leave offsets without a line.
    lines = stream(400).filter(pl.col("offset") % 7 != 3, pl.col("offset") // 50 != 4)
    whole, _ = scorer.score(lines, {})
    for size in (13, 64):
        assert_same(in_batches(scorer, lines, size), whole)


def test_a_state_is_the_current_window_and_no_more(scorer: Scorer) -> None:
    states: dict[str, PartitionState] = {}
    for batch in stream(1_234).iter_slices(77):
        _, states = scorer.score(batch, states)
        assert len(states["p0"].offsets) == len(states["p0"].templates) <= WINDOW
        assert {offset // WINDOW for offset in states["p0"].offsets} == {states["p0"].window}
    assert states["p0"].offsets == tuple(range(1_200, 1_234))
    _, after = scorer.score(stream(5, "p1"), states)
    assert set(after) == {"p0", "p1"}
    assert after["p0"] == states["p0"]


def test_scoring_changes_neither_its_lines_nor_its_states(scorer: Scorer) -> None:
    lines = stream(50)
    _, states = scorer.score(lines.head(20), {})
    kept = dict(states)
    first, _ = scorer.score(lines.slice(20), states)
    again, _ = scorer.score(lines.slice(20), states)
    assert states == kept
    assert first.equals(again)


def test_a_template_of_the_support_keeps_its_label(tmp_path: Path) -> None:
    for memory, bias in ((True, -4.0), (True, 4.0), (False, 4.0)):
        bundle = tiny_bundle(tmp_path / f"{memory}{bias}", memory=memory, bias=bias)
        scorer = Scorer(bundle, FakeEncoder(), EmbeddingCache())
        scored, _ = scorer.score(said(*SUPPORT, "kernel panic on node 17", "unknown"), {})
        unknown = bias > 0
        if memory:
            assert scored["anomalous"].to_list() == [*SUPPORT.values(), True, unknown]
            assert scored["score"].head(5).to_list() == [*SUPPORT.values(), True]
        else:
            assert scored["anomalous"].all()


def test_a_threshold_can_be_given(bundle: Bundle) -> None:
    lines = stream(200)
    scored, _ = Scorer(bundle, FakeEncoder(), EmbeddingCache()).score(lines, {})
    threshold = scored["score"].quantile(0.8)
    assert threshold is not None
    strict = Scorer(bundle, FakeEncoder(), EmbeddingCache(), threshold=threshold)
    judged, _ = strict.score(lines, {})
    assert strict.threshold == threshold
    assert judged["score"].equals(scored["score"])
    assert judged["anomalous"].equals((scored["score"] >= threshold).alias("anomalous"))
    assert 0 < judged["anomalous"].sum() < 200
    everything = Scorer(bundle, FakeEncoder(), EmbeddingCache(), threshold=0.0)
    assert everything.score(lines, {})[0]["anomalous"].all()


def test_a_line_is_novel_if_nothing_of_the_support_is_like_it(scorer: Scorer) -> None:
    texts = ["disk failure", "the disk failure", "quite another matter"]
    assert scorer.score(said(*texts), {})[0]["novel"].to_list() == [False, False, True]


def test_the_nearest_of_the_support_explain_a_template(scorer: Scorer) -> None:
    nearest = scorer.nearest("disk failure again")
    assert [len(nearest), nearest[0].template, nearest[0].label] == [3, "disk failure", "alert"]
    similarities = [near.similarity for near in nearest]
    assert similarities == sorted(similarities, reverse=True)
    assert scorer.nearest("heartbeat ok")[0].similarity == pytest.approx(1, abs=1e-3)


def test_a_base_explains_by_source_and_remembers_nothing(tmp_path: Path) -> None:
    base = tiny_bundle(tmp_path / "base", kind="base", bias=-4.0)
    scorer = Scorer(base, FakeEncoder(), EmbeddingCache())
    assert scorer.nearest("disk failure")[0][:3] == (None, "bgl", "alert")
    assert not scorer.score(said("disk failure"), {})[0]["anomalous"].any()


def test_a_support_may_be_empty(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", support={})
    scorer = Scorer(bundle, FakeEncoder(), EmbeddingCache())
    scored, _ = scorer.score(said("disk failure"), {})
    assert scored["novel"].all()
    assert scorer.nearest("disk failure") == ()


def test_another_encoder_is_refused_in_one_line(bundle: Bundle) -> None:
    with pytest.raises(BundleVersionError) as caught:
        Scorer(bundle, FakeEncoder("other"), EmbeddingCache())
    assert str(caught.value) == (
        "the bundle spirit/0001 was made with the encoder fake:fake:16:fp32 (fake) and "
        "fake:other:16:fp32 is loaded: set encoder.name=fake and encoder.precision=fp32, or adapt "
        "again"
    )


def test_no_lines_have_no_scores(scorer: Scorer) -> None:
    _, states = scorer.score(stream(10), {})
    full, _ = scorer.score(stream(1), {})
    empty, after = scorer.score(stream(10).clear(), states)
    assert empty.schema == full.schema
    assert empty.height == 0
    assert after == states


def test_other_columns_and_the_order_of_rows_pass_through(scorer: Scorer) -> None:
    lines = pl.concat([stream(5, "b"), stream(5, "a")]).with_columns(
        extra=pl.int_range(10), raw=pl.lit(b"\xff")
    )
    scored, _ = scorer.score(lines, {})
    assert scored.select(lines.columns).equals(lines)
    assert scored.columns == [*lines.columns, "template", "score", "anomalous", "novel"]
    assert scored["score"].is_between(0, 1).all()


def test_any_text_has_a_score(scorer: Scorer) -> None:
    texts = ["", " ", "\x00", "\ufffd" * 9, "a" * 1_000_000, "*", "^x$", "\U0001f40d", "a\nb"]
    scored, _ = scorer.score(said(*texts), {})
    assert scored["score"].is_finite().all()


def test_a_template_is_encoded_once_however_often_it_is_said(bundle: Bundle) -> None:
    encoder = FakeEncoder()
    scorer = Scorer(bundle, encoder, EmbeddingCache())
    in_batches(scorer, said(*["disk 1 failed", "disk 2 failed", "fan stopped"] * 50), 20)
    assert sorted(encoder.encoded) == ["disk # failed", "fan stopped"]


def test_templates_beyond_the_limit_change_no_score(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = stream(500)
    expected, _ = Scorer(bundle, FakeEncoder(), EmbeddingCache()).score(lines, {})
    monkeypatch.setattr("crosyslog.scorer._MAX_TEMPLATES", 60)
    for size in (40, 300):
        scorer = Scorer(bundle, FakeEncoder(), EmbeddingCache(max_entries=10))
        assert_same(in_batches(scorer, lines, size), expected)
