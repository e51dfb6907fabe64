"""Vectors of templates from those of their words, weighted by TF-IDF.

The vector of a template is the sum of (tf · idf · vector) over its distinct words, where tf is the
share of a word among the template's words: as PLELog (Yang et al., "Semi-Supervised Log-Based
Anomaly Detection via Probabilistic Label Estimation", ICSE 2021) and after it MetaLog (ICSE 2024)
publish it. They take the words' vectors from GloVe, and a file of these can be given; without one,
they are the input embeddings of the encoder that ships.

What a word weighs is fitted; what it means is not stored. So a word that comes up later has a
vector like any other, and its source must be there to judge.

Shapes: T templates, W distinct words, V tokens of an encoder, D dimensions of a vector.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crosyslog.encoder import DEFAULT_ENCODER
from crosyslog.errors import EncoderError, InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

#: What stands between two words: no letter, or nothing where `DataXceiver` and `IOError` go on.
_BORDERS = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

#: Words of a file that are remembered, so that it is not read again for each; 120 MB at most.
_REMEMBERED: Final = 100_000

#: Lines of a file that are read at a time.
_AT_ONCE: Final = 10_000

#: The largest number of a file, and the largest idf (of more templates than there can be): their
#: product is one that float16 holds.
_LARGEST: Final = 1_000.0
_LARGEST_IDF: Final = 60.0

#: As a file of vectors separates word and numbers.
_BLANK: Final = b" "


class MalformedWeightsError(ValueError):
    """Stored weights are not what `TfidfVectors.to_json` writes."""


class WordVectors(Protocol):
    """Where the vectors of words come from."""

    @property
    def kind(self) -> Literal["encoder", "glove"]:
        """A saved BERT, or a file."""

    @property
    def name(self) -> str:
        """What it is opened by: the encoder's name, or the file's path."""

    @property
    def id(self) -> str:
        """Names all that the vectors depend on: those of another id differ."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    def look_up(self, words: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors [D] of those of some lower-case words that have one, in the same order."""


