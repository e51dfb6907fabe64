"""What a bundle that judges sessions has beside others; `test_bundle.py` damages both kinds."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from crosyslog.bundle import load_bundle
from crosyslog.errors import BundleCorruptError, BundleVersionError, EncoderError, InputError
from crosyslog.manifest import MANIFEST, SUPPORT, TEMPLATES, WEIGHTS, load_manifest
from crosyslog.session_bundle import load_session_bundle
from crosyslog.session_rules import SessionRule
from crosyslog.word_vectors import EncoderWords, GloveWords
from tests.crosyslog.bundles import put, refusal, rewrite
from tests.fakes import TEMPLATES as TEXTS
from tests.fakes import tiny_bundle, tiny_session_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crosyslog.word_vectors import WordVectors

#: Where `TEXTS` belong.
GROUPS = [0, 1, 2, 3, 4, 4]

#: A file of vectors as GloVe has, with some of their words.
GLOVE = "disk 1 0 0\nfailure 0 1 0\nsession 0 0 1\nheartbeat 0.5 0.5 0\nann 0 0.5 0.5\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle's that reads vectors of sentences."""
    tiny_session_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def glove(tmp_path: Path) -> GloveWords:
    path = tmp_path / "glove.txt"
    path.write_text(GLOVE, encoding="utf-8")
    return GloveWords(path)


@pytest.fixture
def worded(tmp_path: Path, glove: GloveWords) -> Path:
    """A bundle's that reads vectors of words."""
    tiny_session_bundle(tmp_path / "worded", words=glove)
    return tmp_path / "worded"


def templates_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / TEMPLATES).read_bytes())
    return content


def corrupted(folder: Path) -> str:
    return refusal(load_session_bundle, folder, BundleCorruptError)


def assert_same(folder: Path, words: WordVectors | None) -> None:
    """A bundle comes back as it was written, with the vectors of words opened as stored."""
    written = tiny_session_bundle(folder, words=words)
    again = load_session_bundle(folder)
    assert again.manifest == written.manifest
    assert again.sha256 == written.sha256
    assert load_manifest(folder) == (again.manifest, again.sha256)
    assert again.manifest.sessions == SessionRule(by="key")
    assert again.groups.match(TEXTS).tolist() == written.groups.match(TEXTS).tolist() == GROUPS
    assert again.support.equals(written.support)
    assert again.support["template"].to_list() == again.groups.groups
    assert again.support["alert"].to_list() == [True, True, False, False, False]
    assert sorted(again.contrast.normal) == sorted(written.contrast.normal)
    assert set(again.contrast.anomalous) == set(again.groups.groups[:2])
    vectors = again.support["vector"].to_numpy()
    np.testing.assert_allclose(
        again.contrast.of(vectors), written.contrast.of(vectors), rtol=0, atol=1e-6
    )
    weights = written.detector.state_dict()
    assert weights.keys() == again.detector.state_dict().keys()
    for name, tensor in again.detector.state_dict().items():
        assert torch.equal(tensor, weights[name])
        assert not tensor.requires_grad
    assert not again.detector.training
    assert (again.words is None) == (words is None)
    if again.words is not None and written.words is not None:
        assert again.words.id == written.words.id
        vectors = again.words.encode([*TEXTS, "disk of bob, unheard-of"])
        np.testing.assert_array_equal(
            vectors, written.words.encode([*TEXTS, "disk of bob, unheard-of"])
        )
        assert np.abs(vectors).sum() > 1


def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert_same(tmp_path / "bundle", None)


def test_so_does_one_of_vectors_of_words(tmp_path: Path, glove: GloveWords) -> None:
    assert_same(tmp_path / "by-file", glove)
    assert_same(tmp_path / "by-encoder", EncoderWords())


def test_the_same_model_of_words_is_the_same_file_byte_for_byte(
    tmp_path: Path, glove: GloveWords
) -> None:
    for name in ("one", "other"):
        tiny_session_bundle(tmp_path / name, words=glove)
    for name in (WEIGHTS, SUPPORT, TEMPLATES):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize("by_words", [False, True])
