"""What may be named as a base, and what a base says of its sources."""

from pathlib import Path

import pytest

from crosyslog.errors import StoreError
from crosyslog.store import base_path
from tests.fakes import tiny_bundle


def test_an_adapted_bundle_is_no_base(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "bundle", kind="adapted", target="spirit")
    with pytest.raises(StoreError, match="is no base: it was adapted to spirit"):
        base_path(str(tmp_path / "bundle"))


def test_a_base_can_be_named_by_its_folder(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "bundle", kind="base", target="mine")
    assert base_path(str(tmp_path / "bundle")) == tmp_path / "bundle"


def test_a_folder_of_another_detector_is_told(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "base", kind="base")
    assert base_path(str(tmp_path / "base"), "maml_lstm") == tmp_path / "base"
    with pytest.raises(StoreError, match="is of the detector maml_lstm, and evidence is asked for"):
        base_path(str(tmp_path / "base"), "evidence")
