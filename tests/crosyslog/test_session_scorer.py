from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.drain_groups import TemplateGroups
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import BundleVersionError
from crosyslog.manifest import SessionShape
from crosyslog.session_detector import SessionDetector
from crosyslog.session_scorer import (
    LONGEST,
    Rows,
    SessionScorer,
    group_texts,
    judge_sessions,
    padded_rows,
    template_vectors,
)
from crosyslog.threads import torch_threads
from crosyslog.word_vectors import GloveWords, TfidfVectors
from tests.fakes import TEMPLATES, FakeEncoder, tiny_session_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from crosyslog.session_bundle import SessionBundle
    from crosyslog.session_detector import Judged

#: Dimensions of a vector, and templates.
DIM, COUNT = 6, 5


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SessionBundle:
    return tiny_session_bundle(tmp_path_factory.mktemp("scorer") / "bundle")


class CountingDetector(SessionDetector):
    """Counts the sessions that it is asked about, and the lines of each call."""

    def __init__(self) -> None:
        super().__init__(SessionShape(dim=DIM, hidden=3, layers=1))
        self.asked: list[int] = []
        self.lines: list[int] = []
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.5)
            self.each()[0].direct.weight.mul_(0.02)

    def forward(self, vectors_BLD: Tensor, lengths_B: Tensor) -> Judged:
        self.asked += lengths_B.tolist()
        self.lines.append(vectors_BLD.shape[0] * vectors_BLD.shape[1])
        return super().forward(vectors_BLD, lengths_B)


DETECTOR = CountingDetector().eval().requires_grad_(requires_grad=False)
VECTORS = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)


class Asked(NamedTuple):
    """What `judge_sessions` said, and what it asked the detector."""

    logits: NDArray[np.float32]
    attention: NDArray[np.float32]
    lengths: list[int]
    lines: list[int]


def rows_of(sessions: Sequence[Sequence[int]]) -> Rows:
    lengths = [len(session) for session in sessions]
    templates = [number for session in sessions for number in session]
    starts = np.cumsum([0, *lengths])
    return Rows(np.array(templates, dtype=np.int64), starts)


def judged(*sessions: Sequence[int]) -> Asked:
    DETECTOR.asked, DETECTOR.lines = [], []
    logits, attention = judge_sessions(DETECTOR, VECTORS, rows_of(sessions))
    assert logits.dtype == attention.dtype == np.float32
    return Asked(logits, attention, DETECTOR.asked, DETECTOR.lines)


def close(found: ArrayLike, expected: ArrayLike) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-5)


SESSION = st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=12)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6), st.data())
def test_some_sessions_can_be_chosen_in_any_order(
    sessions: list[list[int]], data: st.DataObject
) -> None:
    rows = rows_of(sessions)
    assert len(rows) == len(sessions)
    assert [rows.of(number).tolist() for number in range(len(rows))] == sessions
    numbers = data.draw(st.lists(st.integers(0, len(sessions) - 1), max_size=8))
    chosen = rows.chosen(np.array(numbers, dtype=np.int64))
    assert [chosen.of(number).tolist() for number in range(len(chosen))] == [
        sessions[number] for number in numbers
    ]
    assert chosen.starts.dtype == chosen.templates.dtype == np.int64


def test_sessions_side_by_side_are_padded_behind_their_end() -> None:
    padded, lengths = padded_rows([np.array([3, 1]), np.array([2, 4, 4, 1]), np.array([1])])
    assert padded.tolist() == [[3, 1, 0, 0], [2, 4, 4, 1], [1, 0, 0, 0]]
    assert lengths.tolist() == [2, 4, 1]


def test_sessions_that_are_alike_are_judged_once() -> None:
    found = judged([1, 2], [3], [1, 2], [2, 1], [3], [1, 2])
    assert sorted(found.lengths) == [1, 2, 2]
    assert found.logits[0] == found.logits[2] == found.logits[5]
    assert found.logits[1] == found.logits[4]
    assert abs(found.logits[0] - found.logits[3]) > 1e-3
    close(found.attention[:2], found.attention[3:5])
    close(found.attention[:2], found.attention[-2:])


@settings(max_examples=60, deadline=None)
@given(st.lists(SESSION, min_size=1, max_size=8), st.data())
def test_a_session_is_judged_alike_in_any_company_and_order(
    sessions: list[list[int]], data: st.DataObject
) -> None:
    alone = [judged(session) for session in sessions]
    order = data.draw(st.permutations(range(len(sessions))))
    together = judged(*(sessions[number] for number in order))
    close(together.logits, [alone[number].logits[0] for number in order])
    close(together.attention, np.concatenate([alone[number].attention for number in order]))


