from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.encoder import DEFAULT_ENCODER, choose_device, load_encoder
from crosyslog.encoders.saved_bert import find_bert
from crosyslog.errors import EncoderError, SettingError
from crosyslog.threads import torch_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crosyslog.encoder import Encoder

ROOT = Path(__file__).parents[2]

#: Of which a machine's models and caches are: it changes with the encoder's package alone.
MINILM = "minilm:22ab87ecc1cb:mean:fp32"

TEXTS = [
    "kernel panic on node #",
    "node # fell over with a kernel panic",
    "user # logged in from #",
    "fan # of rack # stopped",
    "",
    "#",
    "a much longer template " * 8,
]

#: What no BERT expects: long words, other scripts, control characters, special tokens as text.
STRANGE = [
    "x" * 500,
    "ядро упало на узле",
    "内核 崩溃",
    "\x00\x1b[31m\t",
    "[CLS] [MASK]",
    "🔥 " * 90,
]


def save_tiny_bert(folder: Path, seed: int, *, kind: str = "BertModel", **more: bool) -> str:
    """Saves a BERT of a few random weights, with a tokenizer of a few words."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    getattr(transformers, kind)(config, **more).save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


def save_tokenizer(folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "node", "disk", "#"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true}', encoding="utf-8"
    )


def write_json(folder: Path, name: str, **content: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def by_transformers(
    folder: str, texts: list[str], pooling: str = "mean", max_tokens: int = 128
) -> NDArray[np.float32]:
    """The vectors as the library's own documentation computes them, one text after another."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    vectors = []
    with torch_threads(1), torch.inference_mode():
        for text in texts:
            tokens = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")
            hidden_LD = model.eval()(**tokens).last_hidden_state[0]
            pooled = {
                "mean": hidden_LD.mean(0),
                "cls": hidden_LD[0],
                "max": hidden_LD.max(0).values,
            }[pooling]
            vectors.append((pooled / pooled.norm()).numpy())
    return np.stack(vectors)


def cosines(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return np.asarray((some * others).sum(axis=1) / lengths)


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


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(), max_size=60))
def test_no_text_makes_it_fail(encoder: Encoder, text: str) -> None:
    assert np.isfinite(encoder.encode([text, text + "\ud800"])).all()


def test_onnxruntime_and_torch_make_the_same_vectors(encoder: Encoder) -> None:
    calibration = ROOT / "crosyslog" / "encoders" / "calibration.txt"
    texts = [*TEXTS, *STRANGE, *calibration.read_text(encoding="utf-8").splitlines()]
    expected = by_transformers(str(find_bert(DEFAULT_ENCODER).folder), texts, max_tokens=256)
    vectors = encoder.encode(texts)
    assert cosines(vectors, expected).min() > 0.9999
    np.testing.assert_allclose(vectors, expected, atol=1.3e-4)


def test_models_and_caches_of_before_keep_their_encoder(encoder: Encoder) -> None:
    assert encoder.id == MINILM
    assert encoder.name == DEFAULT_ENCODER
    assert encoder.device == "cpu"


def test_on_a_cpu_neither_torch_nor_transformers_is_imported() -> None:
    code = (
        "import sys\nfrom crosyslog.encoder import load_encoder\n"
        "load_encoder(device='cpu').encode(['disk # failed'])\n"
        "print(*{'torch', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("\n", "")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_saved_model_says_how_it_pools_and_how_many_tokens_count(
    tmp_path: Path, pooling: str, precision: Literal["fp32", "bf16"]
) -> None:
    folder = save_tiny_bert(tmp_path / "bert", seed=1)
    modes = {
        f"pooling_mode_{mode}": mode.startswith(pooling)
        for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    }
    modes["pooling_mode_mean_sqrt_len_tokens"] = False
    write_json(tmp_path / "bert", "1_Pooling/config.json", **modes, include_prompt=True)
    write_json(tmp_path / "bert", "sentence_bert_config.json", max_seq_length=5)
    texts = ["node", "disk # node", "node disk # disk # node", ""]
    encoder = load_encoder(folder, "cpu", precision)
    assert encoder.id.endswith(f":{pooling}:{precision}")
    expected = by_transformers(folder, texts, pooling, max_tokens=5)
    least = 0.9999 if precision == "fp32" else 0.99
    assert cosines(encoder.encode(texts), expected).min() > least
    np.testing.assert_array_equal(*encoder.encode(["node disk # disk", "node disk # node"]))


def test_a_model_that_pools_in_another_way_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path / "bert", seed=1)
    write_json(tmp_path / "bert", "1_Pooling/config.json", pooling_mode_lasttoken=True)
    with pytest.raises(EncoderError, match=r"pools by lasttoken: use one that pools by mean, cls"):
        load_encoder(folder, "cpu")


