from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch

from crosyslog.bundle import load_bundle, write_bundle
from crosyslog.errors import BundleCorruptError, BundleError, BundleVersionError
from crosyslog.manifest import MANIFEST, SUPPORT, WEIGHTS, checksum, load_manifest, sha256
from tests.fakes import SUPPORT as LABELS
from tests.fakes import FakeEncoder, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = (MANIFEST, WEIGHTS, SUPPORT)

#: Where a byte is flipped: at both ends and all over.
SHARES = (0.0, 0.003, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.997, 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def refusal(folder: Path, kind: type[BundleError]) -> str:
    with pytest.raises(kind) as caught:
        load_bundle(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest and gives it the checksum of what it then is."""
    content = json.loads((folder / MANIFEST).read_bytes())
    del content["checksum"]
    change(content)
    content["checksum"] = checksum(content)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def put(folder: Path, name: str, data: bytes) -> None:
    """Puts a file into a bundle that its manifest agrees to."""
    (folder / name).write_bytes(data)
    rewrite(folder, lambda content: content["files"].update({name: sha256(data)}))


def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = tiny_bundle(tmp_path / "bundle")
    again = load_bundle(tmp_path / "bundle")
    assert again.manifest == written.manifest
    assert again.sha256 == written.sha256
    assert again.support["template"].to_list() == list(LABELS)
    assert again.support["alert"].to_list() == list(LABELS.values())
    np.testing.assert_array_equal(again.support_vectors, FakeEncoder().encode(list(LABELS)))
    weights = written.detector.state_dict()
    assert weights.keys() == again.detector.state_dict().keys()
    for name, tensor in again.detector.state_dict().items():
        assert torch.equal(tensor, weights[name])
        assert not tensor.requires_grad
    assert not again.detector.training
    assert load_manifest(tmp_path / "bundle") == (again.manifest, again.sha256)


def test_the_same_model_is_the_same_file_byte_for_byte(tmp_path: Path) -> None:
    for name in ("one", "other"):
        tiny_bundle(tmp_path / name)
    for name in (WEIGHTS, SUPPORT):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_support_may_be_empty(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", support={})
    assert bundle.support_vectors.shape == (0, 16)


def test_files_are_the_owners_alone(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_nothing_in_it_is_a_pickle(folder: Path) -> None:
    assert (folder / WEIGHTS).read_bytes()[8:9] == b"{"
    assert (folder / SUPPORT).read_bytes()[:4] == b"PAR1"


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_in_one_line(folder: Path, name: str, share: float) -> None:
    whole = (folder / name).read_bytes()
    place = round(share * (len(whole) - 1))
    for flip in (0x01, 0x80, 0xFF):
        content = bytearray(whole)
        content[place] ^= flip
        (folder / name).write_bytes(content)
        if name == MANIFEST and still_equal(whole, content):
            load_bundle(folder)
            continue
        message = refusal(folder, BundleCorruptError)
        assert name in message
    (folder / name).write_bytes(whole)
    load_bundle(folder)


def still_equal(whole: bytes, changed: bytes | bytearray) -> bool:
    """Whether the same JSON is said: a line feed and a carriage return differ by no meaning."""
    try:
        return bool(json.loads(changed) == json.loads(whole))
    except ValueError:
        return False


def test_every_byte_of_the_manifest_counts(folder: Path) -> None:
    whole = (folder / MANIFEST).read_bytes()
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 0x04
        (folder / MANIFEST).write_bytes(content)
        if not still_equal(whole, content):
            with pytest.raises(BundleCorruptError):
                load_manifest(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_empty_file_is_refused_in_one_line(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    assert name in refusal(folder, BundleCorruptError)
    (folder / name).unlink()
    assert refusal(folder, BundleCorruptError) == (
        f"the bundle {folder} is not complete: cannot read {name}: No such file or directory"
    )


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b"7", b'"text"', b"{}", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000,
     b'{"checksum": NaN}', b'{"checksum": ' + b"9" * 5_000 + b"}", b"\x00" * 10],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused_in_one_line(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert MANIFEST in refusal(folder, BundleCorruptError)


def test_another_format_is_refused_in_one_line(folder: Path) -> None:
    rewrite(folder, lambda content: content.update(format=3))
    assert "has format 3 and this CroSysLog reads format 2" in refusal(folder, BundleVersionError)


def test_another_masking_is_refused_in_one_line(folder: Path) -> None:
    rewrite(folder, lambda content: content.update(masking="0"))
    assert "was made with masking 0 and this" in refusal(folder, BundleVersionError)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": {"value": float("nan"), "chosen": ""}}, "threshold.value: "),
        ({"threshold": {"value": 2, "chosen": ""}}, "threshold.value: "),
        ({"detector": {"kind": "maml_lstm", "dim": 0}}, "detector.maml_lstm.dim: "),
        ({"detector": {"dim": 5}}, "detector: "),
        ({"created": "yesterday"}, "created: "),
        ({"colour": "red"}, "colour: "),
        ({"figures": {"f1": float("inf")}}, "figures.f1: "),
    ],
)
def test_an_impossible_manifest_is_refused_in_one_line(
    folder: Path, change: dict[str, Any], said: str
) -> None:
    rewrite(folder, lambda content: content.update(change))
    assert said in refusal(folder, BundleCorruptError)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "other.bin"])
def test_only_the_files_of_a_bundle_are_read(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    rewrite(folder, lambda content: content["files"].update({name: sha256(b"secret")}))
    assert "names other files than" in refusal(folder, BundleCorruptError)


@pytest.mark.parametrize("name", [WEIGHTS, SUPPORT])
def test_a_manifest_must_name_every_file(folder: Path, name: str) -> None:
    rewrite(folder, lambda content: content["files"].pop(name))
    assert "names other files than" in refusal(folder, BundleCorruptError)


def test_parts_of_another_shape_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "other", encoder=FakeEncoder(dim=8))
    whole = (folder / WEIGHTS).read_bytes()
    put(folder, WEIGHTS, (tmp_path / "other" / WEIGHTS).read_bytes())
    assert "its weights do not fit its manifest" in refusal(folder, BundleCorruptError)
    put(folder, WEIGHTS, whole)
    put(folder, SUPPORT, (tmp_path / "other" / SUPPORT).read_bytes())
    assert f"{SUPPORT} does not fit its manifest" in refusal(folder, BundleCorruptError)
    put(folder, SUPPORT, b"PAR1 but no more")
    assert f"{SUPPORT} cannot be read" in refusal(folder, BundleCorruptError)


def test_the_weights_can_be_no_pickle(folder: Path) -> None:
    torch.save({"weight": torch.ones(1)}, folder / "pickled")
    put(folder, WEIGHTS, (folder / "pickled").read_bytes())
    assert "its weights do not fit its manifest" in refusal(folder, BundleCorruptError)


def test_a_bundle_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    for place, reason in (("bundle", "File exists"), ("bundle/manifest.json/x", "Not a directory")):
        with pytest.raises(BundleError) as caught:
            write_bundle(tmp_path / place, bundle.manifest, bundle.detector, pl.DataFrame())
        assert str(caught.value) == f"cannot write the bundle {tmp_path / place}: {reason}"
