"""Bundles of either kind: those that judge lines, and those that judge sessions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from crosyslog.bundle import load_bundle, write_bundle
from crosyslog.errors import BundleCorruptError, BundleError, BundleVersionError
from crosyslog.manifest import MANIFEST, SUPPORT, WEIGHTS, load_manifest, sha256
from crosyslog.session_bundle import SessionBundle, write_session_bundle
from tests.crosyslog.bundles import KINDS, Kind, put, refusal, rewrite
from tests.fakes import SUPPORT as LABELS
from tests.fakes import FakeEncoder, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from crosyslog.bundle import Bundle

#: Each kind with each of its files.
FILES = [
    pytest.param(kind, name, id=f"{of}-{name}") for of, kind in KINDS.items() for name in kind.files
]
HASHED = [part for part in FILES if part.values[1] != MANIFEST]

#: Where a byte is flipped: at both ends and all over.
SHARES = (0.0, 0.003, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.997, 1.0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def folder(kind: Kind, tmp_path: Path) -> Path:
    """A bundle's, of either kind."""
    kind.make(tmp_path / "bundle")
    return tmp_path / "bundle"


def write(folder: Path, bundle: Bundle | SessionBundle) -> None:
    if isinstance(bundle, SessionBundle):
        write_session_bundle(folder, bundle)
    else:
        write_bundle(folder, bundle.manifest, bundle.detector, bundle.support)


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


def test_the_same_model_is_the_same_file_byte_for_byte(kind: Kind, tmp_path: Path) -> None:
    for name in ("one", "other"):
        kind.make(tmp_path / name)
    for name in kind.files[1:]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_support_may_be_empty(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", support={})
    assert bundle.support_vectors.shape == (0, 16)


def test_files_are_the_owners_alone(kind: Kind, folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == sorted(kind.files)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_bundle_from_before_sessions_is_read(tmp_path: Path) -> None:
    written = tiny_bundle(tmp_path / "bundle")
    rewrite(tmp_path / "bundle", lambda content: content.pop("sessions"))
    assert load_bundle(tmp_path / "bundle").manifest == written.manifest


def test_nothing_in_it_is_a_pickle(folder: Path) -> None:
    assert (folder / WEIGHTS).read_bytes()[8:9] == b"{"
    assert (folder / SUPPORT).read_bytes()[:4] == b"PAR1"


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_flipped_byte_is_refused_in_one_line(
    kind: Kind, folder: Path, name: str, share: float
) -> None:
    whole = (folder / name).read_bytes()
    place = round(share * (len(whole) - 1))
    for flip in (0x01, 0x80, 0xFF):
        content = bytearray(whole)
        content[place] ^= flip
        (folder / name).write_bytes(content)
        if name == MANIFEST and still_equal(whole, content):
            kind.load(folder)
            continue
        message = refusal(kind.load, folder, BundleCorruptError)
        assert name in message
    (folder / name).write_bytes(whole)
    kind.load(folder)


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


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_missing_or_cut_file_is_refused_in_one_line(kind: Kind, folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for length in (0, len(whole) // 2, len(whole) - 1):
        (folder / name).write_bytes(whole[:length])
        if name != MANIFEST or not still_equal(whole, whole[:length]):
            assert name in refusal(kind.load, folder, BundleCorruptError)
    (folder / name).unlink()
    assert refusal(kind.load, folder, BundleCorruptError) == (
        f"the bundle {folder} is not complete: cannot read {name}: No such file or directory"
    )


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b"7", b'"text"', b"{}", b"\xff\xfe", b"{" * 100_000, b"[" * 100_000,
     b'{"checksum": NaN}', b'{"checksum": ' + b"9" * 5_000 + b"}", b"\x00" * 10],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused_in_one_line(
    kind: Kind, folder: Path, content: bytes
) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert MANIFEST in refusal(kind.load, folder, BundleCorruptError)


def test_another_format_is_refused_in_one_line(kind: Kind, folder: Path) -> None:
    rewrite(folder, lambda content: content.update(format=3))
    assert "has format 3 and this CroSysLog reads format 2" in refusal(
        kind.load, folder, BundleVersionError
    )


def test_another_masking_is_refused_in_one_line(kind: Kind, folder: Path) -> None:
    rewrite(folder, lambda content: content.update(masking="0"))
    assert "was made with masking 0 and this" in refusal(kind.load, folder, BundleVersionError)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": {"value": float("nan"), "chosen": ""}}, "threshold.value: "),
        ({"threshold": {"value": 2, "chosen": ""}}, "threshold.value: "),
        ({"detector": {"kind": "maml_lstm", "dim": 0}}, "detector.maml_lstm.dim: "),
        ({"detector": {"kind": "metalog", "dim": 0}}, "detector.metalog.dim: "),
        ({"detector": {"kind": "metalog", "dim": 16, "vectors": "letters"}}, "metalog.vectors: "),
        ({"detector": {"kind": "metalog", "dim": 16, "colour": "red"}}, "metalog.colour: "),
        ({"detector": {"dim": 5}}, "detector: "),
        ({"sessions": {"by": "count"}}, "sessions: "),
        ({"sessions": {"by": "key", "colour": "red"}}, "sessions.colour: "),
        ({"created": "yesterday"}, "created: "),
        ({"colour": "red"}, "colour: "),
        ({"figures": {"f1": float("inf")}}, "figures.f1: "),
    ],
)
def test_an_impossible_manifest_is_refused_in_one_line(
    kind: Kind, folder: Path, change: dict[str, Any], said: str
) -> None:
    rewrite(folder, lambda content: content.update(change))
    assert said in refusal(kind.load, folder, BundleCorruptError)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "other.bin"])
