"""`trainer train`, `adapt` and `models` of what judges sessions, on simulated logs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.session_bundle import load_session_bundle
from crosyslog.session_rules import SessionRule
from crosyslog.session_scorer import Rows, SessionScorer
from crosyslog.store import Store
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder, add_tiny_model, tiny_session_bundle
from tests.trainer.made import messages, write_log
from tests.trainer.shell import Shell
from trainer.session_logs import read_session_log
from trainer.simulation import write_simulated_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crosyslog.session_bundle import SessionBundle
    from trainer.simulation import Summary

#: A training of a moment: 16 steps of two members.
QUICK = (
    "members = 2\nsteps = 8\nhidden = 4\nlayers = 1\nbatch = 16\nkept = 4\nadaptation_steps = 4\n"
)

TRAIN = ("train", "--source", "hdfs=hdfs.log", "--config", "quick.toml", "--output", "made")
ADAPT = ("adapt", "--target", "openstack", "--log", "openstack.log", "--base", "made")

#: Words of both systems' lines, with their vectors.
WORDS = ("info", "warn", "block", "instance", "server", "deleting", "packet", "image", "error")

pytestmark = pytest.mark.usefixtures("logs")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Summary]]:
    """A folder with a log of each system, labels beside them, and how many sessions there are."""
    folder = tmp_path_factory.mktemp("simulated")
    written = {
        name: write_simulated_log(
            system=name.partition("-")[0],
            lines=2_500,
            anomaly_rate=rate,
            seed=seed,
            output=folder / f"{name}.log",
        )
        for name, rate, seed in (
            ("hdfs", 0.2, 0),
            ("openstack", 0.3, 0),
            ("openstack-later", 0.3, 1),
        )
    }
    return folder, written


@pytest.fixture
def logs(here: Path, simulated: tuple[Path, dict[str, Summary]]) -> dict[str, Summary]:
    """The same where the commands run, with settings for a quick training."""
    for path in simulated[0].iterdir():
        shutil.copy(path, here)
    (here / "quick.toml").write_text(QUICK, encoding="utf-8")
    (here / "wild.toml").write_text("rate = 1e30\n", encoding="utf-8")
    (here / "seed.toml").write_text("seed = 99999999999999999999999\n", encoding="utf-8")
    (here / "words.toml").write_text(f'{QUICK}vectors = "words"\n', encoding="utf-8")
    return simulated[1]


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


@pytest.fixture
def base(trainer: Shell, here: Path, logs: dict[str, Summary]) -> Path:
    """A base of hdfs."""
    assert logs["hdfs"].alerts
    trainer.says(*TRAIN)
    return here / "made"


def labels_of(path: str) -> dict[str, bool]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        _, *rows = csv.reader(stream)
    return {key: label == "Anomaly" for key, label in rows}


def write_labels(path: str, labels: dict[str, bool]) -> None:
    rows = [f"{key},{'Anomaly' if anomalous else 'Normal'}" for key, anomalous in labels.items()]
    Path(path).write_text("\n".join(["session,label", *rows, ""]), encoding="utf-8")


def write_glove(path: str) -> None:
    rng = np.random.default_rng(0)
    lines = [" ".join([word, *map(str, rng.normal(size=5).round(3))]) for word in WORDS]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def without_key() -> int:
    """Lines of openstack.log that name no instance."""
    log = read_session_log(Path("openstack.log"), load_system("openstack"), SessionRule(by="key"))
    return len(log.lines.rows) - len(log.sessions.rows)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def judged(bundle: SessionBundle, encoder: FakeEncoder) -> dict[str, float]:
    """The scores that a stored bundle gives the sessions of openstack.log."""
    rule = bundle.manifest.sessions
    assert rule is not None
    log = read_session_log(Path("openstack.log"), load_system("openstack"), rule)
    scorer = SessionScorer(bundle, encoder, EmbeddingCache())
    scores = scorer.score(log.lines.templates, Rows(log.rows, log.sessions.starts)).scores
    return dict(zip(log.sessions.keys, scores.tolist(), strict=True))


# --- train


def test_what_hdfs_and_openstack_have_is_judged_by_sessions(
    trainer: Shell, here: Path, logs: dict[str, Summary]
) -> None:
    sources = ("--source", "hdfs=hdfs.log", "--source", "openstack=openstack.log")
    arguments = ("train", *sources, "--config", "quick.toml", "--output")
    report = trainer.reports(*arguments, "made")
    assert (report["base"], report["detector"]) == ("made", "metalog")
    assert report["sources"] == ["hdfs", "openstack"]
    for name in report["sources"]:
        counts, written = report["sessions"][name], logs[name]
        assert counts["sessions"] == counts["labelled"] == written.sessions
        assert counts["anomalous"] == written.alerts
        assert 10 < counts["groups"] <= written.line_patterns
    assert report["chosen_step"] in {2, 4, 6, 8}
    assert report["settings"]["members"] == 2
    assert report["seconds"] > 0
    base = load_session_bundle(here / "made")
    manifest = base.manifest
    assert (manifest.kind, manifest.target, manifest.sessions) == ("base", "made", None)
    assert manifest.threshold.model_dump() == report["threshold"]
    assert manifest.figures == report["figures"]
    assert base.groups.groups == []
    assert base.support["template"].null_count() == base.support.height
    assert manifest.command == (
        "trainer train --method metalog --source hdfs=hdfs.log --source openstack=openstack.log "
        "--config quick.toml --output made"
    )
    shown = trainer.says(*arguments, "again")
    assert "the base again is in again" in shown
    assert f"hdfs        {logs['hdfs'].sessions} sessions" in shown
    assert f"chosen      after step {report['chosen_step']} of 8" in shown
    figures = report["figures"]
    assert f"on these    F1 {figures['source_f1']:.3f}, average precision " in shown
    assert weights(here / "again") == weights(here / "made"), "the same seed, the same weights"


def test_several_logs_of_a_system_are_read_as_one_in_their_order(
    trainer: Shell, here: Path, logs: dict[str, Summary]
) -> None:
    files = ("openstack.log", "openstack-later.log")
    arguments = ("train", "--config", "quick.toml", "--output", "made")
    report = trainer.reports(*arguments, *(f"--source=openstack={file}" for file in files))
    assert report["sessions"]["openstack"]["sessions"] == sum(
        logs[Path(file).stem].sessions for file in files
    )
    command = load_session_bundle(here / "made").manifest.command
    assert "--source openstack=openstack.log --source openstack=openstack-later.log" in command


def test_the_file_of_labels_and_the_rule_of_a_source_can_be_named(
    trainer: Shell, here: Path
) -> None:
    labels = labels_of("hdfs.log.labels.csv")
    half = dict(list(labels.items())[: len(labels) // 2])
    write_labels("half.csv", half)
    report = trainer.reports(*TRAIN, "--labels", "hdfs=half.csv")
    assert report["sessions"]["hdfs"]["sessions"] == len(labels)
    assert report["sessions"]["hdfs"]["labelled"] == len(half)
    assert report["sessions"]["hdfs"]["anomalous"] == sum(half.values())
    assert "--labels hdfs=half.csv" in load_session_bundle(here / "made").manifest.command


def test_lines_with_labels_make_labelled_windows(trainer: Shell, here: Path) -> None:
    write_log(here / "spirit.log", *messages(2_000))
    report = trainer.reports(
        "train", "--method", "metalog", "--source", "spirit=spirit.log", "--sessions", "spirit=50",
        "--config", "quick.toml", "--output", "made",
    )  # fmt: skip
    # Six of every twenty windows hold lines of the incident.
    assert report["sessions"]["spirit"] | {"groups": 0} == {
        "sessions": 40,
        "labelled": 40,
        "anomalous": 12,
        "groups": 0,
    }
    assert "--sessions spirit=50" in load_session_bundle(here / "made").manifest.command


def test_prepared_logs_give_the_same_base(
    trainer: Shell, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.says(*TRAIN)
    prepare = ("prepare", "--system", "hdfs", "--log", "hdfs.log", "--output")
    trainer.says(*prepare, "prepared")
    train = ("train", "--labels", "hdfs=hdfs.log.labels.csv", "--config", "quick.toml")
    trainer.says(*train, "--source", "hdfs=prepared", "--output", "again")
    assert weights(here / "again") == weights(here / "made")
    again = load_session_bundle(here / "again").manifest
    assert again.encoder == load_session_bundle(here / "made").manifest.encoder
    # A system that is prepared with one encoder, and one that is prepared with another.
    monkeypatch.setattr("crosyslog.encoder.load_encoder", lambda *_, **__: FakeEncoder("other"))
    trainer.says("prepare", "--system", "openstack", "--log", "openstack.log", "--output", "unlike")
    both = ("--source", "hdfs=prepared", "--source", "openstack=unlike")
    labels = ("--labels", "openstack=openstack.log.labels.csv")
    refused = trainer.refuses(*train, *both, *labels, "--output", "both")
    assert "prepared with fake:fake:16:fp32 and fake:other:16:fp32" in refused


def test_a_terminal_shows_the_steps_of_all_members_with_their_loss(
    trainer: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    _, said = trainer.says_and_notes(*TRAIN)
    assert "16/16" in said
    assert "loss " in said.rpartition("16/16")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "hdfs=hdfs.log", "--restart"), "--restart has no effect with --method"),
        (("--source", "hdfs=hdfs.log", "--detector", "evidence"), "--detector has no effect"),
        (("--source", "hdfs=hdfs.log", "--word-vectors", "x"), "--word-vectors x has no effect"),
        (("--source", "hdfs=hdfs.log", "--labels", "x"), "--labels x: write NAME=FILE"),
        (("--source", "hdfs=hdfs.log", "--labels", "bgl=x"), "there is no --source bgl"),
        (
            ("--source", "hdfs=hdfs.log", "--labels=hdfs=x", "--labels=hdfs=y"),
            "hdfs is given twice",
        ),
        (("--source", "hdfs=hdfs.log", "--labels", "hdfs=nowhere"), "the labels nowhere"),
        (("--source", "hdfs=hdfs.log", "--sessions", "hdfs=soon"), "sessions by 'soon'"),
        (("--source", "hdfs=hdfs.log", "--sessions", "hdfs=9"), "no session of hdfs.log has"),
        (("--source", "openstack=hdfs.log"), "is no log of openstack"),
        (("--source", "hdfs=nowhere"), "cannot read nowhere"),
        (("--source", "hdfs=hdfs.log", "--config", "bad.toml"), "outer_steps"),
        (
            ("--source=hdfs=hdfs.log", "--method=crosyslog", "--detector=maml_lstm"),
            "knows no labels",
        ),
        (
            ("--source", "hdfs=hdfs.log", "--method", "crosyslog", "--sessions", "hdfs=key"),
            "--sessions has no effect with --method crosyslog",
        ),
        (
            ("--source", "hdfs=hdfs.log", "--source", "bgl=x"),
            "the profile hdfs judges sessions, and bgl lines: say which with --method metalog",
        ),
        (("--source", "bgl=x", "--labels", "bgl=x"), "--labels has no effect with --method crosy"),
        (("--source", "syslog=x", "--method", "metalog"), "--sessions syslog=RULE"),
        (("--source", "plain=x", "--method", "metalog", "--sessions", "plain=key"), "no sessions"),
        (("--source", "hdfs=hdfs.log", "--source", "hdfs=hdfs.log"), "hdfs.log is given twice"),
        (("--source", "hdfs=hdfs.log", "--config", "wild.toml"), "rate=1e+30: "),
        (("--source", "hdfs=hdfs.log", "--config", "seed.toml"), "seed=99999999999999999999999: "),
        (("--source", "hdfs=hdfs.log", "--output", "quick.toml/made"), "it cannot be written"),
    ],
)
def test_train_refuses(trainer: Shell, here: Path, arguments: tuple[str, ...], said: str) -> None:
    (here / "bad.toml").write_text("outer_steps = 3\n", encoding="utf-8")
    output = () if "--output" in arguments else ("--output", "made")
    assert said in trainer.refuses("train", *arguments, *output)
    assert not (here / "made").exists()


# --- adapt


@pytest.mark.usefixtures("base")
def test_a_base_of_hdfs_is_adapted_to_openstack_and_judges_it(
    trainer: Shell, here: Path, encoder: FakeEncoder, logs: dict[str, Summary]
) -> None:
    labels = labels_of("openstack.log.labels.csv")
    Path("openstack.log.labels.csv").unlink()
    known = dict(list(labels.items())[: len(labels) * 2 // 3])
    write_labels("known.csv", known | {"never-there": False})
    report = trainer.reports(*ADAPT, "--labels", "known.csv")
    assert (report["version"], report["detector"], report["rule"]) == ("0001", "metalog", "key")
    assert (report["system"], report["base"]) == ("openstack", "made/1")
    assert report["files"] == ["openstack.log", "known.csv"]
    assert report["sessions"] == logs["openstack"].sessions
    assert report["labelled"] == report["support"]["lines"] == len(known)
    assert report["anomalous"] == report["support"]["alerts"] == sum(known.values())
    assert "best F1 on the last quarter of the labelled sessions" in report["threshold"]["chosen"]
    assert "on the last quarter of the labelled sessions" in report["chosen"]
    assert report["notes"] == [
        "1 label is of a session that the log does not have",
        f"{without_key()} of 2,500 lines have no key, and are in no session",
    ]

    bundle = load_session_bundle(Store(here / "store").path("openstack", "0001"))
    manifest = bundle.manifest
    assert (manifest.kind, manifest.version, manifest.base) == ("adapted", "0001", "made/1")
    assert manifest.system == load_system("openstack")
    assert manifest.command == (
        "trainer adapt --target openstack --method metalog --log openstack.log "
        "--labels known.csv --base made"
    )
    assert manifest.threshold.model_dump() == report["threshold"]
    scores = judged(bundle, encoder)
    unknown = {key: score for key, score in scores.items() if key not in known}
    rest = report["rest"]
    assert rest["sessions"] == len(unknown) == len(labels) - len(known)
    assert rest["raised"] == sum(score >= manifest.threshold.value for score in unknown.values())
    assert len(rest["highest"]) == max(5, rest["raised"])
    highest = [one["score"] for one in rest["highest"]]
    np.testing.assert_allclose(highest, sorted(unknown.values())[: -len(highest) - 1 : -1])
    for one in rest["highest"]:
        assert one["score"] == pytest.approx(unknown[one["session"]])


@pytest.mark.usefixtures("base")
def test_labels_choose_a_state_and_a_threshold(trainer: Shell, here: Path) -> None:
    shown = trainer.says(*ADAPT)
    assert "openstack: version 0001 is stored in" in shown
    labels = labels_of("openstack.log.labels.csv")
    assert f"learnt from     {len(labels)} labelled sessions, {sum(labels.values())} of" in shown
    assert "a session       the lines with the same key" in shown
    assert "which it was chosen by" in shown
    assert "on the rest" not in shown
    settings = load_session_bundle(here / "store/openstack/0001").manifest.settings
    assert settings["sessions"] == "key"
    assert settings["steps"] in {0, 1, 2, 3, 4}


def test_without_a_label_the_base_judges(trainer: Shell, here: Path, base: Path) -> None:
    Path("openstack.log.labels.csv").unlink()
    report = trainer.reports(*ADAPT)
    assert (report["labelled"], report["anomalous"], report["figures"]) == (0, 0, {})
    assert report["chosen"] == "the base's own weights"
    note = report["notes"][0]
    assert note.startswith("no session has a label: the base's weights are used, and no more")
    assert report["threshold"]["chosen"].startswith("no more than one in a hundred sess")
    assert report["rest"]["sessions"] == report["sessions"]
    stored = Store(here / "store").path("openstack", "0001")
    assert weights(stored) == weights(base)
    assert report["rest"]["raised"] <= max(1, report["sessions"] // 100)
    shown = trainer.says(*ADAPT)
    assert f"on the rest     {report['sessions']} sessions without label: " in shown
    first = report["rest"]["highest"][0]
    assert f"{first['session']}: score {first['score']:.7g}" in shown
    assert shown.count(": score ") == 5


@pytest.mark.usefixtures("base")
def test_few_labels_are_learnt_from_and_choose_nothing(trainer: Shell) -> None:
    labels = labels_of("openstack.log.labels.csv")
    few = {key: True for key, anomalous in labels.items() if anomalous}
    write_labels("few.csv", dict(list(few.items())[:3]))
    report = trainer.reports(*ADAPT, "--labels", "few.csv")
    assert report["labelled"] == report["anomalous"] == 3
    assert report["chosen"] == "after all 4 steps: too few of the last labels to choose by"
    assert report["notes"][0].startswith("no session is labelled normal")
    write_labels("few.csv", dict.fromkeys([key for key in labels if key not in few][:3], False))
    report = trainer.reports(*ADAPT, "--labels", "few.csv")
    assert report["chosen"] == "the base's own weights"
    assert any("from normal sessions alone nothing is learnt" in one for one in report["notes"])


@pytest.mark.usefixtures("base")
def test_several_logs_are_adapted_to_as_one(trainer: Shell, logs: dict[str, Summary]) -> None:
    report = trainer.reports(*ADAPT, "--log", "openstack-later.log")
    assert report["files"] == ["openstack.log", "openstack-later.log"]
    assert report["sessions"] == sum(
        logs[name].sessions for name in ("openstack", "openstack-later")
    )


def test_sessions_are_made_by_the_rule_that_was_asked_for(
    trainer: Shell, here: Path, base: Path
) -> None:
    write_log(here / "web.log", *messages(2_000))
    arguments = ("adapt", "--target", "web", "--system", "spirit", "--log", "web.log")
    asked = (*arguments, "--method", "metalog", "--sessions", "50", "--base", base)
    report = trainer.reports(*asked)
    assert (report["rule"], report["sessions"], report["anomalous"]) == ("50", 40, 12)
    manifest = load_session_bundle(here / "store/web/0001").manifest
    assert str(manifest.sessions) == "50"
    assert "--system spirit --sessions 50" in manifest.command


def test_a_base_that_knows_the_system_is_said(trainer: Shell, base: Path) -> None:
    report = trainer.reports("adapt", "--target", "hdfs", "--log", "hdfs.log", "--base", base)
    assert [note for note in report["notes"] if "was trained on hdfs itself" in note]


def test_a_file_that_has_no_word_of_a_log_is_refused(trainer: Shell, here: Path) -> None:
    Path("glove.txt").write_text("quux 0.5 0.25\n", encoding="utf-8")
    train = ("train", "--source", "hdfs=hdfs.log", "--config", "words.toml")
    said = trainer.refuses(*train, "--word-vectors", "glove.txt", "--output", "made")
    assert "glove.txt have no word of the log of hdfs: name a file of its language" in said
    assert not (here / "made").exists()


@pytest.mark.usefixtures("base")
def test_an_empty_rule_is_no_rule(trainer: Shell) -> None:
    assert "sessions by ''" in trainer.refuses(*ADAPT, "--sessions", "")
    said = trainer.refuses(*ADAPT, "--method", "crosyslog", "--sessions", "")
    assert "--sessions has no effect with --method crosyslog" in said


@pytest.mark.usefixtures("base")
def test_anomalies_alone_are_said_to_be_too_little(trainer: Shell) -> None:
    write_labels("all.csv", dict.fromkeys(labels_of("openstack.log.labels.csv"), True))
    notes = trainer.reports(*ADAPT, "--labels", "all.csv")["notes"]
    assert [note for note in notes if note.startswith("no session is labelled normal")]


def test_vectors_of_words_come_from_the_file_that_was_named(
    trainer: Shell, here: Path, encoder: FakeEncoder
) -> None:
    write_glove("glove.txt")
    train = ("train", "--source", "hdfs=hdfs.log", "--config", "words.toml")
    trainer.reports(*train, "--word-vectors", "glove.txt", "--output", "made")
    base = load_session_bundle(here / "made")
    assert base.words is not None
    assert (base.words.dim, base.manifest.detector.dim) == (5, 5)
    assert "--word-vectors glove.txt" in base.manifest.command
    assert json.loads((here / "made/templates.json").read_bytes())["words"]["idf"] == {}
    trainer.reports(*ADAPT)
    bundle = load_session_bundle(here / "store/openstack/0001")
    assert bundle.words is not None
    assert bundle.words.id == base.words.id
    assert len(set(judged(bundle, encoder).values())) > 1
    Path("glove.txt").unlink()
    assert "glove.txt" in trainer.refuses(*ADAPT)


def test_without_a_file_they_are_those_of_the_encoder_that_ships(
    trainer: Shell, here: Path
) -> None:
    trainer.says("train", "--source", "hdfs=hdfs.log", "--config", "words.toml", "--output", "made")
    base = load_session_bundle(here / "made")
    assert base.words is not None
    assert base.words.source.kind == "encoder"
    assert base.manifest.detector.dim == base.words.dim


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--log", "openstack.log"), "`trainer train --method metalog --source NAME=PATH"),
        (("--log", "openstack.log", "--base", "nowhere"), "there is no base 'nowhere'"),
        (("--log", "openstack.log", "--base", "base"), "the base base judges lines, by evidence"),
        (("--log", "openstack.log", "--base", "adapted"), "adapted is no base"),
        (("--base", "small"), "no log to adapt openstack to"),
        (("--log", "nowhere", "--base", "small"), "cannot read nowhere"),
        (("--log", "hdfs.log", "--base", "small"), "is no log of openstack"),
        (("--log", "openstack.log", "--base", "small", "--quiet-alerts"), "--quiet-alerts has no"),
        (("--log", "openstack.log", "--base", "small", "--detector", "evidence"), "--detector has"),
        (("--log", "openstack.log", "--base", "small", "--sessions", "0"), "sessions by '0'"),
        (
            ("--log", "openstack.log", "--base", "small", "--labels", "a", "--labels", "b"),
            "--labels a and b: give one file",
        ),
        (
            ("--log", "openstack.log", "--base", "small", "--labels", "hdfs.log.labels.csv"),
            "name no session of openstack.log",
        ),
        (
            ("--log", "openstack.log", "--base", "small", "--system", "syslog", "--method=metalog"),
            "the profile syslog does not say which lines make a session",
        ),
        (
            ("--log", "openstack.log", "--base", "small", "--method", "crosyslog"),
            "the base small judges sessions, by metalog, and --method crosyslog judges lines",
        ),
        (
            ("--log", "openstack.log", "--method", "crosyslog", "--sessions", "key"),
            "--sessions has no effect with --method crosyslog",
        ),
        (
            ("--log", "openstack.log", "--log", "x", "--method", "crosyslog"),
            "--log is given twice: --method crosyslog reads one log",
        ),
    ],
)
def test_adapt_refuses(trainer: Shell, here: Path, arguments: Sequence[str], said: str) -> None:
    tiny_session_bundle(here / "small", kind="base")
    tiny_session_bundle(here / "adapted")
    assert said in trainer.refuses("adapt", "--target", "openstack", *arguments)
    assert not (here / "store").exists()


def test_without_scikit_learn_nothing_is_begun(
    trainer: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.commands.session_adapting.find_spec", lambda _: None)
    assert "needs scikit-learn: install" in trainer.refuses(*ADAPT)


# --- models


@pytest.mark.usefixtures("base")
def test_models_of_lines_and_of_sessions_are_shown_side_by_side(trainer: Shell, here: Path) -> None:
    trainer.says(*ADAPT)
    add_tiny_model(Store(here / "store"), "spirit")
    rows = [row.split() for row in trainer.says("models").splitlines()]
    labels = labels_of("openstack.log.labels.csv")
    assert [row[0] for row in rows[1:]] == ["openstack", "spirit"]
    assert rows[1][-4:] == [str(len(labels)), "metalog", "made/1", "1"]
    shown = trainer.says("models", "show", "openstack")
    assert f"learnt from     {len(labels)} labelled sessions, {sum(labels.values())} of" in shown
    assert "a session       the lines with the same key" in shown
    assert "detector        metalog" in shown
    manifest = load_session_bundle(here / "store/openstack/0001").manifest
    assert f"threshold       {manifest.threshold.value:.7g}, best F1 on the last" in shown
    assert f"at its choice   F1 {manifest.figures['chosen_f1']:.2f}, average precision" in shown
    (told,) = trainer.reports("models", "show", "openstack")
    assert told["sessions"] == {"by": "key", "lines": None, "seconds": None}
    assert told["detector"]["kind"] == "metalog"
    assert "of alerts, " in trainer.says("models", "show", "spirit")
    assert trainer.reports("models", "use", "openstack", "1")["current"] == "0001"


@pytest.mark.parametrize(
    ("rule", "shown"), [("20", "20 lines in a row"), ("5m", "the lines of 300 seconds")]
)
def test_models_show_says_how_windows_are_made(
    trainer: Shell, here: Path, base: Path, rule: str, shown: str
) -> None:
    write_log(here / "spirit.log", *messages(2_000))
    trainer.says(
        "adapt", "--target", "spirit", "--method", "metalog", "--log", "spirit.log",
        "--sessions", rule, "--base", base,
    )  # fmt: skip
    assert f"a session       {shown}\n" in trainer.says("models", "show", "spirit")
