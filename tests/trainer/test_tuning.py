"""The search for settings: what is tried, what is judged, and what is kept."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from crosyslog.errors import LabelError, SettingError
from tests.trainer.tuned import QUICK, two_logs
from trainer.config_files import read_config
from trainer.training import TrainingConfig
from trainer.tuning.held_out import Source, check_sources, held_out_f1, plan_for
from trainer.tuning.records import Records, Rung, Trial, opened
from trainer.tuning.report import best_of, best_settings, ranked, table
from trainer.tuning.space import default_space, draw_settings, read_space, searched
from trainer.tuning.trial import Work, run_trial

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return two_logs(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def sources(logs: tuple[Path, Path]) -> list[Source]:
    from trainer.commands.tune import _read

    return _read({"spirit": logs[0], "liberty": logs[1]})


@pytest.fixture
def quick(tmp_path: Path) -> TrainingConfig:
    (tmp_path / "quick.toml").write_text(QUICK)
    return read_config(tmp_path / "quick.toml", TrainingConfig)


# --- the space


def test_the_same_seed_proposes_the_same_settings_and_all_differ() -> None:
    space = default_space()
    drawn = draw_settings(space, TrainingConfig(), trials=12, seed=3)
    assert drawn[0] == TrainingConfig()
    assert drawn == draw_settings(
        dict(reversed(space.items())), TrainingConfig(), trials=12, seed=3
    )
    assert drawn[:5] == draw_settings(space, TrainingConfig(), trials=5, seed=3)
    assert len({json.dumps(one.model_dump()) for one in drawn}) == 12
    assert drawn[1:] != draw_settings(space, TrainingConfig(), trials=12, seed=4)[1:]


def test_draws_stay_in_the_space_and_reach_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "hidden = [8, 16]\ninner_steps = {low = 1, high = 3}\n"
        "projected = {low = 2, high = 4, log = true}\nnoise = {low = 0.0, high = 0.5}\n"
        "outer_rate = {low = 1e-4, high = 1e-1, log = true}\nfirst_order = [true, false]\n"
    )
    drawn = draw_settings(read_space(path), TrainingConfig(), trials=400, seed=0)[1:]
    assert {one.hidden for one in drawn} == {8, 16}
    assert {one.inner_steps for one in drawn} == {1, 2, 3}
    assert {one.projected for one in drawn} == {2, 3, 4}
    assert {one.first_order for one in drawn} == {True, False}
    assert all(0 <= one.noise <= 0.5 for one in drawn)
    rates = np.array([one.outer_rate for one in drawn])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-1
    # Evenly over the three decades, not over the values.
    assert 0.25 < (rates < 1e-3).mean() < 0.42
    assert all(one.support_lines == TrainingConfig().support_lines for one in drawn)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hiden = [1]", "hiden is no setting .*hidden"),
        ("seed = [1, 2]", "the seed is chance"),
        ("noise = {low = 0.3, high = 0.1}", "low = 0.3 is not below high = 0.1"),
        ("noise = {low = 0, high = 1, log = true}", "log needs low above 0"),
        ("noise = {low = -1, high = 1}", "noise=-1.*greater than or equal to 0"),
        ("permuted = {low = 0, high = 2}", "permuted=2.*less than or equal to 1"),
        ("noise = {low = 0, high = inf}", "finite"),
        ("hidden = {low = 1.5, high = 4}", "whole number"),
        ("first_order = {low = 0, high = 1}", "write choices"),
        ("hidden = []", "no choice"),
        ("hidden = [0]", "hidden=0: .*greater than 0"),
        ("hidden = ['8']", "hidden='8'"),
        ("hidden = 8", r"write \[choices\]"),
        ("noise = {low = 0, hihg = 1}", r"write \[choices\]"),
        ("", "names no setting"),
        ("hidden =", "is not TOML"),
    ],
)
def test_impossible_spaces_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=said) as caught:
        read_space(path)
    assert "\n" not in str(caught.value)


def test_what_is_fixed_is_not_searched(tmp_path: Path) -> None:
    fixed = TrainingConfig(hidden=7)
    assert "hidden" not in searched(None, fixed)
    assert all(
        one.hidden == 7 for one in draw_settings(searched(None, fixed), fixed, trials=5, seed=0)
    )
    (tmp_path / "space.toml").write_text("hidden = [8]")
    with pytest.raises(SettingError, match="hidden is in --space and in --config"):
        searched(read_space(tmp_path / "space.toml"), fixed)


def test_a_space_that_is_exhausted_or_does_not_fit_says_so(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text("hidden = [8, 16, 32]")
    small = read_space(tmp_path / "small.toml")
    # 32 is the default: that is the first trial.
    assert len(draw_settings(small, TrainingConfig(), trials=3, seed=0)) == 3
    with pytest.raises(SettingError, match="--trials 4: no more than 3 different settings"):
        draw_settings(small, TrainingConfig(), trials=4, seed=0)
    (tmp_path / "odd.toml").write_text("support_lines = {low = 100, high = 900}")
    with pytest.raises(SettingError, match="multiple of 100: write choices"):
        draw_settings(read_space(tmp_path / "odd.toml"), TrainingConfig(), trials=4, seed=0)


def test_the_documentation_shows_the_default_space() -> None:
    shown = (ROOT / "docs" / "tune.md").read_text(encoding="utf-8")
    assert (ROOT / "trainer" / "tuning" / "space.toml").read_text(encoding="utf-8") in shown


# --- a trial


def work_of(
    sources: Sequence[Source], settings: TrainingConfig, folder: Path, known: Sequence[Rung] = ()
) -> Work:
    (folder / "search.json").write_text("{}")
    return Work(
        sources=sources,
        plan=replace(plan_for(settings, 0), tasks=1),
        settings=[settings.model_dump()],
        known=[known],
        folder=str(folder),
        search="{}",
    )


def without_time(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    return [rung.model_dump(exclude={"seconds"}) for rung in rungs]


class KilledError(Exception):
    """Stands for whatever ends a process."""


def test_a_trial_that_goes_on_finds_what_an_unbroken_one_finds(
    sources: list[Source], quick: TrainingConfig, tmp_path: Path
) -> None:
    tiny = quick.model_copy(update={"projected": 4, "inner_steps": 1})
    unbroken: list[Rung] = []
    (tmp_path / "one").mkdir()
    run_trial(0, work_of(sources, tiny, tmp_path / "one"), unbroken.append)
    assert [(rung.quarter, rung.step) for rung in unbroken] == [(1, 1), (2, 2), (4, 4)]
    assert all(set(rung.held_out) == {"spirit", "liberty"} for rung in unbroken)
    assert all(rung.f1 == pytest.approx(sum(rung.held_out.values()) / 2) for rung in unbroken)
    assert not any((tmp_path / "one" / "checkpoints").glob("*"))

    broken: list[Rung] = []

    def die_at_the_second(rung: Rung) -> None:
        if rung.quarter == 2:
            raise KilledError
        broken.append(rung)

    folder = tmp_path / "two"
    folder.mkdir()
    with pytest.raises(KilledError):
        run_trial(0, work_of(sources, tiny, folder), die_at_the_second)
    assert any((folder / "checkpoints" / "0000").iterdir())
    again: list[Rung] = []
    run_trial(0, work_of(sources, tiny, folder, broken), again.append)
    assert without_time(again) == without_time(unbroken)
    # And where a machine does not see the folder, from the start.
    elsewhere: list[Rung] = []
    run_trial(
        0,
        replace(work_of(sources, tiny, folder, unbroken[:2]), search="another"),
        elsewhere.append,
    )
    assert without_time(elsewhere) == without_time(unbroken)


def test_damaged_checkpoints_cost_time_alone(
    sources: list[Source], quick: TrainingConfig, tmp_path: Path
) -> None:
    tiny = quick.model_copy(update={"projected": 4, "inner_steps": 1, "outer_steps": 2})
    own = tmp_path / "checkpoints" / "0000"
    own.mkdir(parents=True)
    (own / "0-00000001").write_bytes(b"damaged")
    found: list[Rung] = []
    run_trial(0, work_of(sources, tiny, tmp_path), found.append)
    assert [rung.step for rung in found] == [1, 1, 2]


def test_a_base_is_judged_on_what_it_was_not_trained_on(
    sources: list[Source], quick: TrainingConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judged = []

    def note(base: Any, source: Source, plan: Any) -> float:  # noqa: ANN401 - as it is
        judged.append((base.manifest.sources, source.name))
        return held_out_f1(base, source, plan)

    monkeypatch.setattr("trainer.tuning.trial.held_out_f1", note)
    tiny = quick.model_copy(update={"projected": 4, "inner_steps": 1, "outer_steps": 1})
    run_trial(0, work_of(sources, tiny, tmp_path), lambda _: None)
    assert set(judged) == {(("liberty",), "spirit"), (("spirit",), "liberty")}


def test_sources_that_cannot_be_judged_are_refused_by_name(
    sources: list[Source], quick: TrainingConfig
) -> None:
    def with_labels(labels: Any) -> list[Source]:  # noqa: ANN401 - an array
        other = replace(sources[1], stream=replace(sources[1].stream, labels=labels))
        return [sources[0], other]

    plan = plan_for(quick, 0)
    check_sources(sources, plan, [300])
    labels = sources[1].stream.labels
    for given, said in (
        (np.ones_like(labels), "the source liberty holds alerts alone"),
        (np.zeros_like(labels), "the source liberty: none of the 10,600 lines is an alert"),
        (np.arange(len(labels)) < 3, "the source liberty: no position of the log makes a task"),
    ):
        with pytest.raises(LabelError, match=said):
            check_sources(with_labels(given), plan, [300])
    with pytest.raises(LabelError, match=r"spirit .*support_lines = 700, which a trial needs"):
        check_sources(sources, plan, [300, 700])


# --- records and reports


def rung(quarter: int, f1: float) -> Rung:
    return Rung(quarter=quarter, step=quarter, f1=f1, held_out={"a": f1, "b": f1}, seconds=1.0)


def test_a_folder_is_gone_on_with_by_the_same_search_alone(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    search = {"seed": 0, "space": {"noise": (1, 2)}}
    with opened(folder, search):
        pass
    assert not folder.exists()
    with opened(folder, search):
        records = Records(folder, [{"noise": 0}, {"noise": 1}])
        records.add(1, rung(1, 0.5))
        with pytest.raises(SettingError, match="another search is at work"), opened(folder, search):
            pass
    with opened(folder, search):
        again = Records(folder, [{"noise": 0}, {"noise": 1}, {"noise": 2}])
        assert [len(trial.rungs) for trial in again.trials] == [0, 1, 0]
        assert again.remaining() == [0, 1, 2]
        again.end(1)
        assert again.trials[1].state == "stopped"
        again.end(0, error="no")
    assert Records(folder, [{"noise": 0}, {"noise": 1}]).remaining() == [0]
    with pytest.raises(SettingError, match="holds more than 1 trials"):
        Records(folder, [{"noise": 0}])
    with (
        pytest.raises(SettingError, match="another search: seed differ"),
        opened(folder, search | {"seed": 1}),
    ):
        pass
    (folder / "trials" / "0001.json").write_text("{")
    with pytest.raises(SettingError, match=r"0001.json is damaged"):
        Records(folder, [{"noise": 0}, {"noise": 1}])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="exists already"), opened(tmp_path, {}):
        pass


def made_trials() -> list[Trial]:
    settings = [TrainingConfig(noise=noise).model_dump() for noise in (0.1, 0.2, 0.3, 0.4)]
    return [
        Trial(number=0, settings=settings[0], state="finished", rungs=(rung(1, 0.2), rung(4, 0.4))),
        Trial(number=1, settings=settings[1], state="stopped", rungs=(rung(1, 0.9),)),
        Trial(number=2, settings=settings[2], state="finished", rungs=(rung(1, 0.3), rung(4, 0.6))),
        Trial(number=3, settings=settings[3], state="failed", error="bad\x1b[31m luck"),
    ]


def test_the_best_trial_is_one_that_ran_to_its_end() -> None:
    trials = made_trials()
    assert [trial.number for trial in ranked(trials)] == [2, 0, 1]
    assert best_of(trials).number == 2
    with pytest.raises(LabelError, match="no trial came to its end: bad"):
        best_of(trials[3:])


def test_the_best_settings_are_read_by_train(tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    path.write_text(best_settings(made_trials(), "trainer tune --source 'a\nseed = 9'"))
    assert read_config(path, TrainingConfig) == TrainingConfig(noise=0.3)


def test_the_table_holds_every_trial() -> None:
    rows = list(csv.DictReader(table(made_trials(), ["noise"]).splitlines()))
    assert [row["state"] for row in rows] == ["finished", "stopped", "finished", "failed"]
    assert [row["noise"] for row in rows] == ["0.1", "0.2", "0.3", "0.4"]
    assert rows[1]["f1_after_1_of_4"] == "0.900000"
    assert rows[1]["f1_after_4_of_4"] == rows[3]["f1"] == ""
    assert "\x1b" not in rows[3]["error"]