def test_the_id_names_the_weights(tmp_path: Path, encoder: Encoder) -> None:
    one = save_tiny_bert(tmp_path / "one" / "bert", seed=1)
    other = save_tiny_bert(tmp_path / "other" / "bert", seed=2)
    first, again, second = load_encoder(one), load_encoder(one), load_encoder(other)
    assert first.id == again.id
    assert first.id.endswith(":mean:fp32")
    assert len({first.id, second.id, encoder.id}) == 3
    assert first.dim == 16
    np.testing.assert_array_equal(first.encode(["node disk"]), again.encode(["node disk"]))


def change(path: Path, **values: object) -> None:
    """Writes keys of a JSON file anew."""
    content = json.loads(path.read_bytes()) if path.is_file() else {}
    path.write_text(json.dumps(content | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 4}),
        ("config.json", {"num_attention_heads": 4}),
        ("config.json", {"num_hidden_layers": 1}),
        ("config.json", {"layer_norm_eps": 0.5}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("vocab.txt", {}),
    ],
)
def test_the_id_names_all_that_vectors_depend_on(
    tmp_path: Path, file: str, values: dict[str, object]
) -> None:
    texts = ["Node disk # node", "disk"]
    one, other = (save_tiny_bert(tmp_path / name / "bert", seed=1) for name in ("one", "other"))
    if values:
        change(Path(other) / file, **values)
    else:
        words = (Path(other) / file).read_text(encoding="utf-8").replace("node\ndisk", "disk\nnode")
        (Path(other) / file).write_text(words, encoding="utf-8")
    first, second = load_encoder(one, "cpu"), load_encoder(other, "cpu")
    assert first.id != second.id
    cache = EmbeddingCache(tmp_path / "cache")
    for encoder in (first, second):
        # Alone as there: a vector from the cache is that of its own encoder.
        alone = EmbeddingCache().vectors(texts, encoder)
        np.testing.assert_array_equal(cache.vectors(texts, encoder), alone)
    cache.close()
    assert not np.allclose(first.encode(texts), second.encode(texts), atol=1e-2)


def test_the_id_does_not_name_what_vectors_do_not_depend_on(tmp_path: Path) -> None:
    one, other = (save_tiny_bert(tmp_path / name / "bert", seed=1) for name in ("one", "other"))
    change(
        Path(other) / "config.json",
        architectures=["BertForMaskedLM"],
        hidden_dropout_prob=0.3,
        transformers_version="4.0.0",
    )
    assert load_encoder(one, "cpu").id == load_encoder(other, "cpu").id


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"add_pooling_layer": False},
        {"kind": "BertForMaskedLM"},
        {"kind": "BertForSequenceClassification"},
    ],
)
def test_the_id_is_the_same_whatever_runs_the_model(tmp_path: Path, saved: dict[str, Any]) -> None:
    folder = save_tiny_bert(tmp_path / "bert", seed=1, **saved)
    fast, slow = load_encoder(folder, "cpu"), load_encoder(folder, "cpu", "bf16")
    assert fast.id.removesuffix("fp32") == slow.id.removesuffix("bf16")
    expected = by_transformers(folder, ["node disk", "# disk"])
    assert cosines(fast.encode(["node disk", "# disk"]), expected).min() > 0.9999


