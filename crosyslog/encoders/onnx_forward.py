"""A BERT run by onnxruntime: the fast path of a CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crosyslog.encoders.bert_config import misfit
from crosyslog.encoders.bert_graph import bert_graph, measuring_graph
from crosyslog.encoders.saved_bert import digest, read_weights, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from crosyslog.encoders.bert_encoder import Forward
    from crosyslog.encoders.bert_graph import Graph, Ranges
    from crosyslog.encoders.saved_bert import Pooling, SavedBert

#: What ranges are measured on: templates of all kinds of logs, from the simulator.
_CALIBRATION = Path(__file__).parent / "calibration.txt"

#: The tables that turn a token, and its place in a text, into a vector.
_TABLES = "word", "position"


def load_onnx(
    bert: SavedBert, precision: str, tokenize: Callable[[Sequence[str]], list[list[int]]]
) -> tuple[Forward, str, int]:
    """What runs a plain BERT, the digest of its weights, and how many passes to run at a time.

    A pass takes one thread, so that no thread waits for another within it: passes side by side
    are 1.05 (short texts) to 1.3 times (long ones) as fast as their threads in one pass.

    Args:
        bert: of which `is_plain` is true.
        precision: `fp32` or `int8`.
        tokenize: texts to tokens.

    Raises:
        EncoderError: the weights cannot be read, are not whole, or do not fit the configuration.
    """
    weights = read_weights(bert)
    try:
        words, places = (weights[f"embeddings.{kind}_embeddings.weight"] for kind in _TABLES)
        if words.shape[1] != bert.dim or len(places) < bert.max_tokens:
            raise misfit(bert.name)
        ranges = None
        if precision == "int8":
            texts = _CALIBRATION.read_text(encoding="utf-8").splitlines()
            ranges = _measure(bert, weights, tokenize(texts))
        session = _Session(bert_graph(weights, bert.config, ranges))
    except KeyError as error:
        raise unknown(bert.name) from error

    def forward(ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64]) -> NDArray[np.float32]:
        (hidden_BLD,) = session.run(ids_BL, mask_BL)
        return _pooled(hidden_BLD, mask_BL, bert.pooling)

    return forward, digest(weights), _threads()


def _pooled(
    hidden_BLD: NDArray[np.float32], mask_BL: NDArray[np.int64], pooling: Pooling
) -> NDArray[np.float32]:
    """One unit vector [B, D] a text, of those of its tokens."""
    mask_BL1 = mask_BL[:, :, None]
    if pooling == "cls":
        pooled_BD = hidden_BLD[:, 0]
    elif pooling == "max":
        pooled_BD = np.where(mask_BL1, hidden_BLD, -np.inf).max(axis=1)
    else:
        weights_BL1 = mask_BL1.astype(np.float32)
        pooled_BD = (hidden_BLD * weights_BL1).sum(axis=1) / weights_BL1.sum(axis=1)
    length_B1 = np.linalg.norm(pooled_BD, axis=1, keepdims=True)
    return np.asarray(pooled_BD / np.maximum(length_B1, 1e-12), dtype=np.float32)


class _Session:
    """A graph that is ready to run."""

    def __init__(self, graph: Graph) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        # They must live as long as the session.
        self._weights = [
            onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()
        ]
        options.add_external_initializers(list(graph.weights), self._weights)
        self._session: Any = onnxruntime.InferenceSession(
            graph.model, options, providers=["CPUExecutionProvider"]
        )

    def run(
        self, ids_BL: NDArray[np.int64], mask_BL: NDArray[np.int64]
    ) -> list[NDArray[np.float32]]:
        results: list[NDArray[np.float32]] = self._session.run(
            None, {"ids": ids_BL, "mask": mask_BL}
        )
        return results


def _measure(
    bert: SavedBert, weights: dict[str, NDArray[np.float32]], tokens: list[list[int]]
) -> Ranges:
    """The range of what enters each matrix product, over the texts of the calibration."""
    graph, products = measuring_graph(weights, bert.config)
    session = _Session(graph)
    lows, highs = [], []
    for ids in tokens:
        # One by one: padding would count as if it were text.
        ids_BL = np.array([ids], dtype=np.int64)
        low, high = session.run(ids_BL, np.ones_like(ids_BL))
        lows.append(low)
        highs.append(high)
    low, high = np.min(lows, axis=0).ravel(), np.max(highs, axis=0).ravel()
    # In steps that float noise does not cross: every machine must come to the same ranges.
    return {
        name: (_coarse(min(float(low[row]), 0.0)), _coarse(max(float(high[row]), 1e-3)))
        for row, name in enumerate(products)
    }


def _coarse(value: float) -> float:
    return float(f"{value:.2g}")


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
