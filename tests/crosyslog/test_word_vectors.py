from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.errors import EncoderError, InputError
from crosyslog.word_vectors import (
    EncoderWords,
    GloveWords,
    MalformedWeightsError,
    TfidfVectors,
    words_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]

#: A file of vectors as GloVe has: its words in lower case and others, letters of every script.
GLOVE = """\
link 1 0 0
is 0 0 1
down 0 1 0
The 9 9 9
up 0 -1 0
größe 0.5 0.25 -2e0
. . . 7 7 7
disk 0.5 0.5 0.5
link 3 3 3
"""

#: Two of three templates say `link` and `is`, one says `down` and one `up`.
TEMPLATES = ["link # is down", "link # is up", "disk # evicted"]


@pytest.fixture(scope="module")
def shipped() -> EncoderWords:
    return EncoderWords()


def write_glove(folder: Path, content: str = GLOVE, name: str = "vectors.txt") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def save_words(
    folder: Path, vocabulary: list[str], embeddings: NDArray[np.float32], **named: str
) -> str:
    """Saves what there must be of a BERT for the vectors of its words."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace

    folder.mkdir()
    model = WordPiece({piece: row for row, piece in enumerate(vocabulary)}, unk_token="[UNK]")  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "bert", "hidden_size": 2, "num_attention_heads": 1}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {named.get("tensor", "bert.embeddings.word_embeddings.weight"): embeddings}
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def cosine(words: EncoderWords, one: str, other: str) -> float:
    found = words.look_up([one, other])
    return float(found[one] @ found[other])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("DataXceiver", ["data", "xceiver"]),
        ("IOError of HTTPServer", ["io", "error", "of", "http", "server"]),
        ("addStoredBlock: BLOCK*", ["add", "stored", "block", "block"]),
        ("# link #, # is DOWN", ["link", "is", "down"]),
        ("__init__ of some_module", ["init", "of", "some", "module"]),
        ("größe überschritten, 磁盘 错误", ["größe", "überschritten", "磁盘", "错误"]),
        ("Ärger", ["ärger"]),
        ("#", []),
        ("", []),
    ],
)
def test_a_template_splits_into_its_words(template: str, words: list[str]) -> None:
    assert words_of(template) == words


def test_a_vector_is_the_words_mean_weighted_by_how_rare_they_are(tmp_path: Path) -> None:
    vectors = TfidfVectors.fit([*TEMPLATES, TEMPLATES[0]], GloveWords(write_glove(tmp_path)))
    twice, once = 1 + math.log(4 / 3), 1 + math.log(4 / 2)
    found = vectors.encode(
        [
            "link # is down",
            # A word that stands there twice counts twice.
            "down link down",
            # No template of the fit has `größe`: it is as rare as can be. No source has `xyz`,
            # which still is a word of the template.
            "größe xyz link",
            "disk",
            "xyz # The",
            "#",
            "",
        ]
    )
    expected = np.array(
        [
            [twice / 3, once / 3, twice / 3],
            [twice / 3, 2 * once / 3, 0],
            [(twice + once / 2) / 3, once / 12, -2 * once / 3],
            [once / 2, once / 2, once / 2],
            [0, 0, 0],
            [0, 0, 0],
            [0, 0, 0],
        ]
    )
    assert found.dtype == np.float32
    assert (vectors.dim, found.shape) == (3, (7, 3))
    np.testing.assert_array_equal(found, expected.astype(np.float16).astype(np.float32))
    assert vectors.encode([]).shape == (0, 3)


def test_without_any_template_every_word_weighs_the_same(tmp_path: Path) -> None:
    vectors = TfidfVectors.fit([], GloveWords(write_glove(tmp_path)))
    assert vectors.encode(["link", "link down"]).tolist() == [[1, 0, 0], [0.5, 0.5, 0]]


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_file_of_vectors_may_be_compressed(tmp_path: Path, kind: str) -> None:
    plain = GloveWords(write_glove(tmp_path))
    path = tmp_path / "vectors"
    data = GLOVE.encode()
    path.write_bytes(gzip.compress(data) if kind == "gzip" else zstandard.compress(data))
    words = GloveWords(path)
    assert words.dim == 3
    known, expected = words.look_up(["down", "up", "x"]), plain.look_up(["down", "up", "x"])
    assert list(known) == list(expected) == ["down", "up"]
    np.testing.assert_array_equal(known["up"], expected["up"])


def test_a_word_has_its_first_vector_and_is_found_whenever_it_comes(tmp_path: Path) -> None:
    words = GloveWords(write_glove(tmp_path))
    assert {word: list(vector) for word, vector in words.look_up(["x", "link"]).items()} == {
        "link": [1, 0, 0]
    }
    # One that was not asked for before, one that is not there, and one that was.
    found = words.look_up(["disk", "x", "link", "the"])
    assert {word: list(vector) for word, vector in found.items()} == {
        "disk": [0.5, 0.5, 0.5],
        "link": [1, 0, 0],
    }


def test_what_was_looked_up_is_not_read_again(tmp_path: Path) -> None:
    path = write_glove(tmp_path)
    words = GloveWords(path)
    words.look_up(["link", "x"])
    path.unlink()
    assert list(words.look_up(["x", "link"])) == ["link"]
    with pytest.raises(InputError, match=r"^cannot read .*vectors\.txt"):
        words.look_up(["disk"])


def test_no_more_words_are_remembered_than_memory_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crosyslog.word_vectors._REMEMBERED", 2)
    path = write_glove(tmp_path)
    words = GloveWords(path)
    assert list(words.look_up(["link", "is", "x", "down"])) == ["link", "is", "down"]
    assert list(words.look_up(["link", "down"])) == ["link", "down"]
    path.unlink()
    assert list(words.look_up(["link", "down"])) == ["link", "down"]
    with pytest.raises(InputError):
        words.look_up(["is"])


@pytest.mark.parametrize(
    ("content", "line", "wanted"),
    [
        ("link\n", 1, "a word and its numbers, separated by blanks"),
        ("\nlink 1 2\n", 1, "a word and its numbers, separated by blanks"),
        ("link\t1\t2\n", 1, "a word and its numbers, separated by blanks"),
        ("link 1 x\n", 1, "numbers from -1000 to 1000 at its word"),
        ("link 1 2\nup 1\nis 1 2\n", 2, "a word and 2 numbers as line 1 has"),
        ("link 1 2\nis 1 2\n\n", 3, "a word and 2 numbers as line 1 has"),
        ("link 1 2\nis 1 2\nup 1 2 3\n", 3, "a word and 2 numbers as line 1 has"),
        # As word2vec and fastText begin: the number of words, and of dimensions.
        ("2 3\nlink 1 2 3\nup 1 2 3\n", 2, "a word and 1 numbers as line 1 has"),
        ("link 1 2\nup 1 2e\n", 2, "numbers from -1000 to 1000 at its word"),
        ("link 1 2\nup nan 2\n", 2, "numbers from -1000 to 1000 at its word"),
        ("link 1 2\nup 1 -1001\n", 2, "numbers from -1000 to 1000 at its word"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: str, line: int, wanted: str) -> None:
    path = write_glove(tmp_path, content)
    with pytest.raises(InputError) as caught:
        GloveWords(path).look_up(["up"])
    assert str(caught.value) == (
        f"{path} line {line} is malformed: it must hold {wanted}; use a whole file of word "
        "vectors in the text format of GloVe"
    )


def test_numbers_of_words_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    words = GloveWords(write_glove(tmp_path, "link 1 2\nup 1 2e\nis 1 2\n"))
    assert list(words.look_up(["is", "link"])) == ["is", "link"]


def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    empty = write_glove(tmp_path, "", "empty.txt")
    binary = tmp_path / "binary.bin"
    binary.write_bytes(bytes(range(256)) * 9)
    short = tmp_path / "short.gz"
    short.write_bytes(gzip.compress(b"link 1 2\n" * 100_000)[:-20])
    for path, message in (
        (tmp_path / "nowhere.txt", "cannot read"),
        (tmp_path, "is no file"),
        (empty, "is empty"),
        (binary, "holds binary data"),
        (short, "its compressed data is broken"),
    ):
        with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
            GloveWords(path).look_up(["up"])


def test_words_of_the_encoder_that_ships_are_unit_vectors_that_tell_words_apart(
    shipped: EncoderWords,
) -> None:
    some = ["disk", "storage", "error", "failure", "user", "login", "kernel", "port", "xceiver"]
    found = shipped.look_up([*some, "磁盘"])
    assert list(found)[: len(some)] == some
    table = np.stack([found[word] for word in some])
    assert table.dtype == np.float32
    assert table.shape == (len(some), 384) == (len(some), shipped.dim)
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, atol=1e-6)
    assert cosine(shipped, "error", "failure") > 0.3 > cosine(shipped, "error", "login") + 0.1
    assert cosine(shipped, "disk", "storage") > 0.3 > cosine(shipped, "disk", "user") + 0.1


def test_vectors_of_templates_by_the_encoder_that_ships(shipped: EncoderWords) -> None:
    vectors = TfidfVectors.fit(TEMPLATES, shipped)
    found = vectors.encode([*TEMPLATES, "#", "storage # deleted"])
    assert found.shape == (5, 384)
    np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float32))
    assert not found[3].any()
    lengths = np.linalg.norm(found[[0, 1, 2, 4]], axis=1)
    assert (lengths > 0.3).all()
    assert found[4] @ found[2] > found[4] @ found[0]


def test_its_words_need_neither_torch_nor_the_rest_of_the_model() -> None:
    code = (
        "import resource, sys; from crosyslog.word_vectors import EncoderWords\n"
        "assert EncoderWords().look_up(['disk'])\n"
        "print(sorted({'torch', 'transformers', 'onnxruntime', 'polars'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"


def test_a_word_is_the_mean_of_its_pieces_among_the_vocabulary(tmp_path: Path) -> None:
    vocabulary = ["[UNK]", "disk", "##s", "node", "same"]
    table = np.array([[1, 5], [3, 5], [5, 5], [7, 5], [4, 5]], dtype=np.float32)
    name = save_words(tmp_path / "tiny", vocabulary, table)
    words = EncoderWords(name)
    assert (words.kind, words.name, words.dim) == ("encoder", name, 2)
    # The second dimension says nothing. `same` is like the mean of all, `x` has no piece.
    found = words.look_up(["disk", "node", "disks", "nodes", "same", "x"])
    assert {word: list(vector) for word, vector in found.items()} == {
        "disk": [-1, 0],
        "node": [1, 0],
        "nodes": [1, 0],
    }
    table[:, 1] = [2, 4, 6, 0, 3]
    found = EncoderWords(save_words(tmp_path / "other", vocabulary, table)).look_up(["disks"])
    standard = (table - table.mean(axis=0)) / table.std(axis=0)
    expected = standard[[1, 2]].mean(axis=0)
    np.testing.assert_allclose(found["disks"], expected / np.linalg.norm(expected), atol=1e-6)


def test_an_encoder_is_named_by_its_words(tmp_path: Path) -> None:
    vocabulary = ["[UNK]", "disk", "node"]
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    ids = [
        EncoderWords(save_words(tmp_path / name, pieces, numbers)).id
        for name, pieces, numbers in (
            ("one", vocabulary, table),
            ("two", vocabulary, table + 1),
            ("three", ["[UNK]", "disk", "link"], table),
        )
    ]
    assert len({one.split(":")[1] for one in ids}) == 3
    assert ids[0].startswith("one:")
    assert all(one.endswith(":words") for one in ids)
    (tmp_path / "again").mkdir()
    again = EncoderWords(save_words(tmp_path / "again" / "one", vocabulary, table)).id
    assert again == ids[0]


def test_an_encoder_without_words_is_refused_in_one_line(tmp_path: Path) -> None:
    vocabulary, table = ["[UNK]", "disk", "node"], np.zeros((3, 2), dtype=np.float32)
    other = save_words(tmp_path / "other", vocabulary, table, tensor="layer.weight")
    wide = save_words(tmp_path / "wide", vocabulary, np.zeros((3, 4), dtype=np.float32))
    bare = save_words(tmp_path / "bare", vocabulary, table)
    (Path(bare) / "model.safetensors").unlink()
    broken = save_words(tmp_path / "broken", vocabulary, table)
    (Path(broken) / "model.safetensors").write_bytes(b"no weights at all")
    for name in (other, wide, bare, broken):
        with pytest.raises(EncoderError) as caught:
            EncoderWords(name)
        assert str(caught.value) == (
            f"the encoder {name!r} has no word embeddings that can be read: in its folder must be "
            "a model.safetensors with one *word_embeddings.weight of 2 columns"
        )
    fewer = save_words(tmp_path / "fewer", vocabulary, table[:2])
    with pytest.raises(EncoderError, match="its tokenizer has more tokens than its weights"):
        EncoderWords(fewer)
    with pytest.raises(EncoderError, match="there is no encoder 'no such name' here"):
        EncoderWords("no such name")


LETTERS = st.text(st.sampled_from("abAB# éÉ.5_磁"), max_size=30)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(LETTERS, max_size=8), st.lists(LETTERS, max_size=8))
def test_stored_weights_give_the_vectors_of_before(
    shipped: EncoderWords, templates: list[str], others: list[str]
) -> None:
    vectors = TfidfVectors.fit(templates, shipped)
    again = TfidfVectors.from_json(vectors.to_json(), shipped)
    every = [*templates, *others]
    together = vectors.encode(every)
    np.testing.assert_array_equal(again.encode(every), together)
    # A template's vector does not depend on those beside it, and judging changes nothing.
    for template, vector in zip(every, together, strict=True):
        np.testing.assert_array_equal(again.encode([template])[0], vector)


def test_without_a_source_the_stored_one_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_glove(tmp_path)
    glove = TfidfVectors.fit(TEMPLATES, GloveWords(Path("vectors.txt")))
    shipped = TfidfVectors.fit(TEMPLATES, EncoderWords())
    monkeypatch.chdir("/")
    for vectors in (glove, shipped):
        again = TfidfVectors.from_json(vectors.to_json())
        assert again.id == vectors.id
        np.testing.assert_array_equal(again.encode(TEMPLATES), vectors.encode(TEMPLATES))


def test_a_moved_file_is_the_same_source_and_a_changed_one_is_not(tmp_path: Path) -> None:
    path = write_glove(tmp_path)
    data = TfidfVectors.fit(TEMPLATES, GloveWords(path)).to_json()
    moved = path.rename(tmp_path / "moved.txt")
    vectors = TfidfVectors.from_json(data, GloveWords(moved))
    assert vectors.encode(["link is down"]).any()
    with pytest.raises(InputError, match=rf"^cannot read {path}: No such file"):
        TfidfVectors.from_json(data)
    other = GloveWords(write_glove(tmp_path, GLOVE + "more 1 1 1\n"))
    with pytest.raises(EncoderError) as caught:
        TfidfVectors.from_json(data)
    assert str(caught.value) == (
        f"the word vectors of {path} are {other.id}, and {vectors.id} is needed: use the file that "
        f"the model was made with, which was {path}"
    )


def test_words_of_another_encoder_are_refused_in_one_line(
    tmp_path: Path, shipped: EncoderWords
) -> None:
    data = TfidfVectors.fit(TEMPLATES, shipped).to_json()
    glove = GloveWords(write_glove(tmp_path))
    with pytest.raises(EncoderError) as caught:
        TfidfVectors.from_json(data, glove)
    assert str(caught.value) == (
        f"the word vectors of {glove.name} are {glove.id}, and {shipped.id} is needed: use the "
        "encoder that the model was made with, which was minilm"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "bag"},
        {"id": 7},
        {"idf": ["link"]},
        {"idf": {"link": "much"}},
        {"idf": {"link": float("inf")}},
        {"idf": {"link": 0.5}},
        {"idf": {"link": 61.0}},
        {"more": 1},
        {"name": None},
    ],
)
def test_anything_else_than_stored_weights_is_refused_in_one_line(
    shipped: EncoderWords, changes: dict[str, object]
) -> None:
    content = json.loads(TfidfVectors.fit(TEMPLATES, shipped).to_json())
    with pytest.raises(MalformedWeightsError, match=rf"^{next(iter(changes))}[^\n]*: [^\n]+$"):
        TfidfVectors.from_json(json.dumps(content | changes).encode(), shipped)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_json_of_weights_is_refused(shipped: EncoderWords, data: bytes) -> None:
    with pytest.raises(MalformedWeightsError, match=r"^[^\n]+$"):
        TfidfVectors.from_json(data, shipped)
