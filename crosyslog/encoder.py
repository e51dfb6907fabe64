"""Templates to vectors, by a BERT: found by name, run by what is fastest here."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Protocol

from crosyslog.errors import EncoderError, SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from crosyslog.manifest import EncoderReference

#: The encoder that ships as a package: all-MiniLM-L6-v2, no download, works offline.
DEFAULT_ENCODER = "minilm"

#: The numeric classes. Within one, torch and onnxruntime, CPU and GPU give the same vectors to
#: 1e-4; between two, vectors differ by a hundredth (cosine to fp32: bf16 .9999, int8 .99).
PRECISIONS = ("fp32", "bf16", "int8")


class Encoder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def id(self) -> str:
        """Names the model, the pooling and the numeric class: vectors of another id differ."""

    @property
    def name(self) -> str:
        """What it was loaded by: `minilm`, a Hugging Face name, or a folder."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    @property
    def device(self) -> str:
        """Where it computes, as torch writes it: `cpu`, `cuda` or `cuda:N`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of the texts.

        Returns:
            float32 [n, dim], of length 1 and rounded to what fp16 holds, so that a vector from
            the cache and a fresh one give the same score.
        """


def load_encoder(
    name: str = DEFAULT_ENCODER, device: str = "auto", precision: str = "fp32"
) -> Encoder:
    """Loads an encoder and keeps it on its device.

    On a CPU, a BERT is run by onnxruntime; on a GPU, in bf16, and where the weights are of
    another make than BERT's, by torch.

    Args:
        name: `minilm` (shipped), a Hugging Face model name such as `bert-base-uncased`, or the
            folder of a saved one.
        device: `auto` (the GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16` (half the time on a GPU), or `int8` (on a CPU, faster there).

    Raises:
        EncoderError: there is no such encoder here, or none that can be used like this.
        SettingError: there is no such device or precision, or not both together.
    """
    if precision not in PRECISIONS:
        raise SettingError(
            f"encoder.precision={precision!r} is not known: use {', '.join(PRECISIONS)}"
        )
    if precision == "int8" and device == "auto":
        device = "cpu"
    chosen = choose_device(device)
    if precision == "int8" and chosen != "cpu":
        raise SettingError(
            f"encoder.precision='int8' runs on a CPU, not with encoder.device={device!r}: "
            "use bf16 there, or encoder.device=cpu"
        )
    # No progress bars and no advice from the libraries on a user's screen.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from crosyslog.encoders.bert_encoder import BertEncoder
    from crosyslog.encoders.saved_bert import find_bert

    return BertEncoder(find_bert(name), chosen, precision)


class EncoderOnDemand:
    """The encoder that a model was made with, loaded when a text comes that no cache knows.

    Loading takes seconds; whoever judges what was judged before need not wait for it.
    """

    def __init__(self, reference: EncoderReference) -> None:
        self.id, self.name, self.dim = reference.id, reference.name, reference.dim
        self._precision = reference.precision
        self._loaded: Encoder | None = None

    @property
    def device(self) -> str:
        """Where it computes."""
        return self._loaded.device if self._loaded is not None else choose_device("auto")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of the texts, float32 [n, dim].

        Raises:
            EncoderError: there is no such encoder here, or it is another than it was.
        """
        if self._loaded is None:
            loaded = load_encoder(self.name, precision=self._precision)
            if loaded.id != self.id:
                raise EncoderError(
                    f"the encoder {self.name} is {loaded.id} here, and {self.id} is needed: "
                    "install the one that the model was made with"
                )
            self._loaded = loaded
        return self._loaded.encode(texts)


def choose_device(device: str) -> str:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` stands for on this machine.

    Raises:
        SettingError: there is no such device.
    """
    # Importing torch takes seconds: on a machine without a GPU it is not asked.
    if device == "cpu" or (device == "auto" and not _has_cuda_driver()):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SettingError(
            f"encoder.device={device!r} is no device: use auto, cpu, cuda or cuda:N"
        ) from error
    if chosen.type not in {"cpu", "cuda"}:
        raise SettingError(f"encoder.device={device!r} is not used: use auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise SettingError(
            f"encoder.device={device!r}: this machine has {torch.cuda.device_count()} CUDA "
            "devices; use auto or cpu"
        )
    return str(chosen)


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