def test_a_model_of_another_make_is_run_by_torch(tmp_path: Path) -> None:
    import torch
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(1)
    config = DistilBertConfig(vocab_size=8, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    folder = tmp_path / "distilbert"
    DistilBertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    encoder, texts = load_encoder(str(folder), "cpu"), ["node disk # disk", "", "disk"]
    assert encoder.dim == 16
    assert cosines(encoder.encode(texts), by_transformers(str(folder), texts)).min() > 0.9999
    with pytest.raises(EncoderError, match="cannot run in int8"):
        load_encoder(str(folder), "cpu", "int8")


def test_a_model_is_found_by_its_name_where_it_was_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "models--someone--tiny"
    save_tiny_bert(model / "snapshots" / "0123", seed=1)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("crosyslog.encoders.saved_bert._has_network", lambda: False)
    encoder = load_encoder("someone/tiny", "cpu")
    assert encoder.name == "someone/tiny"
    assert encoder.id.startswith("tiny:")
    (model / "snapshots" / "0123" / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="there is no encoder 'someone/tiny' here"):
        load_encoder("someone/tiny", "cpu")


def test_int8_is_a_class_of_its_own_and_close(encoder: Encoder) -> None:
    rounded = load_encoder(device="auto", precision="int8")
    assert rounded.id == MINILM.replace("fp32", "int8")
    assert rounded.device == "cpu"
    texts = [*TEXTS[:4], "disk # of node # failed", "session of # closed", "link # is down"]
    vectors = rounded.encode(texts)
    assert cosines(vectors, encoder.encode(texts)).min() > 0.98
    # By ranges that are fixed: neither the texts beside it nor their length count.
    together = rounded.encode([*texts, *TEXTS[4:]])[: len(texts)]
    np.testing.assert_allclose(together, vectors, atol=1.3e-4)


def test_what_int8_is_measured_on_is_part_of_its_class() -> None:
    content = (ROOT / "crosyslog" / "encoders" / "calibration.txt").read_bytes()
    # Another text gives other vectors: then the class needs another name, such as int8.2.
    assert hashlib.sha256(content).hexdigest()[:12] == "b24ac51c9275"


def test_an_unknown_encoder_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    empty, broken, partial = tmp_path / "empty", tmp_path / "broken", tmp_path / "partial"
    empty.mkdir()
    for folder in (broken, partial):
        save_tiny_bert(folder, seed=1)
    (broken / "model.safetensors").write_bytes(b"no weights at all")
    from safetensors.numpy import load_file, save_file

    weights = load_file(partial / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, partial / "model.safetensors", {"format": "pt"})
    capfd.readouterr()
    for name in ("there-is-no-such-encoder", "no such name", *map(str, (empty, broken, partial))):
        for precision in ("fp32", "bf16"):
            with pytest.raises(EncoderError) as caught:
                load_encoder(name, "cpu", precision)
            assert str(caught.value) == (
                f"there is no encoder {name!r} here: use 'minilm', the folder of a saved BERT, or "
                "a Hugging Face name that this machine holds or can download"
            )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        *(("sentence_bert_config.json", "max_seq_length", limit) for limit in (-1, 0, 1, 3.5, "x")),
        *(("config.json", "hidden_size", size) for size in (0, -16, "x", None)),
        *(("config.json", "num_attention_heads", heads) for heads in (0, 3, 2.0)),
        *(("config.json", "num_hidden_layers", layers) for layers in (0, "x", True)),
        *(("config.json", "layer_norm_eps", epsilon) for epsilon in ("x", -1, 0)),
        ("config.json", "max_position_embeddings", "many"),
        ("config.json", "pad_token_id", "x"),
    ],
)
def test_a_mistake_in_a_models_configuration_is_named_in_one_line(
    tmp_path: Path, precision: str, file: str, key: str, value: object
) -> None:
    folder = save_tiny_bert(tmp_path / "bert", seed=1)
    change(Path(folder) / file, **{key: value})
    with pytest.raises(EncoderError) as caught:
        load_encoder(folder, "cpu", precision)
    assert str(caught.value).startswith(
        f"the encoder {folder!r} cannot be used: in its {file}, {key} is {value!r}, which must be "
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("values", [{"hidden_size": 32}, {"max_position_embeddings": 1_024}])
def test_a_configuration_of_another_model_is_refused_in_one_line(
    tmp_path: Path, precision: str, values: dict[str, object]
) -> None:
    folder = save_tiny_bert(tmp_path / "bert", seed=1)
    change(Path(folder) / "config.json", **values)
    change(Path(folder) / "sentence_bert_config.json", max_seq_length=1_000)
    with pytest.raises(EncoderError) as caught:
        load_encoder(folder, "cpu", precision)
    assert str(caught.value) == (
        f"the encoder {folder!r} cannot be used: its weights are not of the sizes that its "
        "config.json names; save the model again with both"
    )


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "cuda:x", "mps", "meta", "xpu"])
def test_an_impossible_device_is_refused_in_one_line(device: str) -> None:
    with pytest.raises(SettingError) as caught:
        choose_device(device)
    assert str(caught.value).startswith(f"encoder.device={device!r}")
    assert "\n" not in str(caught.value)


def test_an_impossible_precision_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError) as caught:
        load_encoder(device="cpu", precision="fp16")
    assert str(caught.value) == ("encoder.precision='fp16' is not known: use fp32, bf16, int8")
    monkeypatch.setattr("crosyslog.encoder.choose_device", lambda device: device)
    with pytest.raises(SettingError) as caught:
        load_encoder(device="cuda", precision="int8")
    assert str(caught.value) == (
        "encoder.precision='int8' runs on a CPU, not with encoder.device='cuda': use bf16 there, "
        "or encoder.device=cpu"
    )


def test_auto_is_a_device_that_is_there() -> None:
    import torch

    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == "cpu"
