"""What the configuration of a saved BERT may say: mistakes are named before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosyslog.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG, SENTENCE_CONFIG = "config.json", "sentence_bert_config.json"

#: Whole numbers from 1, as BERT and others call them.
_COUNTS = (
    "hidden_size",
    "dim",
    "num_attention_heads",
    "n_heads",
    "num_hidden_layers",
    "n_layers",
    "max_position_embeddings",
)

#: The first and the last token are the model's own: with fewer, all texts would be the same.
_FEWEST_TOKENS = 3


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """Refuses a `config.json` that no BERT can have.

    Raises:
        EncoderError: a value is of the wrong kind, out of its range, or does not fit another.
    """
    for key in _COUNTS:
        if key in config and not _is_whole(config[key], 1):
            raise _mistake(name, CONFIG, key, config[key], "a whole number from 1")
    padding = config.get("pad_token_id")
    if padding is not None and not _is_whole(padding, 0):
        raise _mistake(name, CONFIG, "pad_token_id", padding, "a whole number from 0")
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise _mistake(name, CONFIG, "layer_norm_eps", epsilon, "a small number above 0")
    heads, size = config.get("num_attention_heads", 1), config.get("hidden_size", 0)
    if config.get("model_type") == "bert" and size % heads:
        raise _mistake(name, CONFIG, "num_attention_heads", heads, f"a divisor of {size}")


def token_limit(name: str, config: Mapping[str, Any], default: int) -> int:
    """How many tokens count, by a `sentence_bert_config.json`.

    Raises:
        EncoderError: it is no number, or too low.
    """
    limit = config.get("max_seq_length")
    if limit is None:
        return default
    if not _is_whole(limit, _FEWEST_TOKENS):
        wanted = f"a whole number from {_FEWEST_TOKENS}"
        raise _mistake(name, SENTENCE_CONFIG, "max_seq_length", limit, wanted)
    return int(limit)


def misfit(name: str) -> EncoderError:
    """What to say where configuration and weights belong to two models."""
    return EncoderError(
        f"the encoder {name!r} cannot be used: its weights are not of the sizes that its "
        f"{CONFIG} names; save the model again with both"
    )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _mistake(name: str, file: str, key: str, value: object, wanted: str) -> EncoderError:
    return EncoderError(
        f"the encoder {name!r} cannot be used: in its {file}, {key} is {value!r}, which must be "
        f"{wanted}"
    )
