"""A training that is stopped and gone on with: the same bits, and nothing of another one."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from crosyslog.errors import SettingError
from crosyslog.threads import torch_threads
from tests.fakes import FakeEncoder, lstm_of
from tests.trainer.made import TINY_TRAINING
from trainer import tasks as tasks_module
from trainer.checkpoint import read_checkpoint, write_checkpoint
from trainer.tasks import LabelledStream
from trainer.training import MetaTraining

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crosyslog.bundle import Bundle

pytestmark = pytest.mark.usefixtures("short_queries")

TINY = TINY_TRAINING.model_copy(update={"outer_steps": 6})


def stream(name: str, seed: int) -> LabelledStream:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((30, 16)).astype(np.float32)
    rows = rng.integers(0, 30, 2_000)
    return LabelledStream(name, [f"{name} {t}" for t in range(30)], vectors, rows, rows % 4 == 0)


SOURCES = [stream("one", 1), stream("two", 2)]


def training(**changes: Any) -> MetaTraining:  # noqa: ANN401 - whatever a setting may be
    return MetaTraining(SOURCES, TINY.model_copy(update=changes), 16)


def base(of: MetaTraining) -> Bundle:
    return of.bundle(name="tiny", encoder=FakeEncoder(), command="test")


def assert_same(one: Bundle, other: Bundle) -> None:
    """To the bit, whatever the time that they are stamped with."""
    stamp = {"created": one.manifest.created}
    assert one.manifest == other.manifest.model_copy(update=stamp)
    assert one.support.equals(other.support)
    own, others = one.detector.state_dict(), other.detector.state_dict()
    assert own.keys() == others.keys()
    for name, value in own.items():
        assert torch.equal(value, others[name]), name


@pytest.fixture(scope="module")
def in_one_go() -> Iterator[Bundle]:
    with pytest.MonkeyPatch.context() as patch, torch_threads(1):
        patch.setattr(tasks_module, "QUERY_LINES", 400)
        patch.setattr(tasks_module.positions, "__defaults__", (400,))
        whole = training()
        whole.run(TINY.outer_steps)
        yield base(whole)


@pytest.mark.parametrize("half", [0, 1, 3, 6])
def test_two_parts_with_a_saved_state_between_are_one_go(
    tmp_path: Path, in_one_go: Bundle, half: int
) -> None:
    first = training()
    first.run(half)
    first.save(tmp_path / "state")
    second = training()
    # What it did before it took the state over must not matter.
    second.run(2)
    second.load(tmp_path / "state")
    assert second.step == half
    assert second.done == (half == 6)
    losses: list[int] = []
    second.run(100, lambda step, _: losses.append(step))
    assert losses == list(range(half + 1, 7))
    assert second.done
    assert_same(base(second), in_one_go)


def test_steps_one_by_one_are_one_go(in_one_go: Bundle) -> None:
    one_by_one = training()
    for step in range(1, 7):
        assert not one_by_one.done
        one_by_one.run(step)
        assert one_by_one.step == step
    assert_same(base(one_by_one), in_one_go)


def test_a_base_on_the_way_changes_nothing(in_one_go: Bundle) -> None:
    asked = training()
    asked.run(3)
    early = base(asked)
    assert_same(base(asked), early)
    asked.run(6)
    assert_same(base(asked), in_one_go)
    weights = (lstm_of(one).stacked()["head.weight"] for one in (early, in_one_go))
    same = torch.equal(*weights)
    assert not same, "a base on the way is its own, not a view of the weights in training"


def test_no_other_chance_is_touched_or_counts(in_one_go: Bundle) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    disturbed = training()
    assert torch.equal(torch.get_rng_state(), before)
    disturbed.run(3)
    torch.rand(7)
    np.random.default_rng().random()
    disturbed.run(6)
    assert_same(base(disturbed), in_one_go)


def changed(**parts: Any) -> list[LabelledStream]:  # noqa: ANN401 - any part of a stream
    return [replace(SOURCES[0], **parts), SOURCES[1]]


@pytest.mark.parametrize(
    "sources",
    [
        changed(name="three"),
        changed(templates=[*SOURCES[0].templates[:-1], "another"]),
        changed(rows=np.roll(SOURCES[0].rows, 1)),
        changed(labels=np.roll(SOURCES[0].labels, 1)),
        changed(vectors=SOURCES[0].vectors * np.float32(1.001)),
        SOURCES[::-1],
        SOURCES[:1],
    ],
    ids=["name", "templates", "rows", "labels", "vectors", "order", "number"],
)
def test_a_state_of_other_sources_is_refused(tmp_path: Path, sources: list[LabelledStream]) -> None:
    training().save(tmp_path / "state")
    with pytest.raises(SettingError, match=r"other sources .*one, two.*start anew with --restart"):
        MetaTraining(sources, TINY, 16).load(tmp_path / "state")


@pytest.mark.parametrize("change", [{"seed": 1}, {"outer_steps": 9}, {"noise": 0.2}])
def test_a_state_of_other_settings_is_refused(tmp_path: Path, change: dict[str, float]) -> None:
    training().save(tmp_path / "state")
    (name,) = change
    with pytest.raises(
        SettingError, match=rf"other settings \({name}\): .*start anew with --restart"
    ):
        training(**change).load(tmp_path / "state")


def test_a_flipped_byte_anywhere_is_noticed_and_changes_nothing(
    tmp_path: Path, in_one_go: Bundle
) -> None:
    path = tmp_path / "state"
    early = training()
    early.run(2)
    early.save(path)
    content = path.read_bytes()
    later = training()
    later.run(4)
    for place in [0, 3, 8, *range(9, len(content), 211), len(content) - 1]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SettingError, match="checkpoint") as caught:
            later.load(path)
        assert "\n" not in str(caught.value)
    for length in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(SettingError, match="is damaged"):
            later.load(path)
    later.run(6)
    assert_same(base(later), in_one_go)


def test_a_missing_state_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"cannot read the checkpoint .*nowhere"):
        training().load(tmp_path / "nowhere")


def test_a_state_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.checkpoint.FORMAT", 2)
    training().save(tmp_path / "state")
    monkeypatch.undo()
    with pytest.raises(SettingError, match="another version"):
        read_checkpoint(tmp_path / "state")


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_checkpoint(path, {"a": torch.ones(2)}, {"step": 1})
    before = path.read_bytes()
    (tmp_path / ".state.part").mkdir()
    with pytest.raises(SettingError, match="cannot write the checkpoint"):
        write_checkpoint(path, {"a": torch.zeros(2)}, {"step": 2})
    assert path.read_bytes() == before


def test_a_state_is_of_its_owner_alone_and_holds_no_text(tmp_path: Path) -> None:
    training().save(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600
    assert b"one 1" not in (tmp_path / "state").read_bytes()
