"""Texts to vectors around what runs the BERT: tokens and batches.

Shapes: B texts, L tokens, D dimensions of a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crosyslog.encoders.saved_bert import fingerprint, read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crosyslog.encoders.saved_bert import SavedBert

#: A unit vector [B, D] a text from its tokens [B, L]; where the mask [B, L] is 0 is padding.
Forward = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]

#: Texts of one pass. On a CPU more are no faster, short texts stay beside short ones, and the
#: passes of a small call share out evenly among the workers.
_BATCH, _BATCH_ON_GPU = 4, 256


class BertEncoder:
    """A saved BERT at work.

    Attributes:
        id: names the model (weights, configuration, tokenizer, token limit), the pooling and the
            numeric class.
        name: what it was loaded by.
        dim: the length of a vector.
        device: where it computes.
    """

    def __init__(self, bert: SavedBert, device: str, precision: str) -> None:
        """Loads the weights.

        Raises:
            EncoderError: they are not there, not whole, or not for this precision.
        """
        self.name = bert.name
        self.dim = bert.dim
        self.device = device
        self._padding = bert.padding
        self._batch = _BATCH if device == "cpu" else _BATCH_ON_GPU
        self._tokenizer = read_tokenizer(bert)
        self._forward, weights, workers = self._load(bert, precision)
        self._workers = ThreadPoolExecutor(workers, "encoder") if workers > 1 else None
        named = Path(bert.name).name
        self.id = f"{named}:{fingerprint(bert, weights)}:{bert.pooling}:{precision}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of the texts.

        Short texts are computed beside short ones, since a batch is as slow as its longest text.

        Returns:
            float32 [n, dim], of length 1 and rounded to what fp16 holds.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        tokens = self._tokens(texts)
        order = sorted(range(len(texts)), key=lambda row: len(tokens[row]))
        passes = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]

        def run(rows: list[int]) -> None:
            ids_BL, mask_BL = padded([tokens[row] for row in rows], self._padding)
            vectors[rows] = self._forward(ids_BL, mask_BL)

        # The longest first, so that no worker is left alone with it at the end.
        side_by_side = map if self._workers is None else self._workers.map
        for _ in side_by_side(run, reversed(passes)):
            pass
        return vectors.astype(np.float16).astype(np.float32)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        # Half of a surrogate pair is no text to the tokenizer.
        whole = [text.encode("utf-8", "replace").decode() for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(whole)]

    def _load(self, bert: SavedBert, precision: str) -> tuple[Forward, str, int]:
        if self.device == "cpu" and precision != "bf16" and bert.is_plain():
            from crosyslog.encoders.onnx_forward import load_onnx

            return load_onnx(bert, precision, self._tokens)
        from crosyslog.encoders.torch_forward import load_torch

        # torch shares one pass out among its threads.
        return (*load_torch(bert, precision, self.device), 1)


def padded(
    tokens: Sequence[Sequence[int]], padding: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens as an array [B, L] filled up with `padding`, and the mask of what is not."""
    shape = len(tokens), max(map(len, tokens))
    ids_BL, mask_BL = np.full(shape, padding, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, ids in enumerate(tokens):
        ids_BL[row, : len(ids)] = ids
        mask_BL[row, : len(ids)] = 1
    return ids_BL, mask_BL
