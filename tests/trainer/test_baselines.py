"""Each baseline does what it says, on streams that fit on a screen."""

from __future__ import annotations

import numpy as np
import pytest

from crosyslog.words import ALERT_WORDS, alert_words
from tests.fakes import FakeEncoder
from trainer.baselines import BASELINES, Judgement, Known, keyword

TEMPLATES = [
    "heartbeat ok from node",  # 0
    "session opened for user",  # 1
    "disk failure on array",  # 2
    "session closed for user",  # 3
    "disk failure on shelf",  # 4
    "nothing like the rest",  # 5
    "",  # 6: a line without message
]


def known(support: list[tuple[int, bool]], templates: list[str] | None = None) -> Known:
    texts = templates or TEMPLATES
    return Known(
        texts,
        FakeEncoder(dim=64).encode(texts),
        np.array([row for row, _ in support]),
        np.array([label for _, label in support]),
    )


def ask(method: str, support: list[tuple[int, bool]], query: list[int]) -> Judgement:
    return BASELINES[method](known(support), np.array(query))


def flagged(method: str, support: list[tuple[int, bool]], query: list[int]) -> list[bool]:
    return list(ask(method, support, query).flagged.tolist())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("KERNEL FATAL data TLB error interrupt", 3),
        ("authentication failures for root", 1),
        ("kernel: Uncorrectable ECC; panic!", 2),
        ("ext3_error on sda", 1),
        ("interface answered to a superb badge", 1),
        ("session opened for user", 0),
        ("", 0),
    ],
)
def test_alert_words_are_found_where_a_word_begins(text: str, words: int) -> None:
    assert alert_words(text) == words


def test_alert_words_are_listed_once() -> None:
    assert list(ALERT_WORDS) == sorted(set(ALERT_WORDS))
    assert all(word.isalpha() and word.islower() for word in ALERT_WORDS)
    assert not [
        (short, long)
        for short in ALERT_WORDS
        for long in ALERT_WORDS
        if short != long and long.startswith(short)
    ]


def test_keyword_reads_the_line_alone() -> None:
    query = np.array([0, 2, 4, 2])
    judgements = [keyword(known(support), query) for support in ([(2, False)], [(0, True)])]
    for judgement in judgements:
        assert judgement.flagged.tolist() == [False, True, True, True]
        assert judgement.scores.tolist() == judgements[0].scores.tolist()


def test_more_alert_words_score_higher() -> None:
    templates = ["all well", "error", "fatal error"]
    scores = keyword(known([(0, False)], templates), np.array([0, 1, 2])).scores.tolist()
    assert scores[0] == 0 < scores[1] < scores[2] < 1


def test_memory_keeps_the_majority_and_passes_the_rest() -> None:
    support = [(0, False), (2, True), (1, True), (1, True), (1, False), (3, True), (3, False)]
    assert flagged("memory", support, [0, 2, 1, 3, 4, 5]) == [False, True, True, True, False, False]
    assert ask("memory", support, [1, 3, 4]).scores.tolist() == pytest.approx([2 / 3, 1 / 2, 0])


def test_nearest_takes_the_label_of_the_most_similar() -> None:
    support = [(0, False), (1, False), (2, True)]
    assert flagged("nearest", support, [3, 4, 2, 0]) == [False, True, True, False]


def test_logreg_learns_from_words() -> None:
    support = [(0, False), (1, False), (1, False), (2, True), (6, False)]
    assert flagged("logreg", support, [3, 4, 2, 0, 6]) == [False, True, True, False, False]


@pytest.mark.parametrize("method", ["memory", "nearest", "logreg"])
def test_a_template_of_the_support_keeps_its_label(method: str) -> None:
    # Told the opposite of what the words say, they believe it.
    assert flagged(method, [(2, False), (4, False), (0, True)], [2, 0]) == [False, True]


@pytest.mark.parametrize("method", ["memory", "nearest", "logreg"])
@pytest.mark.parametrize("label", [False, True])
def test_with_one_class_only_what_was_given_is_flagged(method: str, label: bool) -> None:
    assert flagged(method, [(0, label), (2, label)], [0, 2, 4, 5]) == [label, label, False, False]


@pytest.mark.parametrize("method", BASELINES)
def test_a_line_is_judged_by_its_template_wherever_it_stands(method: str) -> None:
    support = [(0, False), (1, False), (2, True)]
    query = [5, 4, 0, 3, 4, 2, 6]
    there, back = ask(method, support, query), ask(method, support, query[::-1])
    assert there.scores.tolist() == pytest.approx(back.scores[::-1].tolist(), abs=1e-5)
    assert there.flagged.tolist() == back.flagged[::-1].tolist()
    assert ((there.scores >= 0) & (there.scores <= 1)).all()
