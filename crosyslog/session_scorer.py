"""Sessions to scores, as a pure function of their lines and the bundle.

Shapes: T distinct templates, S sessions, N' lines of sessions, P pieces, L lines of the longest
piece of a pass, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.logits import sigmoid
from crosyslog.manifest import require_encoder
from crosyslog.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from crosyslog.drain_groups import TemplateGroups
    from crosyslog.embedding_cache import EmbeddingCache, VectorSource
    from crosyslog.encoder import Encoder
    from crosyslog.session_bundle import SessionBundle
    from crosyslog.session_detector import SessionDetector
    from crosyslog.word_vectors import TfidfVectors

#: A longer session is judged in pieces of at most so many lines, and is as anomalous as the worst
#: of them: a network over a hundred thousand lines would take memory without end.
LONGEST = 1_000

#: Lines that one pass of the network takes, those that pad shorter sessions included: some 120 MB.
_LINES_A_PASS = 10_000


@dataclass(frozen=True)
class Rows:
    """Sessions as numbers of templates, as `crosyslog.sessions.Sessions` lays out their lines.

    Attributes:
        templates: of each line of the sessions, int64 [N'].
        starts: where each session begins, and, last, where they end, int64 [S + 1].
    """

    templates: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, session: int) -> NDArray[np.int64]:
        """The templates of a session's lines, in order."""
        return self.templates[self.starts[session] : self.starts[session + 1]]

    def chosen(self, sessions: NDArray[np.int64]) -> Rows:
        """Some of the sessions, in the order in which they are named."""
        begins, lengths = self.starts[:-1][sessions], np.diff(self.starts)[sessions]
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        places = np.arange(starts[-1]) + np.repeat(begins - starts[:-1], lengths)
        return Rows(self.templates[places], starts)


class SessionScores(NamedTuple):
    """The judgement of sessions.

    Attributes:
        scores: of each session, 0 to 1, float32 [S].
        attention: of each line, its share in that of its session, float32 [N'].
    """

    scores: NDArray[np.float32]
    attention: NDArray[np.float32]


class SessionScorer:
    """Scores sessions with a bundle; holds no state of a stream."""

    def __init__(
        self,
        bundle: SessionBundle,
        encoder: Encoder,
        cache: EmbeddingCache,
        threshold: float | None = None,
    ) -> None:
        """Prepares a bundle for scoring.

        Args:
            bundle: the model.
            encoder: the encoder that the bundle was made with.
            cache: where vectors of templates are kept.
            threshold: used in place of the bundle's.

        Raises:
            BundleVersionError: the bundle was made with another encoder.
        """
        require_encoder(bundle.manifest, encoder.id)
        self.bundle = bundle
        self.threshold = bundle.manifest.threshold.value if threshold is None else threshold
        self._encoder, self._cache = encoder, cache
        self._detector = bundle.detector.to(encoder.device)

    def score(self, templates: Sequence[str], rows: Rows) -> SessionScores:
        """Scores sessions.

        Args:
            templates: the distinct masked templates, [T].
            rows: the sessions.

        Raises:
            EncoderError: the encoder cannot be used.
            InputError: the file of the words' vectors can no longer be read.
        """
        bundle = self.bundle
        # Templates of a group are the same to the network: sessions that differ in them are alike.
        texts, numbers = _numbered(group_texts(bundle.groups, templates))
        vectors = template_vectors(texts, bundle.words, self._encoder, self._cache)
        read = Rows(numbers[rows.templates], rows.starts)
        with torch_threads(1):
            logits, attention = judge_sessions(
                self._detector, vectors, read, bundle.contrast.of(vectors)
            )
        return SessionScores(sigmoid(logits), attention)


def group_texts(groups: TemplateGroups, templates: Sequence[str]) -> list[str]:
    """What is read of each template: its group's text; its own, where it has none."""
    known = groups.groups
    numbers = groups.match(templates).tolist()
    return [
        known[number] if number >= 0 else template
        for number, template in zip(numbers, templates, strict=True)
    ]


def template_vectors(
    texts: Sequence[str],
    words: TfidfVectors | None,
    encoder: VectorSource,
    cache: EmbeddingCache,
) -> NDArray[np.float32]:
    """The vectors of texts, which may repeat, [T, D]: of their words if these are given."""
    distinct, numbers = _numbered(texts)
    vectors = cache.vectors(distinct, encoder) if words is None else words.encode(distinct)
    return vectors[numbers]


def judge_sessions(
    detector: SessionDetector,
    vectors: NDArray[np.float32],
    rows: Rows,
    contrast: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logit of each session, [S], and the attention to each of its lines, [N'].

    Sessions that are alike, line by line, are judged once: of 8,000 blocks of HDFS, 600 differ.

    Args:
        detector: on the device to compute on.
        vectors: of the distinct templates, [T, D].
        rows: the sessions; one without a line, which is none, has the logit minus infinity.
        contrast: of the distinct templates (`crosyslog.session_contrast`), [T]; zeros unless given.
    """
    import torch

    pieces, owners, places = _pieces(rows)
    device = next(detector.parameters()).device
    contrast_T = None if contrast is None else torch.from_numpy(contrast).to(device)
    scaled_TD = detector.scaled(torch.from_numpy(vectors).to(device), contrast_T)
    logits = np.full(len(rows), -np.inf, dtype=np.float32)
    attention = np.zeros(len(rows.templates), dtype=np.float32)
    with torch.inference_mode():
        for group in _passes(pieces):
            padded, lengths = padded_rows([pieces[one] for one in group])
            judged = detector(scaled_TD[torch.from_numpy(padded).to(device)], lengths)
            said = judged.logits_B.numpy(force=True)
            weights = judged.attention_BL.numpy(force=True)
            for number, one in enumerate(group):
                for session, start in zip(owners[one], places[one], strict=True):
                    if said[number] <= logits[session]:
                        continue
                    logits[session] = said[number]
                    low, high = rows.starts[session], rows.starts[session + 1]
                    attention[low:high] = 0
                    length = len(pieces[one])
                    attention[low + start : low + start + length] = weights[number, :length]
    return logits, attention


def padded_rows(pieces: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], Tensor]:
    """Sessions side by side, [B, L], with row 0 behind their end; and their lengths, [B]."""
    import torch

    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    padded = np.zeros((len(pieces), lengths.max()), dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(pieces)
    return padded, torch.from_numpy(lengths)


def _numbered(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct ones of some texts, and the number of each text among these."""
    number_of = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return list(number_of), np.array([number_of[text] for text in texts], dtype=np.int64)


def _pieces(
    rows: Rows,
) -> tuple[list[NDArray[np.int64]], list[list[int]], list[list[int]]]:
    """The distinct pieces of sessions; of each, whose they are, and where they begin in these."""
    number_of: dict[bytes, int] = {}
    pieces: list[NDArray[np.int64]] = []
    owners: list[list[int]] = []
    places: list[list[int]] = []
    for session in range(len(rows)):
        lines = rows.of(session)
        for start, end in pairwise(_edges(len(lines))):
            piece = lines[start:end]
            number = number_of.setdefault(piece.tobytes(), len(pieces))
            if number == len(pieces):
                pieces.append(piece)
                owners.append([])
                places.append([])
            owners[number].append(session)
            places[number].append(start)
    return pieces, owners, places


def _edges(length: int) -> list[int]:
    """Where the pieces of a session begin, and, last, where it ends.

    They are alike in length: a few lines that are left over would be judged as if no more of that
    session had ever come.
    """
    count = -(-length // LONGEST)
    return [length * number // count for number in range(count + 1)] if count else []


def _passes(pieces: Sequence[NDArray[np.int64]]) -> Iterator[list[int]]:
    """The numbers of pieces that are judged together: alike in length, so that little is padded."""
    order = sorted(range(len(pieces)), key=lambda number: len(pieces[number]))
    group: list[int] = []
    for number in order:
        if group and (len(group) + 1) * len(pieces[number]) > _LINES_A_PASS:
            yield group
            group = []
        group.append(number)
    if group:
        yield group
