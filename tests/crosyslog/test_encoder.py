from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.encoder import choose_device, load_encoder
from crosyslog.errors import EncoderError, SettingError

if TYPE_CHECKING:
    from pathlib import Path

    from crosyslog.encoder import Encoder

TEXTS = [
    "kernel panic on node #",
    "node # fell over with a kernel panic",
    "user # logged in from #",
    "fan # of rack # stopped",
    "",
    "#",
    "a much longer template " * 8,
]


def save_tiny_bert(folder: Path, seed: int, *, pooler: bool = True) -> str:
    """Saves a BERT of a few random weights, with a tokenizer of a few words."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "node", "disk", "#"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true}', encoding="utf-8"
    )
    return str(folder)


def test_vectors_have_length_one_and_fit_fp16(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), encoder.dim) == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(vectors, vectors.astype(np.float16).astype(np.float32))


def test_a_vector_does_not_depend_on_its_neighbours(encoder: Encoder) -> None:
    together = encoder.encode(TEXTS * 6)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    # Padding moves a component by one step of fp16 at most: 3e-5 at 0.05.
    np.testing.assert_allclose(together, np.tile(alone, (6, 1)), atol=1.3e-4)
    backwards = encoder.encode(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(backwards, alone, atol=1.3e-4)


def test_what_says_the_same_is_closer_than_what_does_not(encoder: Encoder) -> None:
    panic, fell, login, fan = encoder.encode(TEXTS[:4])
    assert panic @ fell > 0.5 > max(panic @ login, panic @ fan, fell @ login)


def test_no_texts_have_no_vectors(encoder: Encoder) -> None:
    vectors = encoder.encode([])
    assert vectors.shape == (0, 384)
    assert vectors.dtype == np.float32


def test_the_id_names_the_weights(tmp_path: Path, encoder: Encoder) -> None:
    one = save_tiny_bert(tmp_path / "one" / "bert", seed=1)
    other = save_tiny_bert(tmp_path / "other" / "bert", seed=2)
    first, again, second = load_encoder(one), load_encoder(one), load_encoder(other)
    assert first.id == again.id
    assert first.id.endswith(":mean:fp32")
    assert len({first.id, second.id, encoder.id}) == 3
    assert first.dim == 16
    np.testing.assert_array_equal(first.encode(["node disk"]), again.encode(["node disk"]))


def test_the_id_is_stable_for_a_bert_that_was_saved_without_its_pooler(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path / "bert", seed=1, pooler=False)
    assert load_encoder(folder).id == load_encoder(folder).id


def test_an_unknown_encoder_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    save_tiny_bert(broken, seed=1)
    (broken / "model.safetensors").write_bytes(b"no weights at all")
    for name in ("there-is-no-such-encoder", "no such name", str(empty), str(broken)):
        with pytest.raises(EncoderError) as caught:
            load_encoder(name, device="cpu")
        assert str(caught.value) == (
            f"there is no encoder {name!r} here: use 'minilm', the folder of a saved BERT, or a "
            "Hugging Face name that this machine holds or can download"
        )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "cuda:x", "mps", "meta", "xpu"])
def test_an_impossible_device_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(SettingError) as caught:
        choose_device(device)
    assert str(caught.value).startswith(f"encoder.device={device!r}")
    assert "\n" not in str(caught.value)


def test_auto_is_a_device_that_is_there() -> None:
    import torch

    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"
