from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from agent.kept_texts import KeptTexts


@pytest.mark.parametrize("at_once", [1, 1_000, 30_000])
@pytest.mark.parametrize("gone", [0, 7, 14_999, 20_000])
def test_texts_are_those_that_were_added(at_once: int, gone: int) -> None:
    texts = [f"line {place} \N{SNOWMAN}\r " + "x" * (place % 300) for place in range(20_000)]
    texts[5::1_000] = [""] * 20
    kept = KeptTexts()
    for low in range(0, len(texts), at_once):
        kept.add(texts[low : low + at_once])
        kept.let_go(0)
    kept.let_go(gone)
    kept.add(["the last"])
    texts.append("the last")
    left = np.arange(gone, 20_001)
    for wanted in (left, left[::97], left[-1:], left[:0]):
        assert kept.at(wanted) == [texts[place] for place in wanted.tolist()]


def test_what_is_let_go_takes_no_memory_and_the_rest_little() -> None:
    draw = random.Random(1)  # noqa: S311 - nobody is to be kept from guessing
    kept, size = KeptTexts(), 0
    texts: list[str] = []
    tracemalloc.start()
    for _ in range(20):
        texts = [f"served block {draw.random()} to node {draw.random()}" * 4 for _ in range(10_000)]
        size += sum(map(len, texts))
        kept.add(texts)
        kept.let_go(0)
    texts = []
    held, _ = tracemalloc.get_traced_memory()
    assert held < size / 3
    kept.let_go(200_000)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < size / 1_000
    kept.add(["next"])
    assert kept.at(np.array([200_000])) == ["next"]