def test_sessions_of_all_lengths_take_little_padding_and_bounded_passes() -> None:
    rng = np.random.default_rng(1)
    lengths = rng.permutation([1, 3, 40, 300, LONGEST] * 30)
    sessions = [rng.integers(0, COUNT, length).tolist() for length in lengths.tolist()]
    found = judged(*sessions)
    assert len(found.lines) > 3
    assert max(found.lines) <= 10_000
    assert sum(found.lines) < 1.2 * lengths.sum()
    for number in (0, 17, 149):
        close(found.logits[number], judged(sessions[number]).logits[0])


@pytest.mark.parametrize("worst", ["first", "last"])
def test_a_long_session_is_as_anomalous_as_its_worst_piece(worst: str) -> None:
    rng = np.random.default_rng(2)
    halves = [rng.integers(0, COUNT, LONGEST - 10).tolist() for _ in range(2)]
    apart = judged(*halves)
    halves = sorted(halves, key=lambda half: float(judged(half).logits[0]))
    if worst == "first":
        halves.reverse()
    found = judged([*halves[0], *halves[1]])
    assert found.lengths == [LONGEST - 10] * 2
    assert abs(apart.logits[0] - apart.logits[1]) > 1e-3
    close(found.logits, [apart.logits.max()])
    first, second = found.attention[: LONGEST - 10], found.attention[LONGEST - 10 :]
    inside, outside = (first, second) if worst == "first" else (second, first)
    close(inside, judged(halves[0] if worst == "first" else halves[1]).attention)
    close(inside.sum(), 1)
    assert not outside.any()


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 2 * LONGEST, 2 * LONGEST + 1])
def test_pieces_are_as_few_as_can_be_and_alike_in_length(length: int) -> None:
    session = np.random.default_rng(3).integers(0, COUNT, length).tolist()
    found = judged([0], session, [1])
    pieces = sorted(found.lengths)[2:]
    assert sum(pieces) == length
    assert len(pieces) == -(-length // LONGEST)
    assert max(pieces) - min(pieces) <= 1
    close(found.attention[1:-1].sum(), 1)
    close(found.attention[[0, -1]], [1, 1])


def test_what_is_said_again_and_again_is_judged_once() -> None:
    found = judged([1] * (3 * LONGEST), [1] * LONGEST)
    assert found.lengths == [LONGEST]
    assert found.logits[0] == found.logits[1]
    close(found.attention[:LONGEST].sum(), 1)
    assert not found.attention[LONGEST : 3 * LONGEST].any()


def test_no_sessions_have_no_logits_and_one_without_a_line_is_none() -> None:
    assert [part.shape for part in judged()[:2]] == [(0,), (0,)]
    found = judged([], [2], [])
    assert found.lengths == [1]
    close(found.logits[1:2], judged([2]).logits)
    assert found.logits[[0, 2]].tolist() == [-np.inf, -np.inf]


def test_a_template_is_read_as_its_group_and_an_unseen_one_as_itself() -> None:
    groups = TemplateGroups.fit(TEMPLATES, depth=5, similarity=0.5, children=100)
    seen = ["disk failure", "session # opened for ann", "session # opened for eve"]
    unseen = ["quite another matter", ""]
    assert group_texts(groups, [*seen, *unseen]) == [
        "disk failure",
        "session # opened for #",
        "session # opened for #",
        *unseen,
    ]
    nothing = TemplateGroups.fit([], depth=5, similarity=0.5, children=100)
    assert group_texts(nothing, seen) == seen


def test_vectors_are_those_of_the_texts_each_encoded_once(tmp_path: Path) -> None:
    encoder, texts = FakeEncoder(), ["disk failure", "fan", "disk failure", "disk"]
    vectors = template_vectors(texts, None, encoder, EmbeddingCache())
    assert sorted(encoder.encoded) == ["disk", "disk failure", "fan"]
    np.testing.assert_array_equal(vectors, FakeEncoder().encode(texts))
    path = tmp_path / "glove.txt"
    path.write_text("disk 1 0\nfailure 0 1\n", encoding="utf-8")
    words = TfidfVectors.fit(["disk failure"], GloveWords(path))
    of_words = template_vectors(texts, words, encoder, EmbeddingCache())
    np.testing.assert_array_equal(of_words, [[0.5, 0.5], [0, 0], [0.5, 0.5], [1, 0]])
    assert len(encoder.encoded) == 3
    assert template_vectors([], None, encoder, EmbeddingCache()).shape == (0, 16)


def scored(bundle: SessionBundle, templates: Sequence[str], rows: Rows) -> NDArray[np.float32]:
    return SessionScorer(bundle, FakeEncoder(), EmbeddingCache()).score(templates, rows).scores


def test_scores_are_those_of_the_bundle_s_detector(bundle: SessionBundle) -> None:
    templates = ["disk failure", "heartbeat ok", "quite another matter"]
    rows = rows_of([[0, 1], [1, 0, 2], [2]])
    scorer = SessionScorer(bundle, FakeEncoder(), EmbeddingCache())
    scores, attention = scorer.score(templates, rows)
    vectors = torch.from_numpy(FakeEncoder().encode(templates))
    contrast_T = torch.from_numpy(bundle.contrast.of(vectors.numpy()))
    assert contrast_T.std() > 0.1
    for session in range(3):
        lines_BL = torch.from_numpy(rows.of(session)).unsqueeze(0)
        alone = bundle.detector(
            bundle.detector.scaled(vectors, contrast_T)[lines_BL], torch.tensor([lines_BL.shape[1]])
        )
        close(scores[session : session + 1], alone.logits_B.sigmoid().numpy())
        low, high = rows.starts[session], rows.starts[session + 1]
        close(attention[low:high], alone.attention_BL[0].numpy())
    assert scores.std() > 0.01
    assert ((scores > 0) & (scores < 1)).all()


def test_templates_of_a_group_are_one_and_an_unseen_one_is_another(bundle: SessionBundle) -> None:
    templates = [
        "session # opened for ann",
        "session # opened for bob",
        "session # opened for someone unheard of",
        "disk failure",
    ]
    encoder = FakeEncoder()
    scorer = SessionScorer(bundle, encoder, EmbeddingCache())
    scores, _ = scorer.score(templates, rows_of([[0, 3], [1, 3], [2, 3]]))
    assert sorted(encoder.encoded) == [
        "disk failure",
        "session # opened for #",
        "session # opened for someone unheard of",
    ]
    assert scores[0] == scores[1]
    assert abs(scores[0] - scores[2]) > 1e-4


def test_sessions_that_differ_within_a_group_are_judged_once(bundle: SessionBundle) -> None:
    asked = []
    hook = bundle.detector.register_forward_pre_hook(lambda _, given: asked.append(len(given[1])))
    scores = scored(bundle, TEMPLATES, rows_of([[4, 1], [5, 1], [4, 1], [1, 4]]))
    hook.remove()
    assert asked == [2]
    assert scores[0] == scores[1] == scores[2] != scores[3]


def test_a_template_that_no_session_holds_changes_nothing(bundle: SessionBundle) -> None:
    few = scored(bundle, TEMPLATES[:2], rows_of([[0, 1], [1]]))
    many = scored(bundle, TEMPLATES[::-1], rows_of([[5, 4], [4]]))
    close(few, many)
    assert scored(bundle, [], rows_of([])).shape == (0,)


def test_words_need_no_vector_of_the_encoder(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("disk 1 0 0\nfailure 0 1 0\nheartbeat 0 0 1\n", encoding="utf-8")
    bundle = tiny_session_bundle(tmp_path / "bundle", words=GloveWords(path))
    encoder = FakeEncoder()
    scorer = SessionScorer(bundle, encoder, EmbeddingCache())
    scores, _ = scorer.score(
        ["disk failure", "heartbeat ok", "heartbeat"], rows_of([[0], [1], [2]])
    )
    assert not encoder.encoded
    assert abs(scores[0] - scores[1]) > 1e-3
    # `ok` has no vector: the template's is shorter by it, and, scaled, the same.
    close(scores[1:2], scores[2:3])


def test_a_threshold_can_be_given(bundle: SessionBundle) -> None:
    assert SessionScorer(bundle, FakeEncoder(), EmbeddingCache()).threshold == 0.5
    assert SessionScorer(bundle, FakeEncoder(), EmbeddingCache(), threshold=0.0).threshold == 0


def test_another_encoder_is_refused_in_one_line(bundle: SessionBundle) -> None:
    with pytest.raises(BundleVersionError) as caught:
        SessionScorer(bundle, FakeEncoder("other"), EmbeddingCache())
    assert str(caught.value) == (
        "the bundle hdfs/0001 was made with the encoder fake:fake:16:fp32 (fake) and "
        "fake:other:16:fp32 is loaded: set encoder.name=fake and encoder.precision=fp32, or adapt "
        "again"
    )
