"""Judging lines of which some cannot be judged, without Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from agent.judging import Judge, Judged, Lines
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import CrosyslogError
from crosyslog.store import Model
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class PoisonedEncoder(FakeEncoder):
    """Fails on any texts of which one holds `poison`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any("poison" in text for text in texts):
            raise ValueError("index out of range")
        return super().encode(texts)


class BrokenEncoder(FakeEncoder):
    """Fails on everything."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise ValueError(f"{len(texts)} texts are too many")


def judge_with(
    folder: Path, encoder: FakeEncoder, *, system: str = "plain", max_line_bytes: int = 1000
) -> Judge:
    """A judge on whose scores the lines before a line have an influence."""
    path = folder / "bundle"
    bundle = tiny_bundle(path, encoder=FakeEncoder(), bias=0.0)
    model = Model(bundle, load_system(system), adapted=True)
    return Judge(model, encoder, EmbeddingCache(), 0.0, max_line_bytes)


def lines_of(
    values: Sequence[bytes | None], first: int = 0, fresh_from: int = 0, partitions: int = 1
) -> Lines:
    count = len(values)
    offsets = np.arange(first, first + count)
    return Lines(
        "logs",
        pl.Series(values, dtype=pl.Binary),
        np.arange(count) % partitions,
        offsets,
        offsets >= fresh_from,
    )


def scores_by_offset(judged: Judged) -> dict[int, float]:
    return {event["source"]["offset"]: event["anomaly"]["score"] for event in judged.events}


def test_the_lines_that_cannot_be_judged_are_found_and_stop_no_other(tmp_path: Path) -> None:
    values: list[bytes | None] = [f"node {'abcdefghij'[n % 10] * 4} ok".encode() for n in range(64)]
    values[11] = b"a poison line"
    values[40] = b"another poison of it"
    values[41] = None
    values[63] = b"x" * 1001
    judged = judge_with(tmp_path, PoisonedEncoder()).judge(lines_of(values), {})
    assert [(letter.row, letter.reason) for letter in judged.dead] == [
        (11, "scoring"),
        (40, "scoring"),
        (41, "null"),
        (63, "oversized"),
    ]
    assert "index out of range" in judged.dead[0].detail
    assert judged.rows == [row for row in range(64) if row not in {11, 40, 41, 63}]
    assert len(judged.scores) == 60
    # A dead letter keeps its offset and enters no window: without those lines all is the same.
    (tmp_path / "again").mkdir()
    whole = judge_with(tmp_path / "again", FakeEncoder())
    kept = np.array(judged.rows)
    expected = whole.judge(
        Lines(
            "logs",
            pl.Series([values[row] for row in judged.rows], dtype=pl.Binary),
            np.zeros(len(kept), np.int64),
            kept,
            np.ones(len(kept), np.bool_),
        ),
        {},
    )
    assert scores_by_offset(judged) == pytest.approx(scores_by_offset(expected), abs=1e-3)
    assert judged.states == expected.states


def test_lines_that_are_read_again_make_no_second_dead_letter(tmp_path: Path) -> None:
    values = [b"fine", b"a poison line", None, b"a poison line"]
    judged = judge_with(tmp_path, PoisonedEncoder()).judge(
        lines_of(values, first=100, fresh_from=103), {}
    )
    assert [(letter.row, letter.reason) for letter in judged.dead] == [(3, "scoring")]
    assert judged.events == []


def test_json_that_cannot_be_read_is_a_dead_letter_with_its_reason(tmp_path: Path) -> None:
    values = [
        b'{"message": "all well"}',
        b"{broken",
        b"[1, 2]",
        b'{"other": 1}',
        b'{"message": "and on"}',
    ]
    judged = judge_with(tmp_path, FakeEncoder(), system="json").judge(lines_of(values), {})
    assert [(letter.row, letter.reason) for letter in judged.dead] == [
        (1, "undecodable"),
        (2, "undecodable"),
        (3, "missing-field"),
    ]
    assert judged.rows == [0, 4]
    assert judged.unsplit == 0


def test_a_line_without_json_of_another_profile_is_judged_whole(tmp_path: Path) -> None:
    judged = judge_with(tmp_path, FakeEncoder(), system="spirit").judge(lines_of([b"hello"]), {})
    assert (judged.dead, judged.unsplit, judged.rows) == ([], 1, [0])


def test_an_encoder_that_is_broken_is_not_blamed_on_lines(tmp_path: Path) -> None:
    judge = judge_with(tmp_path, BrokenEncoder())
    with pytest.raises(CrosyslogError, match="no line can be judged: the encoder fails"):
        judge.judge(lines_of([b"one", b"two"]), {})


def test_nothing_that_can_be_judged_is_a_judgement_too(tmp_path: Path) -> None:
    judged = judge_with(tmp_path, FakeEncoder()).judge(lines_of([None, None]), {})
    assert [letter.reason for letter in judged.dead] == ["null", "null"]
    assert len(judged.scores) == 0