def test_a_base_holds_no_text(tmp_path: Path, glove: GloveWords, *, by_words: bool) -> None:
    words = glove if by_words else None
    base = tiny_session_bundle(tmp_path / "base", kind="base", words=words)
    assert base.manifest.sessions is None
    assert base.groups.groups == []
    assert base.groups.match(TEXTS).tolist() == [-1] * len(TEXTS)
    assert base.support["template"].null_count() == base.support.height
    assert b"disk" not in b"".join(path.read_bytes() for path in (tmp_path / "base").iterdir())
    if base.words is not None:
        assert np.abs(base.words.encode(["disk failure"])).sum() > 0


def test_word_vectors_can_be_given(tmp_path: Path, worded: Path) -> None:
    stored = load_session_bundle(worded)
    assert stored.words is not None
    expected = stored.words.encode(TEXTS)
    (tmp_path / "glove.txt").rename(tmp_path / "moved.txt")
    given = load_session_bundle(worded, GloveWords(tmp_path / "moved.txt"))
    assert given.words is not None
    np.testing.assert_array_equal(given.words.encode(TEXTS), expected)


def test_word_vectors_that_are_gone_or_others_are_named_in_one_line(
    tmp_path: Path, worded: Path
) -> None:
    path = tmp_path / "glove.txt"
    path.write_text(GLOVE + "fan 1 1 1\n", encoding="utf-8")
    with pytest.raises(EncoderError) as changed:
        load_session_bundle(worded)
    assert f"which was {path}" in str(changed.value)
    path.unlink()
    with pytest.raises(InputError) as gone:
        load_session_bundle(worded)
    assert str(path) in str(gone.value)
    assert "\n" not in f"{changed.value}{gone.value}"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b"{" * 100_000, b"[" * 100_000,
     b'{"groups": ' + b"[" * 100_000, b"9" * 5_000, b"\x00" * 10],
)  # fmt: skip
def test_templates_that_are_none_are_refused_in_one_line(folder: Path, content: bytes) -> None:
    put(folder, TEMPLATES, content)
    assert f"is corrupted: {TEMPLATES}: cannot be read" in corrupted(folder)


def damage_groups(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["groups"].update(changes)


def damage_words(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["words"].update(changes)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (dict.clear, "must hold groups, words, normal and anomalous, and no more"),
        (
            lambda content: content.pop("groups"),
            "must hold groups, words, normal and anomalous, and no more",
        ),
        (
            lambda content: content.pop("words"),
            "must hold groups, words, normal and anomalous, and no more",
        ),
        (
            lambda content: content.update(colour="red"),
            "must hold groups, words, normal and anomalous, and no more",
        ),
        (lambda content: content.update(groups=None), "should be an object"),
        (lambda content: content.update(groups=[1]), "should be an object"),
        (damage_groups(depth=1), "depth: "),
        (damage_groups(depth="5"), "depth: "),
        (damage_groups(similarity=0), "similarity: "),
        (damage_groups(similarity=float("nan")), "similarity: "),
        (damage_groups(children=0), "children: "),
        (damage_groups(groups="disk failure"), "groups: "),
        (damage_groups(groups=["disk failure", 7]), "groups.1: "),
        (damage_groups(groups=["disk failure", "two  blanks"]), "groups.1: words must stand"),
        (damage_groups(groups=["half a \ud800 letter"]), "Invalid JSON"),
        (damage_groups(colour="red"), "colour: "),
        (lambda content: content.update(words=[]), "whole: "),
        (lambda content: content.update(words={}), "kind: "),
        (damage_words(kind="guess"), "kind: "),
        (damage_words(name=None), "name: "),
        (damage_words(idf={"disk": 0.5}), "idf.disk: "),
        (damage_words(idf={"disk": float("inf")}), "idf.disk: "),
        (damage_words(idf={"disk": "2"}), "idf.disk: "),
        (damage_words(colour="red"), "colour: "),
        (lambda content: content.update(normal="disk failure"), "must be lists"),
        (lambda content: content.update(anomalous=None), "must be lists"),
        (lambda content: content.update(normal=[7]), "the support has no row of the template 7"),
        (
            lambda content: content["anomalous"].append("another"),
            "no row of the template 'another'",
        ),
        (lambda content: content["normal"].append([]), "no row of the template []"),
        (lambda content: content.update(words=None), "is of other vectors than its manifest says"),
    ],
)
def test_templates_that_are_damaged_are_refused_in_one_line(
    worded: Path, damage: Callable[[dict[str, Any]], object], said: str
) -> None:
    content = templates_of(worded)
    damage(content)
    put(worded, TEMPLATES, json.dumps(content).encode())
    told = corrupted(worded)
    assert told.startswith(f"the bundle {worded} is corrupted: {TEMPLATES}: ")
    assert said in told


