"""What `trainer prepare` takes as a log grows: its memory, and the time of twice the lines.

A simulated log with many templates is prepared, and one of twice the lines: the first half of it,
and all of it. Each is prepared twice, with a cache of vectors that is new, then filled, in a
process whose resident memory (that of its children included) is looked at every 50 ms.

The encoder is loaded, and counts as memory; but its vectors are stood in for unless `--encode` is
given, since an encoder takes minutes for 200,000 templates, and its time grows with them alone.
All else is done as ever: a new vector goes into the cache's file, and from there into the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from crosyslog.encoder import Encoder
    from trainer.prepared_logs import PreparedManifest

#: Seconds between two looks at the memory.
_EVERY_S = 0.05


class StandIn:
    """Vectors out of nothing, under the name of the encoder that is loaded beside it."""

    def __init__(self, encoder: Encoder) -> None:
        import numpy as np

        self.id = encoder.id
        self.name = encoder.name
        self.dim = encoder.dim
        self.device = encoder.device
        self._loaded = encoder
        self._draw = np.random.default_rng(0)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Random vectors."""
        import numpy as np

        return self._draw.standard_normal((len(texts), self.dim), dtype=np.float32)


def main() -> None:
    """Measures, prints a table, and writes its figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000, help="and twice as many")
    parser.add_argument("--templates", type=int, default=20_000, help="about, in twice the lines")
    parser.add_argument("--system", default="spirit")
    parser.add_argument("--log", type=Path, help="a log to use in place of a simulated one")
    parser.add_argument("--encode", action="store_true", help="with the real encoder's vectors")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        log, folder = given.child
        print(json.dumps(prepare(log, folder, system=given.system, encode=given.encode)))
        return
    with tempfile.TemporaryDirectory(prefix="crosyslog-bench-") as scratch:
        folder = Path(scratch)
        log = given.log or simulate(folder / "log", given)
        # A first, small run: what is slow only because nothing has been read from the disk yet.
        measure(head(log, 1_000, folder / "warm"), folder / "first", given)
        one = measure(head(log, given.lines, folder / "half"), folder / "one", given)
        two = measure(head(log, 2 * given.lines, folder / "whole"), folder / "two", given)
    print(
        f"{'lines':>12} {'templates':>10} {'seconds':>8} {'again':>7} {'cpu s':>7} {'lines/s':>9} "
        f"{'peak MB':>8}"
    )
    for run in (one, two):
        print(
            f"{run['lines']:>12,} {run['templates']:>10,} {run['seconds']:>8.1f} "
            f"{run['again_seconds']:>7.1f} {run['cpu_seconds']:>7.1f} "
            f"{run['lines'] / run['again_seconds']:>9,.0f} {run['peak_mb']:>8,.0f}"
        )
    ratios = {
        name.replace("seconds", "ratio"): two[name] / one[name]
        for name in ("seconds", "again_seconds", "cpu_seconds")
    }
    print(
        f"twice the lines take {ratios['ratio']:.2f} times as long, again "
        f"{ratios['again_ratio']:.2f} times, in CPU time of both {ratios['cpu_ratio']:.2f} times"
    )
    print(
        f"vectors {'of the encoder' if given.encode else 'stood in for'}; "
        f"the encoder alone takes {one['encoder_mb']:,.0f} MB"
    )
    if given.json:
        figures = {**one, **{f"double_{name}": value for name, value in two.items()}, **ratios}
        figures["encoded"] = given.encode
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def simulate(path: Path, given: argparse.Namespace) -> Path:
    """A simulated log of twice the lines."""
    from trainer.simulation import write_simulated_log

    write_simulated_log(
        system=given.system,
        lines=2 * given.lines,
        anomaly_rate=0.05,
        seed=0,
        output=path,
        templates=given.templates,
    )
    return path


def head(log: Path, lines: int, path: Path) -> Path:
    """The first lines of a log as a file."""
    from crosyslog.lines import open_log

    with open_log(log) as stream, path.open("wb") as output:
        output.writelines(islice(stream, lines))
    return path


def measure(log: Path, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Prepares a log in a process of its own, and looks at its memory."""
    arguments = ["--system", given.system, *(["--encode"] if given.encode else [])]
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, __file__, "--child", log, folder, *arguments], stdout=subprocess.PIPE
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            sleep(_EVERY_S)
        output = process.stdout.read() if process.stdout else b""
    if process.returncode:
        sys.exit(process.returncode)
    log.unlink()
    return {**json.loads(output), "peak_mb": peak / 2**20}


def resident(pid: int) -> int:
    """Bytes that a process and its children hold in memory, shared ones counted for each."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except (OSError, IndexError):
        return 0
    return pages * 4096 + sum(resident(int(child)) for child in children)


def prepare(log: Path, folder: Path, *, system: str, encode: bool) -> dict[str, Any]:
    """Prepares a log twice; the time does not count loading the encoder."""
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import load_encoder
    from crosyslog.systems import load_system
    from trainer import preparation

    before = resident(os.getpid())
    encoder = load_encoder(device="cpu")
    encoder.encode(["what it needs at its first text"])
    loaded = resident(os.getpid())
    source: Encoder = encoder if encode else StandIn(encoder)

    def run(*, replace: bool) -> tuple[PreparedManifest, float]:
        cache = EmbeddingCache(folder / "cache", max_entries=1_000)
        began = perf_counter()
        manifest, _ = preparation.prepare(
            [str(log)],
            load_system(system),
            encoder=source,
            cache=cache,
            output=folder / "prepared",
            replace=replace,
        )
        cache.close()
        return manifest, perf_counter() - began

    cpu = process_time()
    manifest, seconds = run(replace=False)
    _, again = run(replace=True)
    return {
        "lines": manifest.lines,
        "templates": manifest.templates,
        "seconds": seconds,
        "again_seconds": again,
        "cpu_seconds": process_time() - cpu,
        "encoder_mb": (loaded - before) / 2**20,
    }


if __name__ == "__main__":
    main()
