"""What a bundle says about itself, and how that is read and verified without its weights."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from crosyslog.errors import BundleCorruptError, BundleVersionError
from crosyslog.masking import MASKING_VERSION
from crosyslog.session_rules import SessionRule
from crosyslog.systems import System

if TYPE_CHECKING:
    from pathlib import Path

#: Raise it when a bundle of before can no longer be read.
FORMAT: Final = 2

MANIFEST, WEIGHTS, SUPPORT = "manifest.json", "weights.safetensors", "support.parquet"

#: What a bundle that judges sessions has beside these.
TEMPLATES = "templates.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DetectorShape(_Part):
    """What must be known to build the detector `maml_lstm` before its weights are read.

    Attributes:
        kind: which form of detector.
        dim: dimensions of the encoder's vectors.
        projected: dimensions that they are projected to.
        hidden: hidden dimensions of the LSTM.
        members: networks of that form whose logits are averaged.
    """

    kind: Literal["maml_lstm"] = "maml_lstm"
    dim: PositiveInt
    projected: PositiveInt = 48
    hidden: PositiveInt = 32
    members: PositiveInt = 1


class EvidenceShape(_Part):
    """The same for the detector `evidence`.

    Attributes:
        kind: which form of detector.
        dim: dimensions of the encoder's vectors.
        hidden: units of each hidden layer.
        members: networks of that form whose logits are averaged.
        source_templates: vectors of the sources that it holds.
        support_templates: templates of the support that it compares others with; none in a base.
    """

    kind: Literal["evidence"] = "evidence"
    dim: PositiveInt
    hidden: PositiveInt = 32
    members: PositiveInt = 1
    source_templates: NonNegativeInt
    support_templates: NonNegativeInt = 0


class SessionShape(_Part):
    """The same for the detector `metalog`, which judges sessions.

    Attributes:
        kind: which form of detector.
        dim: dimensions of the template vectors that it reads.
        vectors: of whole templates by the encoder, or of their words, weighted by TF-IDF.
        hidden: units of a layer of the GRU, each way.
        layers: of the GRU.
        members: networks of that form whose logits are averaged.
    """

    kind: Literal["metalog"] = "metalog"
    dim: PositiveInt
    vectors: Literal["sentences", "words"] = "sentences"
    hidden: PositiveInt = 100
    layers: PositiveInt = 2
    members: PositiveInt = 1


class EncoderReference(_Part):
    """The encoder that made the vectors that the detector was trained on."""

    id: str
    name: str
    dim: PositiveInt

    @property
    def precision(self) -> str:
        """The numeric class, which ends the id."""
        return self.id.rpartition(":")[2]


class Threshold(_Part):
    """From which score on a line is an anomaly, and how that was chosen."""

    value: Annotated[float, Field(ge=0, le=1)]
    chosen: str


class InnerLoop(_Part):
    """How the base adapts: gradient steps on the support, from its own weights.

    Attributes:
        steps: how many.
        rates: the step size of each parameter, by name, for each member.
        threshold: for scores after these steps; the bundle's own is for scores without any.
        repeat_power: a line of the support counts 1 / (how often its template occurs) to this
            power.
    """

    steps: NonNegativeInt
    rates: dict[str, tuple[float, ...]]
    threshold: Threshold
    repeat_power: Annotated[float, Field(ge=0, le=1)]


class SupportSummary(_Part):
    """What the bundle was adapted on; all zero for a base."""

    lines: Annotated[int, Field(ge=0)] = 0
    alerts: Annotated[int, Field(ge=0)] = 0
    templates: Annotated[int, Field(ge=0)] = 0
    alert_templates: Annotated[int, Field(ge=0)] = 0


class Manifest(_Part):
    """Everything that a bundle says about itself.

    Attributes:
        target: the system that it was adapted to, or the name of a base.
        system: the profile that splits the target's lines; a base has none.
        sessions: which lines make a session, for a detector that judges those; a base has none.
        inner_loop: how a base adapts, and how an adapted bundle was.
        memory: whether a template of the support keeps its label.
        novel_below: a line is novel if no template of the support is this similar (cosine).
        figures: measured at training or adaptation, by name.
        settings: of the training or adaptation, by name.
        command: what made it, so that anyone can repeat it.
        files: sha256 of each other file.
    """

    format: Literal[2] = 2
    kind: Literal["base", "adapted"]
    target: str
    version: str
    created: AwareDatetime
    system: System | None = None
    masking: str = MASKING_VERSION
    encoder: EncoderReference
    detector: Annotated[DetectorShape | EvidenceShape | SessionShape, Field(discriminator="kind")]
    sessions: SessionRule | None = None
    memory: bool = True
    inner_loop: InnerLoop
    threshold: Threshold
    novel_below: Annotated[float, Field(ge=-1, le=1)]
    support: SupportSummary = SupportSummary()
    sources: tuple[str, ...]
    base: str | None = None
    figures: dict[str, float] = {}
    settings: dict[str, Any] = {}
    command: str
    files: dict[str, str] = {}


def files_of(manifest: Manifest) -> tuple[str, ...]:
    """The files that a bundle has beside its manifest."""
    judges_sessions = isinstance(manifest.detector, SessionShape)
    return (WEIGHTS, SUPPORT, TEMPLATES) if judges_sessions else (WEIGHTS, SUPPORT)


def load_manifest(folder: Path) -> tuple[Manifest, str]:
    """Reads and verifies a bundle's manifest alone; returns it with the file's sha256.

    Raises:
        BundleCorruptError: it is missing or damaged.
        BundleVersionError: it was made for another format or masking.
    """
    data = _read_part(folder, MANIFEST)
    corrupted = f"the bundle {folder} is corrupted: {MANIFEST}"
    try:
        content = json.loads(data)
        found = content.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BundleCorruptError(f"{corrupted} cannot be read") from error
    if found != checksum(content):
        raise BundleCorruptError(
            f"{corrupted} is not as it was written (its checksum differs); go back with "
            "`trainer models use`, or adapt again"
        )
    if content.get("format") != FORMAT:
        raise BundleVersionError(
            f"the bundle {folder} has format {content.get('format')} and this CroSysLog reads "
            f"format {FORMAT}: adapt again, or install the version that wrote it"
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BundleCorruptError(f"{corrupted}: {place}: {error.errors()[0]['msg']}") from error
    expected = files_of(manifest)
    if set(manifest.files) != set(expected):
        raise BundleCorruptError(
            f"{corrupted}: files: names other files than {' and '.join(expected)}"
        )
    if manifest.masking != MASKING_VERSION:
        raise BundleVersionError(
            f"the bundle {folder} was made with masking {manifest.masking} and this CroSysLog "
            f"masks with {MASKING_VERSION}: adapt again"
        )
    return manifest, sha256(data)


def require_encoder(manifest: Manifest, encoder_id: str) -> None:
    """Refuses to judge by the vectors of another encoder than a bundle's own.

    Raises:
        BundleVersionError: the bundle was made with another encoder.
    """
    wanted = manifest.encoder
    if wanted.id != encoder_id:
        raise BundleVersionError(
            f"the bundle {manifest.target}/{manifest.version} was made with the encoder "
            f"{wanted.id} ({wanted.name}) and {encoder_id} is loaded: set "
            f"encoder.name={wanted.name} and encoder.precision={wanted.precision}, or adapt again"
        )


def read_verified(folder: Path) -> tuple[Manifest, str, dict[str, bytes]]:
    """Reads a bundle's manifest and files, and verifies every hash.

    Returns:
        The manifest, the sha256 of its file, and the content of the others by name.

    Raises:
        BundleCorruptError: a file is missing, or is not what the manifest says.
        BundleVersionError: it was made for another format or masking.
    """
    manifest, digest = load_manifest(folder)
    parts = {name: _read_part(folder, name) for name in manifest.files}
    for name, expected in manifest.files.items():
        if sha256(parts[name]) != expected:
            raise BundleCorruptError(
                f"the bundle {folder} is corrupted: {name} is not the file that its manifest "
                "names (sha256 differs); go back with `trainer models use`, or adapt again"
            )
    return manifest, digest, parts


def _read_part(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleCorruptError(
            f"the bundle {folder} is not complete: cannot read {name}: {error.strerror}"
        ) from error


def sha256(data: bytes) -> str:
    """The hexadecimal digest of a file's content."""
    return hashlib.sha256(data).hexdigest()


def checksum(content: dict[str, Any]) -> str:
    """Over the manifest's content, so that a flipped byte in the manifest itself is seen too."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
