"""A bundle: an adapted (or base) model as a folder that explains and verifies itself.

`manifest.json`, `weights.safetensors` and `support.parquet`; no pickle anywhere. The support's
templates are log text, so the files are readable by their owner alone.
"""

from __future__ import annotations

import errno
import io
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crosyslog.detector import LstmDetector
from crosyslog.errors import BundleCorruptError, BundleError
from crosyslog.evidence_network import EvidenceDetector
from crosyslog.manifest import (
    MANIFEST,
    SUPPORT,
    WEIGHTS,
    DetectorShape,
    EvidenceShape,
    Manifest,
    checksum,
    read_verified,
    sha256,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

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
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in detector.state_dict().items()}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        # Through memory: Polars reports a full disk in a way of its own.
        table = io.BytesIO()
        support.write_parquet(table, compression="zstd")
        (folder / SUPPORT).write_bytes(table.getvalue())
        (folder / WEIGHTS).write_bytes(save(tensors))
        hashes = {name: sha256((folder / name).read_bytes()) for name in (WEIGHTS, SUPPORT)}
        complete = manifest.model_copy(update={"files": hashes})
        content = complete.model_dump(mode="json")
        content["checksum"] = checksum(content)
        (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for name in (MANIFEST, WEIGHTS, SUPPORT):
            (folder / name).chmod(0o600)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {folder}: {error.strerror}") from error
    return complete


def load_bundle(folder: Path) -> Bundle:
    """Loads a bundle and verifies hashes, format and masking.

    Raises:
        BundleCorruptError: a file is missing, or is not what the manifest says.
        BundleVersionError: it was made for another format or masking.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    manifest, digest, parts = read_verified(folder)
    try:
        detector = build_detector(manifest.detector)
        detector.load_state_dict(load(parts[WEIGHTS]))
    except (RuntimeError, SafetensorError) as error:
        raise BundleCorruptError(
            f"the bundle {folder} is corrupted: its weights do not fit its manifest"
        ) from error
    support = _read_support(folder, parts[SUPPORT], manifest.encoder.dim)
    detector.eval().requires_grad_(requires_grad=False)
    bundle = Bundle(manifest, detector, support, digest)
    try:
        bundle.attach_support()
    except IndexError as error:
        raise BundleCorruptError(
            f"the bundle {folder} is corrupted: {SUPPORT} does not fit its weights"
        ) from error
    return bundle


def build_detector(shape: DetectorShape | EvidenceShape) -> Detector:
    """A detector of a shape, before its weights are read."""
    return LstmDetector(shape) if isinstance(shape, DetectorShape) else EvidenceDetector(shape)


def now() -> datetime:
    """The time that a bundle is stamped with: UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _read_support(folder: Path, data: bytes, dim: int) -> pl.DataFrame:
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
