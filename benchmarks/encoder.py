"""Templates to vectors: every way to run the shipped encoder, and the cache when it is warm.

An encoder takes its time by the length of the texts, and simulated templates are short and all of
one size. So there are two tables, or one of real templates where logs are named: templates of
simulated logs as they are, and joined and cut to the lengths that templates of real logs have.
torch takes them as they come, 32 at a time, then sorted by length; then come the agent's default
and int8, each through a cold cache that writes its file, and with `--device cuda` the same on a
GPU. What is compared is measured in turn, and the best time of each counts: a machine that is busy
is busy for all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.encoder import Encoder

    Encode = Callable[[list[str]], NDArray[np.float32]]

SYSTEMS = ("bgl", "liberty", "spirit", "thunderbird")

#: How long the distinct templates of BGL, Liberty, Spirit and Thunderbird are: a share of them and
#: their characters, as found in the development logs.
LENGTHS = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1), (8, 22, 40, 55, 83, 200, 200)

#: Lines of each system that are simulated, and lines of a batch, as the agent's.
_LINES, _BATCH = 50_000, 20_000


def main() -> None:
    """Measures, prints a table, and writes its figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=192, help="that are encoded")
    parser.add_argument(
        "--log", action="append", metavar="SYSTEM=PATH", help="take these instead of simulated ones"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--device", help="of a GPU to measure beside the CPU: cuda or cuda:N")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crosyslog-bench-") as scratch:
        folder = Path(scratch)
        figures: dict[str, float] = {}
        if given.log:
            logs = [templates_of(*named.split("=", 1)) for named in given.log]
            cold = {"real": ("templates of the logs given", sample(logs, given.texts))}
        else:
            logs = [simulate(system, folder / system) for system in SYSTEMS]
            short = sample(logs, given.texts)
            cold = {
                "simulated": ("simulated templates", short),
                "joined": ("simulated templates, joined and cut to real lengths", joined(short)),
            }
        for kind, (texts_are, texts) in cold.items():
            measured = measure_cold(texts, given.rounds, folder, given.device)
            show_cold(f"{len(texts)} {texts_are}, cold", measured)
            figures |= {f"{kind}_{name}": value for name, value in measured.items()}
        figures |= measure_warm(logs[0], folder)
    print(f"warm, batches of {_BATCH:,} lines with {figures['distinct_a_batch']:,.0f} templates")
    for place in ("memory", "file"):
        print(
            f"{'cache in ' + place:30}{figures[f'warm_{place}_lines_per_second']:>10,.0f} lines/s"
        )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


PATHS = {
    "torch": "torch, as they come",
    "torch_sorted": "torch, sorted by length",
    "default": "the default (onnxruntime fp32)",
    "int8": "onnxruntime int8",
    "gpu": "torch on the GPU, fp32",
    "gpu_bf16": "torch on the GPU, bf16",
}


def show_cold(title: str, figures: dict[str, float]) -> None:
    """Prints what `measure_cold` found."""
    print(title)
    print(f"{'':30}{'misses/s':>10}{'x torch':>9}{'cosine: least':>15}{'mean':>9}{'loads in':>10}")
    for path, name in PATHS.items():
        if f"{path}_misses_per_second" not in figures:
            continue
        load = figures.get(f"{path}_load_seconds")
        print(
            f"{name:30}{figures[f'{path}_misses_per_second']:>10,.0f}"
            f"{figures[f'{path}_to_torch']:>9.1f}{figures[f'{path}_least_cosine']:>15.5f}"
            f"{figures[f'{path}_mean_cosine']:>9.5f}{'' if load is None else f'{load:>8.1f} s'}"
        )


def simulate(system: str, path: Path) -> pl.Series:
    """The templates of a simulated log, one a line."""
    from trainer.simulation import write_simulated_log

    write_simulated_log(system=system, lines=_LINES, anomaly_rate=0.05, seed=0, output=path)
    return templates_of(system, path)


def templates_of(system: str, path: str | Path) -> pl.Series:
    """The templates of a log, one a line."""
    from crosyslog.lines import read_lines
    from crosyslog.masking import mask
    from crosyslog.systems import load_system

    return mask(read_lines(Path(path), load_system(system))["text"])


def sample(logs: list[pl.Series], texts: int) -> list[str]:
    """Distinct templates of all logs, drawn at random, in no order."""
    import polars as pl

    templates = pl.concat(logs).unique(maintain_order=True)
    return templates.sample(min(texts, len(templates)), shuffle=True, seed=0).to_list()


def joined(templates: list[str]) -> list[str]:
    """As many texts in no order, of the lengths that templates of real logs have."""
    draw = np.random.default_rng(0)
    found = []
    for share in draw.permutation(len(templates)) / len(templates):
        length = int(np.interp(share, *LENGTHS))
        text = ""
        while len(text) < length:
            text += f" {templates[draw.integers(len(templates))]}"
        found.append(text[1 : length + 1].strip())
    return found


