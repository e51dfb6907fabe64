"""What a user of `trainer` sees of a store by URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crosyslog.store import open_store
from tests.cloud import URL, connect
from tests.fakes import add_tiny_model
from tests.trainer.made import make_base
from tests.trainer.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cloud import Network
    from tests.fakes import FakeEncoder


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, here: Path) -> Network:
    monkeypatch.setenv("XDG_DATA_HOME", str(here / "data"))
    return connect(monkeypatch)


@pytest.fixture
def base(here: Path, encoder: FakeEncoder) -> Path:
    make_base(here / "base", encoder)
    return here / "base"


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


def test_models_are_listed_used_and_removed(trainer: Shell, here: Path, cloud: Network) -> None:
    assert f"no model in {URL}" in trainer.says("models", "--store", URL)
    for _ in range(3):
        add_tiny_model(open_store(URL, here / "operator"), "spirit")
    listed = trainer.reports("models", "--store", URL)
    assert [one["version"] for one in listed["spirit"]] == ["0001", "0002", "0003"]
    trainer.says("models", "use", "spirit", "1", "--store", URL)
    shown = trainer.says("models", "show", "spirit", "--store", URL)
    assert "spirit 0001 (in use)" in shown
    report = trainer.reports("models", "remove", "spirit", "--keep", "1", "--store", URL)
    assert (report["removed"], report["kept"]) == (["0002"], ["0001", "0003"])
    cloud.cut()
    assert f"cannot reach the store {URL}" in trainer.refuses("models", "--store", URL)
    refusal = trainer.refuses("models", "--store", "s3://key:hush@bucket/x")
    assert "without user, password" in refusal
    assert "hush" not in refusal


def test_a_torn_upload_is_listed_as_such(trainer: Shell, here: Path, cloud: Network) -> None:
    from crosyslog.remote_objects import RemoteObjects

    assert cloud.fault is None
    for _ in range(2):
        add_tiny_model(open_store(URL, here / "operator"), "spirit")
    RemoteObjects(URL).write("spirit/0002/weights.safetensors", b"torn")
    shown = trainer.says("models", "show", "spirit", "--store", URL)
    assert f"the bundle {URL}/spirit/0002 is corrupted" in shown
    assert "is corrupted" in trainer.refuses("models", "use", "spirit", "2", "--store", URL)


def test_labels_stay_here_and_the_model_goes_there(
    trainer: Shell,
    here: Path,
    log: Path,
    base: Path,
    cloud: Network,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cloud.fault is None
    monkeypatch.setenv("CROSYSLOG_MODEL__STORE", URL)
    (here / "answers.csv").write_text(
        "template,label\nkernel panic on node #,alert\nsession opened for user,normal\n",
        encoding="utf-8",
    )
    labelled = trainer.reports("label", "--target", "spirit", "--answers", "answers.csv")
    kept = here / "data" / "crosyslog" / "models" / "spirit" / "labels.csv"
    assert labelled["file"] == str(kept)
    assert kept.exists()
    report = trainer.reports("adapt", "--target", "spirit", "--base", base)
    assert (report["version"], report["store"]) == ("0001", URL)
    assert report["files"] == ["labels.csv"]
    assert open_store(URL, here / "other").current("spirit") == "0001"
    # In silence, another profile would be taken than the one of the model in use.
    cloud.cut()
    refusal = trainer.refuses(
        "label", "--target", "spirit", "--log", log, "--suggest", 3, "--output", "ask.csv"
    )
    assert "cannot reach the store" in refusal
