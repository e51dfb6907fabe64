"""Prepared logs: the folder that `trainer prepare` writes, and how it is read.

`lines-NNNNN.parquet` hold the lines (`line`, its number from 0 over all logs; `time`; `label`;
`host`, a number that stands for it; `template`, its number; `session` where the profile knows it),
`templates.parquet` the templates (`template`, a number; `text`; `lines`; `alerts`), `vectors.npy`
their vectors (float16, a row a template), and `manifest.json` says what they were made with.
Templates are log text, so the files are readable by their owner alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from crosyslog.errors import InputError
from crosyslog.manifest import EncoderReference, checksum
from crosyslog.masking import MASKING_VERSION
from crosyslog.systems import System
from trainer.labelled_lines import KnownVectors, LabelledLines, no_labels
from trainer.whole_logs import WholeLog, labels_and_times

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

MANIFEST, TEMPLATES, VECTORS = "manifest.json", "templates.parquet", "vectors.npy"

#: A part of the lines.
LINES = re.compile(r"lines-\d{5,}\.parquet")

Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceLog(_Part):
    """One of the logs that were prepared, in the order of their lines.

    Attributes:
        name: its file's name, without where it was.
        lines: how many it holds.
        unsplit: how many of them the profile does not split: they are judged whole.
    """

    name: str
    lines: Count
    unsplit: Count


class PreparedManifest(_Part):
    """Everything that a prepared folder says about itself.

    Attributes:
        system: the profile that split the lines.
        masking: the version of the rules that made the templates.
        encoder: what made the vectors.
        logs: where the lines come from.
        lines: of all logs.
        alerts: lines with the label of an alert.
        normal: lines with the label of a normal line; the others have none.
        unsplit: lines that the profile does not split.
        templates: distinct ones.
        files: sha256 of each other file; the parts of the lines in their order.
    """

    format: Literal[1] = 1
    kind: Literal["prepared"] = "prepared"
    created: AwareDatetime
    system: System
    masking: str
    encoder: EncoderReference
    logs: tuple[SourceLog, ...]
    lines: Count
    alerts: Count
    normal: Count
    unsplit: Count
    templates: Count
    files: dict[str, str]


class PreparedLog:
    """A prepared folder, whose manifest has been read; the other files are verified when read."""

    def __init__(self, folder: Path) -> None:
        """Reads the manifest.

        Raises:
            InputError: the folder is none that `trainer prepare` wrote, is damaged, or was made
                with other masking.
        """
        self.folder = folder
        self.manifest = _read_manifest(folder)

    def labelled(self) -> LabelledLines:
        """The labelled lines, with the vectors of their templates.

        Raises:
            LabelError: no line has a label.
            InputError: a file is missing, or is not what the manifest says.
        """
        import polars as pl

        lines = self._lines(["line", "label", "template", "host"]).filter(
            pl.col("label").is_not_null()
        )
        if lines.is_empty():
            raise no_labels(str(self.folder), self.manifest.system.fields.normal)
        templates, rows, vectors = self._used(lines["template"].to_numpy())
        return LabelledLines(
            templates,
            rows,
            lines["label"].to_numpy().astype(np.bool_),
            lines["line"].to_numpy(),
            vectors,
            lines["host"].to_numpy().astype(np.uint32),
        )

    def whole(self) -> WholeLog:
        """All lines, with the vectors of their templates.

        Raises:
            InputError: a file is missing, or is not what the manifest says.
        """
        lines = self._lines(["label", "template", "time"])
        templates, rows, vectors = self._used(lines["template"].to_numpy())
        return WholeLog(templates, rows, *labels_and_times(lines), vectors)

    def _lines(self, columns: list[str]) -> pl.DataFrame:
        import polars as pl

        names = [name for name in self.manifest.files if LINES.fullmatch(name)]
        return pl.concat([self._parquet(name, columns) for name in names])

    def _used(
        self, numbers: NDArray[np.int64]
    ) -> tuple[list[str], NDArray[np.int64], KnownVectors]:
        """The templates of some lines, the row of each line's among these, and their vectors."""
        import polars as pl

        table = self._parquet(TEMPLATES, ["text"])
        vectors = self._vectors()
        if table.height != len(vectors) or int(numbers.max()) >= table.height:
            raise self._damaged("its files do not fit each other")
        # Templates that no line has are left out, as from a log.
        used = np.bincount(numbers, minlength=table.height) > 0
        templates = table["text"].filter(pl.Series(used)).to_list()
        known = {template: row for row, template in enumerate(templates)}
        rows = (np.cumsum(used) - 1)[numbers]
        return templates, rows, KnownVectors(self.manifest.encoder, known, vectors[used])

    def _parquet(self, name: str, columns: list[str]) -> pl.DataFrame:
        import polars as pl

        try:
            return pl.read_parquet(self._verified(name), columns=columns)
        except pl.exceptions.PolarsError as error:
            raise self._damaged(f"{name} cannot be read") from error

    def _vectors(self) -> NDArray[np.float16]:
        path = self._verified(VECTORS)
        try:
            vectors: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise self._damaged(f"{VECTORS} cannot be read") from error
        if vectors.dtype != np.float16 or vectors.shape[1:] != (self.manifest.encoder.dim,):
            raise self._damaged(f"{VECTORS} does not fit its manifest")
        return vectors

    def _verified(self, name: str) -> Path:
        path = self.folder / name
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise self._damaged(f"{name} cannot be read: {error.strerror}") from error
        if found != self.manifest.files[name]:
            raise self._damaged(f"{name} is not as it was written (its sha256 differs)")
        return path

    def _damaged(self, what: str) -> InputError:
        return _damaged(self.folder, what)


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds nothing but what `trainer prepare` writes, damaged or not."""
    names = [entry.name for entry in folder.iterdir()]
    known = {MANIFEST, TEMPLATES, VECTORS}
    return MANIFEST in names and all(name in known or LINES.fullmatch(name) for name in names)


def _read_manifest(folder: Path) -> PreparedManifest:
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is a folder without {MANIFEST}, so not one that `trainer prepare` wrote: "
            "name such a folder, or a log"
        ) from error
    except OSError as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read: {error.strerror}") from error
    try:
        content: dict[str, Any] = json.loads(data)
        found = content.pop("checksum")
        kind, version = content["kind"], content["format"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read") from error
    if kind != "prepared":
        raise InputError(f"{folder} is no prepared log but a model: name a prepared log, or a log")
    if found != checksum(content):
        raise _damaged(folder, f"{MANIFEST} is not as it was written (its checksum differs)")
    if version != 1:
        raise InputError(
            f"the prepared log {folder} has format {version} and this CroSysLog reads format 1: "
            "prepare the log again"
        )
    try:
        manifest = PreparedManifest.model_validate(content)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise _damaged(folder, f"{MANIFEST}: {place}: {error.errors()[0]['msg']}") from error
    if not {TEMPLATES, VECTORS} <= set(manifest.files):
        raise _damaged(folder, f"{MANIFEST}: files: {TEMPLATES} or {VECTORS} is not among them")
    if manifest.masking != MASKING_VERSION:
        raise InputError(
            f"the prepared log {folder} was made with masking {manifest.masking} and this "
            f"CroSysLog masks with {MASKING_VERSION}: prepare the log again"
        )
    return manifest


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"the prepared log {folder} is damaged: {what}; prepare the log again")