def measure_cold(
    texts: list[str], rounds: int, folder: Path, device: str | None
) -> dict[str, float]:
    """Misses a second of every path, and how its vectors stand to torch's."""
    from crosyslog.encoder import load_encoder

    loads: dict[str, Callable[[], Encode]] = {
        "default": lambda: through_cache(load_encoder(device="cpu"), folder),
        "int8": lambda: through_cache(load_encoder(device="cpu", precision="int8"), folder),
        "torch": torch_encode,
    }
    if device is not None:
        loads |= {
            "gpu": lambda: through_cache(load_encoder(device=device), folder),
            "gpu_bf16": lambda: through_cache(
                load_encoder(device=device, precision="bf16"), folder
            ),
        }
    figures: dict[str, float] = {}
    paths = {}
    for path, load in loads.items():
        began = perf_counter()
        paths[path] = load()
        figures[f"{path}_load_seconds"] = perf_counter() - began
        paths[path](texts[:32])
    by_torch = paths["torch"]
    paths["torch_sorted"] = lambda texts: by_torch(sorted(texts, key=len))
    seconds = dict.fromkeys((path for path in PATHS if path in paths), float("inf"))
    vectors = {}
    for _ in range(rounds):
        for path in seconds:
            began = perf_counter()
            vectors[path] = paths[path](texts)
            seconds[path] = min(seconds[path], perf_counter() - began)
    row_of = {text: row for row, text in enumerate(sorted(texts, key=len))}
    vectors["torch_sorted"] = vectors["torch_sorted"][[row_of[text] for text in texts]]
    for path in seconds:
        cosine = (vectors[path] * vectors["torch"]).sum(axis=1)
        cosine /= np.linalg.norm(vectors[path], axis=1) * np.linalg.norm(vectors["torch"], axis=1)
        figures |= {
            f"{path}_misses_per_second": len(texts) / seconds[path],
            f"{path}_to_torch": seconds["torch"] / seconds[path],
            f"{path}_least_cosine": float(cosine.min()),
            f"{path}_mean_cosine": float(cosine.mean()),
        }
    return figures


def torch_encode() -> Encode:
    """The shipped encoder run by torch, 32 texts at a time."""
    from crosyslog.encoder import DEFAULT_ENCODER
    from crosyslog.encoders.bert_encoder import padded
    from crosyslog.encoders.saved_bert import find_bert, read_tokenizer
    from crosyslog.encoders.torch_forward import load_torch

    bert = find_bert(DEFAULT_ENCODER)
    tokenizer = read_tokenizer(bert)
    forward, _ = load_torch(bert, "fp32", "cpu")

    def encode(texts: list[str]) -> NDArray[np.float32]:
        vectors = []
        for start in range(0, len(texts), 32):
            tokens = tokenizer.encode_batch(texts[start : start + 32])
            ids_BL, mask_BL = padded([encoding.ids for encoding in tokens], bert.padding)
            vectors.append(forward(ids_BL, mask_BL))
        return np.concatenate(vectors)

    return encode


def through_cache(encoder: Encoder, folder: Path) -> Encode:
    """An encoder behind a cache that knows nothing yet, every time it is asked."""
    from crosyslog.embedding_cache import EmbeddingCache

    def encode(texts: list[str]) -> NDArray[np.float32]:
        # Encoders of one numeric class share an id, and would find each other's vectors.
        cache = EmbeddingCache(Path(tempfile.mkdtemp(prefix="cold-", dir=folder)))
        try:
            return cache.vectors(texts, encoder)
        finally:
            cache.close()

    return encode


def measure_warm(log: pl.Series, folder: Path) -> dict[str, float]:
    """Lines a second whose vectors are all known, in memory and in the file."""
    from crosyslog.embedding_cache import EmbeddingCache

    class Stub:
        """Stands for the encoder, which is not asked when the cache is warm."""

        id, dim = "stub", 384

        def encode(self, texts: Any) -> NDArray[np.float32]:  # noqa: ANN401 - any list
            return np.ones((len(texts), self.dim), dtype=np.float32)

    def run(cache: EmbeddingCache) -> float:
        began = perf_counter()
        for start in range(0, len(log), _BATCH):
            look_up(log[start : start + _BATCH], cache)
        return perf_counter() - began

    def look_up(templates: pl.Series, cache: EmbeddingCache) -> None:
        import polars as pl

        distinct = templates.unique(maintain_order=True)
        cache.vectors(distinct.to_list(), stub)
        # Which vector each line has.
        templates.replace_strict(distinct, pl.int_range(len(distinct), eager=True))

    stub = Stub()
    warm = EmbeddingCache(folder / "warm")
    run(warm)
    memory = min(run(warm) for _ in range(5))
    file = []
    for _ in range(5):
        cold = EmbeddingCache(folder / "warm")
        file.append(run(cold))
        cold.close()
    warm.close()
    batches = [log[start : start + _BATCH].n_unique() for start in range(0, len(log), _BATCH)]
    return {
        "warm_memory_lines_per_second": len(log) / memory,
        "warm_file_lines_per_second": len(log) / min(file),
        "distinct_a_batch": sum(batches) / len(batches),
    }


if __name__ == "__main__":
    main()