def test_vectors_of_words_in_a_bundle_of_sentences_are_refused(folder: Path, worded: Path) -> None:
    content = templates_of(folder) | {"words": templates_of(worded)["words"]}
    put(folder, TEMPLATES, json.dumps(content).encode())
    assert "is of other vectors than its manifest says" in corrupted(folder)


def test_vectors_of_another_length_than_the_detector_reads_are_refused(
    tmp_path: Path, worded: Path
) -> None:
    tiny_session_bundle(tmp_path / "wide")
    for name in (WEIGHTS, SUPPORT):
        put(worded, name, (tmp_path / "wide" / name).read_bytes())
    rewrite(worded, lambda content: content["detector"].update(dim=16))
    assert corrupted(worded) == (
        f"the bundle {worded} is corrupted: {MANIFEST}: vectors have 3 dimensions, and its "
        "detector reads 16"
    )


def test_an_encoder_of_another_length_than_the_detector_reads_is_refused(folder: Path) -> None:
    rewrite(folder, lambda content: content["encoder"].update(dim=8))
    assert f"{MANIFEST}: vectors have 8 dimensions, and its detector reads 16" in corrupted(folder)


@pytest.mark.parametrize(
    "change", [{"hidden": 5}, {"layers": 2}, {"members": 1}, {"members": 3}, {"dim": 8}]
)
def test_another_shape_than_the_weights_is_refused_in_one_line(
    folder: Path, change: dict[str, int]
) -> None:
    rewrite(folder, lambda content: content["detector"].update(change))
    assert "its weights do not fit its manifest" in corrupted(folder)


def test_a_bundle_of_sessions_is_no_bundle_of_lines(folder: Path, tmp_path: Path) -> None:
    assert refusal(load_bundle, folder, BundleVersionError) == (
        f"the bundle {folder} judges sessions, and lines are to be judged here: `crosyslog-agent "
        "scan FILE --model hdfs` judges those of a log"
    )
    tiny_session_bundle(tmp_path / "base", kind="base")
    assert refusal(load_bundle, tmp_path / "base", BundleVersionError) == (
        f"the bundle {tmp_path / 'base'} judges sessions, and lines are to be judged here: name "
        "another base"
    )


def test_a_bundle_of_lines_is_no_bundle_of_sessions(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "lines")
    assert refusal(load_session_bundle, tmp_path / "lines", BundleVersionError) == (
        f"the bundle {tmp_path / 'lines'} judges lines, by maml_lstm, and sessions are to be "
        "judged here: name one that `--method metalog` made"
    )


def test_a_damaged_bundle_is_refused_whichever_kind_is_asked_for(folder: Path) -> None:
    (folder / TEMPLATES).write_bytes(b"{}")
    for load in (load_bundle, partial(load_session_bundle, words=None)):
        assert f"{TEMPLATES} is not the file" in refusal(load, folder, BundleCorruptError)


def test_an_adapted_bundle_says_which_lines_make_a_session(folder: Path) -> None:
    rewrite(folder, lambda content: content.update(sessions=None))
    said = refusal(load_session_bundle, folder, BundleCorruptError)
    assert "which lines make a session" in said
