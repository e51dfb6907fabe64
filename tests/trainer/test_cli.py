"""What a user sees of `trainer`: its commands, and one line for every mistake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog import terminal
from crosyslog.bundle import load_bundle
from crosyslog.store import Store
from tests.fakes import add_tiny_model
from tests.trainer.made import make_base, messages, write_log
from tests.trainer.shell import Shell
from trainer.based_methods import BASED
from trainer.baselines import BASELINES
from trainer.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes import FakeEncoder


pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def base(here: Path, encoder: FakeEncoder) -> Path:
    make_base(here / "base", encoder)
    return here / "base"


@pytest.fixture
def log(here: Path) -> Path:
    """A log of Spirit with room for some tasks."""
    return write_log(here / "spirit.log", *messages(11_700))


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


def test_help_names_every_command(trainer: Shell) -> None:
    shown = trainer.says("--help")
    for command in ("systems", "simulate", "train", "adapt", "evaluate", "models"):
        assert f"  {command} " in shown


def test_without_a_command_help_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(app, []) == 2
    assert capfd.readouterr().out.startswith("Usage: ")


# --- systems


def test_systems_are_listed_and_shown(trainer: Shell) -> None:
    assert "Spirit at Sandia" in trainer.says("systems")
    assert set(trainer.reports("systems")) >= {"bgl", "liberty", "plain", "spirit", "thunderbird"}
    shown = trainer.says("systems", "show", "bgl")
    assert "component severity message" in shown
    assert trainer.reports("systems", "show", "bgl")["name"] == "bgl"
    assert "unknown system 'x'" in trainer.refuses("systems", "show", "x")


def test_systems_check_counts_and_shows_the_first_line_that_does_not_split(
    trainer: Shell, here: Path
) -> None:
    log = write_log(here / "log", ["disk failure", "all well", "all well"], np.arange(3) == 0)
    with log.open("ab") as stream:
        stream.write(b"\x1b[31mno header\n")
    assert trainer.reports("systems", "check", "spirit", log) == {
        "system": "spirit",
        "lines": 4,
        "split": 3,
        "first_unsplit": {"number": 4, "text": "\x1b[31mno header"},
        "labels": {"alert": 1, "normal": 2, "none": 1},
        "times": {
            "first": "2005-01-01T08:01:01+00:00",
            "last": "2005-01-01T08:01:03+00:00",
            "none": 1,
        },
        "wrong_examples": [],
    }
    shown = trainer.says("systems", "check", "spirit", log)
    assert "line 4: \\x1b[31mno header" in shown
    assert "3 (75.0%)" in shown


def test_systems_check_of_a_file_that_is_none(trainer: Shell) -> None:
    assert "cannot read nowhere" in trainer.refuses("systems", "check", "spirit", "nowhere")


# --- simulate


def test_simulate_writes_a_log_that_its_profile_reads(trainer: Shell) -> None:
    arguments = ("simulate", "--system", "spirit", "--lines", 2000, "--anomaly-rate", 0.1)
    summary = trainer.reports(*arguments, "--seed", 3, "--output", "made.log")
    assert (summary["lines"], summary["alerts"]) == (2000, 200)
    checked = trainer.reports("systems", "check", "spirit", "made.log")
    assert checked["split"] == 2000
    assert checked["labels"] == {"alert": 200, "normal": 1800, "none": 0}
    assert "2,000 simulated lines of spirit, 200 of them" in trainer.says(
        *arguments, "--output", "other.log"
    )


def test_simulate_refuses_what_it_cannot_write(trainer: Shell) -> None:
    assert "plain" in trainer.refuses("simulate", "--system", "plain", "--output", "x.log")
    refused = trainer.refuses("simulate", "--system", "spirit", "--output", "none/x.log")
    assert "none/x.log" in refused
    assert "Missing option '--output'" in trainer.refuses("simulate", "--system", "spirit")
    assert "--lines" in trainer.refuses(
        "simulate", "--system", "spirit", "--lines", "many", "--output", "x.log"
    )


# --- train


def test_train_writes_a_base_without_log_text(trainer: Shell, here: Path, log: Path) -> None:
    (here / "quick.toml").write_text(
        "outer_steps = 2\ninner_steps = 1\nprojected = 4\nhidden = 3\nsupport_lines = 200\n"
        "query_windows = 2\ntasks_a_source = 1\n",
        encoding="utf-8",
    )
    arguments = (
        "train",
        "--source",
        f"spirit={log}",
        "--detector",
        "maml_lstm",
        "--config",
        "quick.toml",
    )
    report = trainer.reports(*arguments, "--output", "made")
    assert (report["base"], report["sources"]) == ("made", ["spirit"])
    bundle = load_bundle(here / "made")
    assert bundle.manifest.kind == "base"
    assert bundle.support["template"].null_count() == bundle.support.height
    # A base travels: file names, and nothing of where they were.
    assert bundle.manifest.command == (
        "trainer train --source spirit=spirit.log --detector maml_lstm --config quick.toml "
        "--output made"
    )
    assert "already" in trainer.refuses(*arguments, "--output", "made")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "spirit"), "write NAME=PATH"),
        (("--source", "vax=spirit.log"), "unknown system 'vax'"),
        (("--source", "bgl=spirit.log"), "is no log of bgl"),
        (("--source", "plain=spirit.log"), "knows no labels"),
        (("--source", "spirit=a", "--source", "spirit=b"), "given twice"),
        (("--source", "spirit=nowhere"), "cannot read nowhere"),
        (("--source", "spirit=empty"), "empty is empty"),
        (("--source", "spirit=spirit.log", "--config", "nowhere"), "cannot read the settings"),
        ((), "Missing option '--source'"),
    ],
)
def test_train_refuses(
    trainer: Shell, here: Path, log: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert log.exists()
    (here / "empty").touch()
    assert said in trainer.refuses(
        "train", *arguments, "--detector", "maml_lstm", "--output", "made"
    )
    assert not (here / "made").exists()


# --- adapt


def test_adapt_stores_a_model_and_tells_what_was_learnt(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    arguments = ("adapt", "--target", "spirit", "--log", log, "--base", base)
    report = trainer.reports(*arguments)
    assert report["version"] == "0001"
    assert report["system"] == "spirit"
    assert report["support"]["lines"] == 11_700
    assert report["support"]["alert_templates"] == 4
    assert not report["one_class"]
    assert report["notes"] == []
    shown = trainer.says(*arguments)
    assert "version 0002 is stored" in shown
    assert "4 of alerts, 80 of normal lines" in shown
    store = Store(here / "store")
    assert store.current("spirit") == "0002"
    manifest = load_bundle(store.path("spirit", "0002")).manifest
    assert (manifest.target, manifest.version, manifest.base) == ("spirit", "0002", "tiny/0001")
    assert manifest.command.startswith("trainer adapt --target spirit --log spirit.log")


def test_adapt_with_a_quiet_threshold(
    trainer: Shell, here: Path, log: Path, encoder: FakeEncoder
) -> None:
    make_base(here / "loud", encoder, threshold=0.001)
    arguments = ("adapt", "--target", "spirit", "--log", log, "--base", here / "loud")
    usual, quiet = trainer.reports(*arguments), trainer.reports(*arguments, "--quiet-alerts")
    assert quiet["threshold"]["value"] > usual["threshold"]["value"]
    assert "highest left-out score" in quiet["threshold"]["chosen"]
    store = Store(here / "store")
    manifest = load_bundle(store.path("spirit", "0002")).manifest
    assert manifest.threshold.value == quiet["threshold"]["value"]
    assert "--quiet-alerts" in manifest.command


def test_adapt_says_when_the_base_decides_and_when_it_knows_the_system(
    trainer: Shell, here: Path, base: Path
) -> None:
    log = write_log(here / "quiet.log", ["all well"] * 50, np.zeros(50, dtype=np.bool_))
    report = trainer.reports(
        "adapt", "--target", "bgl", "--system", "spirit", "--log", log, "--base", base
    )
    assert report["one_class"]
    assert any("the base decides" in note for note in report["notes"])
    assert any("trained on bgl" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "spirit"), "--log FILE"),
        (("--target", "spirit", "--log", "nowhere"), "cannot read nowhere"),
        (("--target", "spirit", "--log", "empty"), "empty is empty"),
        (("--target", "spirit", "--log", "unlabelled"), "no line of unlabelled has a label"),
        (("--target", "bgl", "--log", "spirit.log"), "is no log of bgl"),
        (("--target", "mine", "--log", "spirit.log"), "say with --system which system wrote"),
        (("--target", "a/b", "--log", "spirit.log"), "cannot name a target"),
        (("--target", "spirit", "--system", "vax", "--log", "spirit.log"), "unknown system"),
        (("--log", "spirit.log"), "Missing option '--target'"),
    ],
)
def test_adapt_refuses(
    trainer: Shell, here: Path, log: Path, base: Path, arguments: tuple[str, ...], said: str
) -> None:
    (here / "empty").touch()
    first, *_ = log.read_text(encoding="utf-8").splitlines()
    (here / "unlabelled").write_text(first.partition(" ")[2] + "\n", encoding="utf-8")
    assert said in trainer.refuses("adapt", *arguments, "--base", base)
    assert not (here / "store" / "spirit").exists()


def test_a_broken_or_missing_base_is_refused(trainer: Shell, log: Path, base: Path) -> None:
    weights = base / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for command in ("adapt", "evaluate"):
        arguments = (command, "--target", "spirit", "--log", log, "--base")
        assert "is corrupted" in trainer.refuses(*arguments, base)
        assert "no base 'none'" in trainer.refuses(*arguments, "none")


# --- evaluate


def test_an_evaluation_is_written_and_the_same_again(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    arguments = ("evaluate", "--target", "spirit", "--log", log, "--base", base)
    few = ("--support", 300, "--seeds", 2, "--tasks", 2, "--first-seed", 4)
    report = trainer.reports(*arguments, *few, "--output", "one")
    shown = trainer.says(*arguments, *few, "--output", "two")
    written = [(here / name / "evaluation.json").read_bytes() for name in ("one", "two")]
    assert written[0] == written[1]
    assert json.loads(written[0]) == report
    assert str(here) not in written[0].decode()
    assert (report["target"], report["file"], report["base"]) == ("spirit", "spirit.log", "tiny")
    assert report["seed_list"] == [4, 5]
    assert report["tasks"] == report["tasks_wanted"] == len(report["positions"]) == 4
    assert all(place["query"] == place["support"] + 300 for place in report["positions"])
    assert list(report["methods"]) == [*BASELINES, *BASED]
    assert "4 tasks of 2 seeds: 300 labelled lines in a row" in shown
    assert "the 10,000 lines after them" in shown
    assert "the log has no more positions" not in shown


def test_an_evaluation_says_when_a_log_has_fewer_tasks_than_were_asked_for(
    trainer: Shell, here: Path, base: Path
) -> None:
    texts = ["all well", "disk failure"] * 5_200
    log = write_log(here / "short.log", texts, np.array([False, True] * 5_200))
    arguments = ("evaluate", "--target", "spirit", "--log", log, "--base", base)
    shown = trainer.says(*arguments, "--support", 399, "--seeds", 1, "--tasks", 3)
    assert "2 tasks of 1 seed: 399 labelled lines in a row" in shown
    assert "3 tasks were asked for: the log has no more positions that make one" in shown
    assert "All tasks begin in one block of the stream: their spread is unknown." in shown
    assert "0.000-1.000" not in shown


def test_quiet_alerts_make_fewer_false_ones(
    trainer: Shell, here: Path, log: Path, encoder: FakeEncoder
) -> None:
    make_base(here / "loud", encoder, threshold=0.001)
    arguments = (
        "evaluate", "--target", "spirit", "--log", log, "--base", here / "loud", "--support", 300,
        "--seeds", 1, "--tasks", 2,
    )  # fmt: skip
    usual, quiet = trainer.reports(*arguments), trainer.reports(*arguments, "--quiet-alerts")
    assert (usual["quiet_alerts"], quiet["quiet_alerts"]) == (False, True)
    before, after = (report["methods"]["maml_lstm"] for report in (usual, quiet))
    assert after["false_alerts_per_10k"] < before["false_alerts_per_10k"]
    assert after["auprc"] == before["auprc"]
    assert quiet["methods"]["logreg"] == usual["methods"]["logreg"]
    assert "quiet alerts" in trainer.says(*arguments, "--quiet-alerts")


@pytest.mark.parametrize("target", [("spirit",), ("mine", "--system", "spirit")])
def test_a_shipped_source_is_judged_with_the_base_that_lacks_it(
    trainer: Shell, log: Path, target: tuple[str, ...]
) -> None:
    """The tests' quick encoder is not the base's, which is refused by its name."""
    said = trainer.refuses("evaluate", "--log", log, "--method", "crosyslog", "--target", *target)
    assert "the base without-spirit was made with" in said


def test_baselines_alone_need_no_base(trainer: Shell, log: Path) -> None:
    report = trainer.reports(
        "evaluate", "--target", "spirit", "--log", log, "--support", 300, "--seeds", 1,
        "--tasks", 1, "--method", "memory", "--method", "keyword", "--base", "none",
    )  # fmt: skip
    assert list(report["methods"]) == ["keyword", "memory"]
    assert (report["base"], report["sources"]) == (None, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "bgl", "--log", "spirit.log"), "was trained on bgl"),
        (("--target", "spirit", "--log", "spirit.log", "--method", "magic"), "--method magic"),
        (("--target", "spirit", "--log", "nowhere"), "cannot read nowhere"),
        (("--target", "spirit", "--log", "empty"), "empty is empty"),
        (("--target", "spirit", "--log", "short.log"), "labelled lines, and 11,000 are needed"),
        (("--target", "spirit", "--log", "quiet.log"), "is an alert"),
        (("--target", "thunderbird", "--system", "bgl", "--log", "spirit.log"), "trained on bgl"),
        (("--target", "mine", "--log", "spirit.log"), "knows no labels"),
        (("--target", "spirit", "--log", "spirit.log", "--output", "full"), "exists already"),
        (("--target", "spirit", "--log", "spirit.log", "--seeds", "0"), "--seeds"),
        (
            ("--target", "spirit", "--log", "spirit.log", "--quiet-alerts", "--method", "logreg"),
            "--quiet-alerts is for",
        ),
        (
            ("--target", "spirit", "--log", "a", "--quiet-alerts", "--protocol", "paper"),
            "--quiet-alerts does not go with --protocol paper",
        ),
    ],
)
def test_evaluate_refuses(
    trainer: Shell, here: Path, log: Path, base: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert log.exists()
    (here / "empty").touch()
    (here / "full").mkdir()
    (here / "full" / "something").touch()
    write_log(here / "short.log", *messages(500))
    write_log(here / "quiet.log", ["all well"] * 11_000, np.zeros(11_000, dtype=np.bool_))
    assert said in trainer.refuses("evaluate", *arguments, "--base", base)


# --- models


@pytest.fixture
def store(here: Path) -> Store:
    """Three versions for spirit, one for liberty."""
    store = Store(here / "store")
    for target in ("spirit", "spirit", "liberty", "spirit"):
        add_tiny_model(store, target)
    return store


def test_models_are_listed_and_shown(trainer: Shell, store: Store) -> None:
    listed = trainer.reports("models")
    assert {name: [one["version"] for one in kept] for name, kept in listed.items()} == {
        "liberty": ["0001"],
        "spirit": ["0001", "0002", "0003"],
    }
    assert [one["current"] for one in listed["spirit"]] == [False, False, True]
    rows = trainer.says("models").splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [["liberty", "0001"], ["spirit", "0003"]]
    shown = trainer.says("models", "show", "spirit")
    assert "spirit 0003 (in use)" in shown
    assert "detector        maml_lstm" in shown
    assert "lines split by  " in shown
    elsewhere = trainer.says("models", "--store", store.root.parent / "other")
    assert "no model in" in elsewhere


def test_a_damaged_model_is_listed_as_such(trainer: Shell, store: Store) -> None:
    (store.path("spirit", "0003") / "manifest.json").write_text("{}", encoding="utf-8")
    assert "broken" in trainer.says("models")
    assert "is corrupted" in trainer.says("models", "show", "spirit")
    shown = trainer.reports("models", "show", "spirit")
    assert "problem" in shown[2]
    assert trainer.reports("models", "use", "spirit", "0002")["current"] == "0002"
    assert "is corrupted" in trainer.refuses("models", "use", "spirit", "0003")
    assert store.current("spirit") == "0002"


@pytest.mark.parametrize("part", ["weights.safetensors", "support.parquet"])
def test_a_model_with_one_flipped_byte_is_never_put_in_use(
    trainer: Shell, store: Store, part: str
) -> None:
    path = store.path("spirit", "0003") / part
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{part} is not the file" in trainer.refuses("models", "use", "spirit", "0003")
    assert f"{part} is not the file" in trainer.says("models", "show", "spirit")


def test_models_are_listed_where_it_is_not_told_which_one_is_in_use(
    trainer: Shell, store: Store
) -> None:
    (store.root / "spirit" / "current").write_text("nonsense", encoding="ascii")
    assert "none" in trainer.says("models")
    assert [kept["current"] for kept in trainer.reports("models", "show", "spirit")] == [False] * 3
    assert trainer.reports("models", "use", "spirit", "0001")["current"] == "0001"


def test_back_to_an_older_model_and_clean_up(trainer: Shell, store: Store) -> None:
    assert "version 0001 is in use" in trainer.says("models", "use", "spirit", "1")
    assert store.current("spirit") == "0001"
    report = trainer.reports("models", "remove", "spirit", "--keep", 1)
    assert report == {"target": "spirit", "removed": ["0002"], "kept": ["0001", "0003"]}
    assert trainer.reports("models", "remove", "spirit", "--keep", 9)["removed"] == []


def test_a_damaged_model_does_not_count_among_those_that_stay(trainer: Shell, store: Store) -> None:
    (store.path("spirit", "0003") / "weights.safetensors").unlink()
    (store.root / "spirit" / "0000").touch()
    report = trainer.reports("models", "remove", "spirit", "--keep", 1)
    assert report["removed"] == ["0001"]
    assert report["kept"] == ["0002", "0003"]
    (store.root / "file").touch()
    assert "is no folder" in trainer.refuses("models", "--store", store.root / "file")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "vax"), "no model of 'vax'"),
        (("use", "spirit", "0009"), "no version '0009'"),
        (("use", "vax", "0001"), "no version '0001'"),
        (("remove", "vax", "--keep", "1"), "vax has no bundle"),
        (("remove", "spirit", "--keep", "0"), "--keep"),
        (("remove", "spirit"), "as in `trainer models remove spirit --keep 1`"),
        (("show", "../x"), "cannot name a target"),
        (("forget",), "No such command 'forget'"),
    ],
)
def test_models_refuses(
    trainer: Shell, store: Store, arguments: tuple[str, ...], said: str
) -> None:
    assert said in trainer.refuses("models", *arguments)
    assert len(store.versions("spirit")) == 3


def test_models_and_systems_do_without_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from crosyslog.terminal import run; from trainer.cli import app; "
        "status = [run(app, [command]) for command in ('models', 'systems')]; "
        "assert status == [0, 0]; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