class EncoderWords:
    """Words as an encoder takes them in: the mean of the embeddings of a word's pieces.

    They are centred and scaled by mean and standard deviation over the vocabulary, so that what all
    tokens share says nothing and every dimension counts alike, then made of length 1.

    Attributes:
        kind: `encoder`.
        name: what the encoder was asked for by.
        id: names embeddings and tokenizer; the same in every numeric class of the encoder.
        dim: the length of a vector.
    """

    kind: Final = "encoder"

    def __init__(self, name: str = DEFAULT_ENCODER) -> None:
        """Reads the embeddings alone, without the rest of the model.

        Raises:
            EncoderError: there is no such encoder here, or it has none that can be read.
        """
        from crosyslog.encoders.saved_bert import (
            digest,
            find_bert,
            fingerprint,
            read_tokenizer,
            read_word_embeddings,
        )

        bert = find_bert(name)
        self.name, self.dim = name, bert.dim
        self._tokenizer = read_tokenizer(bert)
        self._embeddings_VD = read_word_embeddings(bert)
        if max(self._tokenizer.get_vocab().values()) >= len(self._embeddings_VD):
            raise EncoderError(
                f"the encoder {name!r} cannot be used: its tokenizer has more tokens than its "
                "weights; save the model again with both"
            )
        self._mean = self._embeddings_VD.mean(axis=0, dtype=np.float64)
        self._scale = self._embeddings_VD.std(axis=0, dtype=np.float64)
        self._scale[self._scale == 0] = 1
        weights = digest({"embeddings": self._embeddings_VD})
        self.id = f"{Path(name).name}:{fingerprint(bert, weights)}:words"
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)

    def look_up(self, words: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of words; one that the tokenizer has no pieces for has none."""
        found = {}
        for word in words:
            tokens = self._tokenizer.encode(word, add_special_tokens=False).ids
            pieces = [token for token in tokens if token != self._unknown]
            if not pieces:
                continue
            vector = (self._embeddings_VD[pieces].mean(axis=0) - self._mean) / self._scale
            length = np.linalg.norm(vector)
            if length > 0:
                found[word] = (vector / length).astype(np.float32)
        return found


class GloveWords:
    """A text file of vectors as GloVe publishes them, `word number number ...` a line.

    It may be compressed with gzip or zstd. It is read through when a word is asked for that was
    not before: seconds for the published ones, of which no more than these words is kept.

    Attributes:
        kind: `glove`.
        name: the file's path.
        id: names its bytes.
        dim: the length of a vector, which its first line says.
    """

    kind: Final = "glove"

    def __init__(self, path: Path) -> None:
        """Reads the first line, and names the bytes.

        Raises:
            InputError: the file cannot be read, or does not begin with a word and its numbers.
        """
        from crosyslog.lines import read_raw

        if path.exists() and not path.is_file():
            raise InputError(
                f"{path} is no file: word vectors are read more than once, from a file"
            )
        self._path = path.absolute()
        self.name = str(self._path)
        first = next(read_raw(path, 1), None)
        if first is None:
            raise InputError(f"{path} is empty: a file of word vectors as GloVe has is needed")
        self.dim = first[0].rstrip().count(_BLANK)
        if not self.dim:
            raise self._malformed(1, "a word and its numbers, separated by blanks")
        self._vector(1, first[0].rstrip())
        try:
            with path.open("rb") as file:
                self.id = f"glove:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        #: None for a word that the file does not hold.
        self._remembered: dict[str, NDArray[np.float32] | None] = {}

    def look_up(self, words: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of those of the words that the file holds.

        Raises:
            InputError: the file cannot be read, or a line of it is malformed.
        """
        new = [word for word in words if word not in self._remembered]
        if new:
            self._remembered |= dict.fromkeys(new) | self._read({word.encode() for word in new})
        vectors = {word: self._remembered[word] for word in words}
        while len(self._remembered) > _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return {word: vector for word, vector in vectors.items() if vector is not None}

    def _read(self, wanted: set[bytes]) -> dict[str, NDArray[np.float32]]:
        """The vectors of words; every line is checked for how many numbers it has."""
        from crosyslog.lines import read_raw

        found: dict[str, NDArray[np.float32]] = {}
        lines = chain.from_iterable(read_raw(self._path, _AT_ONCE))
        for number, line in enumerate(map(bytes.rstrip, lines), start=1):
            if line.count(_BLANK) != self.dim:
                if self._has_blanks_in_its_word(line):
                    continue
                raise self._malformed(number, f"a word and {self.dim} numbers as line 1 has")
            word = line[: line.index(_BLANK)]
            if word in wanted:
                found.setdefault(word.decode(), self._vector(number, line))
        return found

    def _has_blanks_in_its_word(self, line: bytes) -> bool:
        """Whether what is too much is text: the largest file published has such lines."""
        fields = line.split(_BLANK)
        return len(fields) > self.dim + 1 and not _is_number(fields[-self.dim - 1])

    def _vector(self, number: int, line: bytes) -> NDArray[np.float32]:
        fields = line.split(_BLANK)[1:]
        if not all(map(_is_number, fields)):
            raise self._malformed(number, f"numbers from -{_LARGEST:g} to {_LARGEST:g} at its word")
        return np.array([float(field) for field in fields], dtype=np.float32)

    def _malformed(self, number: int, wanted: str) -> InputError:
        return InputError(
            f"{self._path} line {number} is malformed: it must hold {wanted}; use a whole file of "
            "word vectors in the text format of GloVe"
        )


class _Weights(BaseModel):
    """What is stored of `TfidfVectors`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    kind: Literal["encoder", "glove"]
    name: str
    id: str
    idf: dict[str, Annotated[float, Field(ge=1, le=_LARGEST_IDF)]]


class TfidfVectors:
    """Vectors of templates: what each word weighs, and where the words' vectors come from."""

    def __init__(self, words: WordVectors, idf: Mapping[str, float]) -> None:
        """Takes what was fitted; `fit` and `from_json` give it.

        Args:
            words: where the words' vectors come from.
            idf: the inverse document frequency of each word of the fit.
        """
        self._words, self._idf = words, dict(idf)
        # A word that no template of the fit has is as rare as those that one of them has.
        self._rarest = max(self._idf.values(), default=1.0)

    @classmethod
    def fit(cls, templates: Sequence[str], words: WordVectors) -> TfidfVectors:
        """Weighs words by how few of some templates they occur in.

        Args:
            templates: the documents; repeats change nothing.
            words: where the words' vectors come from.
        """
        documents = [set(words_of(template)) for template in dict.fromkeys(templates)]
        held = Counter(chain.from_iterable(documents))
        # Smooth: as if one template more held every word.
        return cls(
            words,
            {
                word: 1 + math.log((1 + len(documents)) / (1 + count))
                for word, count in sorted(held.items())
            },
        )

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._words.dim

    @property
    def source(self) -> WordVectors:
        """Where the words' vectors come from: another fit can take them from there, too."""
        return self._words

    @property
    def id(self) -> str:
        """Names where the words' vectors come from."""
        return self._words.id

    def encode(self, templates: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of templates, each independent of the others.

        Returns:
            float32 [T, D], rounded to what fp16 holds; zero where no word is known.

        Raises:
            InputError: the file of the words' vectors can no longer be read.
        """
        split = [words_of(template) for template in templates]
        known = self._words.look_up(dict.fromkeys(chain.from_iterable(split)))
        place = {word: row for row, word in enumerate(known)}
        known_WD = np.array(list(known.values()), dtype=np.float64).reshape(-1, self.dim)
        vectors_TD = np.zeros((len(templates), self.dim), dtype=np.float64)
        for row, words in enumerate(split):
            counts = {word: count for word, count in Counter(words).items() if word in place}
            weights = [count * self._idf.get(word, self._rarest) for word, count in counts.items()]
            weighted = np.array(weights)[:, None] * known_WD[[place[word] for word in counts]]
            vectors_TD[row] = weighted.sum(axis=0) / max(len(words), 1)
        return vectors_TD.astype(np.float16).astype(np.float32)

    def without_weights(self) -> TfidfVectors:
        """The same source of vectors, with every word of the same weight: no text is kept."""
        return TfidfVectors(self._words, {})

    def to_json(self) -> bytes:
        """Weights, and where the words' vectors come from, for `from_json`.

        It holds words of the log: a file of it is for its owner alone.
        """
        words = self._words
        stored = _Weights(kind=words.kind, name=words.name, id=words.id, idf=self._idf)
        return stored.model_dump_json().encode()

    @classmethod
    def from_json(cls, data: bytes, words: WordVectors | None = None) -> TfidfVectors:
        """What `to_json` wrote: it gives the same vectors.

        Args:
            data: what was stored.
            words: where the words' vectors come from; as stored, unless given.

        Raises:
            MalformedWeightsError: the data are something else; one line.
            EncoderError: the words' vectors are others than at the fit, or cannot be had.
            InputError: their file cannot be read.
        """
        try:
            stored = _Weights.model_validate_json(data)
        except ValidationError as error:
            mistake = error.errors()[0]
            place = ".".join(str(part) for part in mistake["loc"]) or "whole"
            raise MalformedWeightsError(f"{place}: {mistake['msg']}") from error
        if words is None:
            glove = stored.kind == "glove"
            words = GloveWords(Path(stored.name)) if glove else EncoderWords(stored.name)
        if words.id != stored.id:
            raise EncoderError(
                f"the word vectors of {words.name} are {words.id}, and {stored.id} is needed: use "
                f"the {'file' if stored.kind == 'glove' else 'encoder'} that the model was made "
                f"with, which was {stored.name}"
            )
        return cls(words, stored.idf)


def words_of(template: str) -> list[str]:
    """The words of a template in lower case: letters in a row, and the parts of `CamelCase`."""
    return [word.lower() for word in _BORDERS.split(template) if word]


def _is_number(field: bytes) -> bool:
    """Whether a field of a file is a number that a vector may have."""
    try:
        return abs(float(field)) <= _LARGEST
    except ValueError:
        return False
