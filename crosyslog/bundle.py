"""A bundle: an adapted (or base) model as a folder that explains and verifies itself.

`manifest.json`, `weights.safetensors` and `support.parquet`; no pickle anywhere. The support's
templates are log text, so the files are readable by their owner alone. A bundle that judges
sessions has one file more: see `crosyslog.session_bundle`.
"""

from __future__ import annotations

import errno
import io
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from crosyslog.detector import LstmDetector
from crosyslog.errors import BundleCorruptError, BundleError, BundleVersionError
from crosyslog.evidence_network import EvidenceDetector
from crosyslog.manifest import (
    MANIFEST,
    SUPPORT,
    WEIGHTS,
    DetectorShape,
    EvidenceShape,
    Manifest,
    SessionShape,
    checksum,
    read_verified,
    sha256,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
    from torch import Tensor, nn

D = TypeVar("D", bound="nn.Module")

#: Either kind: `template_columns` once a template, then `forward` over windows.
Detector = LstmDetector | EvidenceDetector


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        manifest: what it says about itself.
        detector: on the CPU, in evaluation mode.
        support: one row a template that it was adapted on: `template`, `alert` (its label),
            `lines`, `alerts` (how often it was seen, and as an alert), `source` (null), `vector`.
            A base has prototypes of its sources' templates instead: `template` is null, since a
            base holds no text, and `source` names the system.
        sha256: of the manifest file: names exactly this bundle.
    """

    manifest: Manifest
    detector: Detector
    support: pl.DataFrame
    sha256: str

    @property
    def support_vectors(self) -> NDArray[np.float32]:
        """The vectors of the support's rows, float32 [n, dim]."""
        return self.support["vector"].to_numpy().reshape(-1, self.manifest.encoder.dim)

    def attach_support(self) -> None:
        """Gives a detector that compares templates with the support's the texts that it needs.

        Raises:
            IndexError: its weights are of another support.
        """
        if isinstance(self.detector, EvidenceDetector):
            alert = self.support["alert"].to_numpy()
            texts = self.support["template"].to_list()
            self.detector.attach(texts, self.support_vectors, alert)


def support_frame(
    *,
    templates: list[str] | None,
    alert: NDArray[np.bool_],
    lines: NDArray[np.int64],
    alerts: NDArray[np.int64],
    source: list[str] | None,
    vectors: NDArray[np.float32],
) -> pl.DataFrame:
    """The support's table in the form that a bundle holds."""
    import polars as pl

    nothing = [None] * len(alert)
    return pl.DataFrame(
        {
            "template": templates or nothing,
            "alert": alert,
            "lines": lines,
            "alerts": alerts,
            "source": source or nothing,
            "vector": vectors,
        },
        schema=_support_schema(vectors.shape[1]),
    )


def write_bundle(
    folder: Path, manifest: Manifest, detector: Detector, support: pl.DataFrame
) -> Manifest:
    """Writes a bundle into a folder, new or empty; the hashes are filled in.

    The caller gives the folder its final name once all is written (`Store.add` does).

    Raises:
        BundleError: it cannot be written.
    """
    return write_files(folder, manifest, detector.state_dict(), support, {})


def write_files(
    folder: Path,
    manifest: Manifest,
    weights: Mapping[str, Tensor],
    support: pl.DataFrame,
    others: Mapping[str, bytes],
) -> Manifest:
    """Writes what any kind of bundle consists of; see `write_bundle`.

    Args:
        folder: new or empty.
        manifest: without the hashes, which are filled in.
        weights: the detector's, by name.
        support: as `support_frame` makes it.
        others: the content of the files that this kind has beside these, by name.

    Raises:
        BundleError: it cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        # Through memory: Polars reports a full disk in a way of its own.
        table = io.BytesIO()
        support.write_parquet(table, compression="zstd")
        parts = {WEIGHTS: save(tensors), SUPPORT: table.getvalue(), **others}
        hashes = {name: sha256(data) for name, data in parts.items()}
        complete = manifest.model_copy(update={"files": hashes})
        content = complete.model_dump(mode="json")
        content["checksum"] = checksum(content)
        parts[MANIFEST] = (json.dumps(content, indent=2) + "\n").encode()
        for name, data in parts.items():
            (folder / name).write_bytes(data)
            (folder / name).chmod(0o600)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {folder}: {error.strerror}") from error
    return complete


def load_bundle(folder: Path) -> Bundle:
    """Loads a bundle that judges lines, and verifies hashes, format and masking.

    Raises:
        BundleCorruptError: a file is missing, or is not what the manifest says.
        BundleVersionError: it was made for another format or masking, or judges sessions.
    """
    manifest, digest, parts = read_verified(folder)
    shape = manifest.detector
    if isinstance(shape, SessionShape):
        other = f"`crosyslog-agent scan FILE --model {manifest.target}` judges those of a log"
        raise BundleVersionError(
            f"the bundle {folder} judges sessions, and lines are to be judged here: "
            + ("name another base" if manifest.kind == "base" else other)
        )
    detector = load_detector(folder, lambda: build_detector(shape), parts[WEIGHTS])
    support = read_support(folder, parts[SUPPORT], manifest.encoder.dim)
    bundle = Bundle(manifest, detector, support, digest)
    try:
        bundle.attach_support()
    except IndexError as error:
        raise BundleCorruptError(
            f"the bundle {folder} is corrupted: {SUPPORT} does not fit its weights"
        ) from error
    return bundle


def load_detector(folder: Path, build: Callable[[], D], data: bytes) -> D:
    """A detector with the weights of its bundle, which it is to judge with.

    Args:
        folder: the bundle's.
        build: makes a detector of the manifest's shape.
        data: the file of its weights.

    Raises:
        BundleCorruptError: they are not of that shape, or none can be.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        detector = build()
        detector.load_state_dict(load(data))
    except (RuntimeError, SafetensorError) as error:
        raise BundleCorruptError(
            f"the bundle {folder} is corrupted: its weights do not fit its manifest"
        ) from error
    if not all(bool(weight.isfinite().all()) for weight in detector.state_dict().values()):
        raise BundleCorruptError(
            f"the bundle {folder} is corrupted: its weights are not all numbers"
        )
    return detector.eval().requires_grad_(requires_grad=False)


def build_detector(shape: DetectorShape | EvidenceShape) -> Detector:
    """A detector of a shape, before its weights are read."""
    return LstmDetector(shape) if isinstance(shape, DetectorShape) else EvidenceDetector(shape)


def now() -> datetime:
    """The time that a bundle is stamped with: UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def read_support(folder: Path, data: bytes, dim: int) -> pl.DataFrame:
    """The support's table.

    Raises:
        BundleCorruptError: it is none, or of vectors of another length.
    """
    import polars as pl

    expected = _support_schema(dim)
    try:
        support = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise BundleCorruptError(
            f"the bundle {folder} is corrupted: {SUPPORT} cannot be read"
        ) from error
    if support.schema != expected:
        raise BundleCorruptError(
            f"the bundle {folder} is corrupted: {SUPPORT} does not fit its manifest"
        )
    return support


def _support_schema(dim: int) -> pl.Schema:
    import polars as pl

    return pl.Schema(
        {
            "template": pl.String(),
            "alert": pl.Boolean(),
            "lines": pl.Int64(),
            "alerts": pl.Int64(),
            "source": pl.String(),
            "vector": pl.Array(pl.Float32, dim),
        }
    )