def test_only_the_files_of_a_bundle_are_read(kind: Kind, folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    rewrite(folder, lambda content: content["files"].update({name: sha256(b"secret")}))
    assert "names other files than" in refusal(kind.load, folder, BundleCorruptError)


@pytest.mark.parametrize(("kind", "name"), HASHED)
def test_a_manifest_must_name_every_file(kind: Kind, folder: Path, name: str) -> None:
    rewrite(folder, lambda content: content["files"].pop(name))
    assert "names other files than" in refusal(kind.load, folder, BundleCorruptError)


@pytest.mark.parametrize(("kind", "name"), HASHED)
def test_a_file_of_another_bundle_is_refused_in_one_line(
    kind: Kind, folder: Path, name: str
) -> None:
    rewrite(folder, lambda content: content["files"].update({name: sha256(b"another")}))
    assert f"{name} is not the file that its manifest names" in refusal(
        kind.load, folder, BundleCorruptError
    )


def test_parts_of_another_shape_are_refused_in_one_line(
    kind: Kind, folder: Path, tmp_path: Path
) -> None:
    kind.make(tmp_path / "other", encoder=FakeEncoder(dim=8))
    whole = (folder / WEIGHTS).read_bytes()
    put(folder, WEIGHTS, (tmp_path / "other" / WEIGHTS).read_bytes())
    assert "its weights do not fit its manifest" in refusal(kind.load, folder, BundleCorruptError)
    put(folder, WEIGHTS, whole)
    put(folder, SUPPORT, (tmp_path / "other" / SUPPORT).read_bytes())
    assert f"{SUPPORT} does not fit its manifest" in refusal(kind.load, folder, BundleCorruptError)
    put(folder, SUPPORT, b"PAR1 but no more")
    assert f"{SUPPORT} cannot be read" in refusal(kind.load, folder, BundleCorruptError)


def test_a_weight_that_is_no_number_is_refused(kind: Kind, folder: Path) -> None:
    weights = load((folder / WEIGHTS).read_bytes())
    next(iter(weights.values())).view(-1)[0] = torch.nan
    put(folder, WEIGHTS, save(weights))
    assert "its weights are not all numbers" in refusal(kind.load, folder, BundleCorruptError)


def test_the_weights_can_be_no_pickle(kind: Kind, folder: Path) -> None:
    torch.save({"weight": torch.ones(1)}, folder / "pickled")
    put(folder, WEIGHTS, (folder / "pickled").read_bytes())
    assert "its weights do not fit its manifest" in refusal(kind.load, folder, BundleCorruptError)


def test_a_shape_that_no_memory_holds_is_refused_in_one_line(kind: Kind, folder: Path) -> None:
    rewrite(folder, lambda content: content["detector"].update(hidden=10**15))
    assert "its weights do not fit its manifest" in refusal(kind.load, folder, BundleCorruptError)


def test_a_bundle_that_cannot_be_written_is_named_in_one_line(kind: Kind, tmp_path: Path) -> None:
    bundle = kind.make(tmp_path / "bundle")
    for place, reason in (("bundle", "File exists"), ("bundle/manifest.json/x", "Not a directory")):
        with pytest.raises(BundleError) as caught:
            write(tmp_path / place, bundle)
        assert str(caught.value) == f"cannot write the bundle {tmp_path / place}: {reason}"
