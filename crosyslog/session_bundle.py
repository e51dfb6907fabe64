"""A bundle that judges sessions: the same folder, with what makes vectors of a line's template.

`templates.json` holds the groups that Drain made of the target's templates, which of them are those
of sessions with a label and, where vectors are those of words, what each word weighs. All are log
text; a base has none of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.bundle import load_detector, read_support, write_files
from crosyslog.drain_groups import MalformedGroupsError, TemplateGroups
from crosyslog.errors import BundleCorruptError, BundleVersionError
from crosyslog.manifest import MANIFEST, SUPPORT, TEMPLATES, WEIGHTS, SessionShape, read_verified
from crosyslog.session_contrast import Contrast
from crosyslog.session_detector import SessionDetector
from crosyslog.word_vectors import MalformedWeightsError, TfidfVectors

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from crosyslog.manifest import Manifest
    from crosyslog.word_vectors import WordVectors


@dataclass(frozen=True)
class SessionBundle:
    """A bundle in memory that judges sessions.

    Attributes:
        manifest: what it says about itself.
        detector: on the CPU, in evaluation mode.
        groups: of the target's templates; none in a base.
        words: what makes vectors of words, where the detector reads those.
        contrast: of the sessions that had a label; of nothing in a base.
        support: as of a line's bundle, with a row for each group: `lines` and `alerts` count the
            sessions that hold it, and the anomalous ones.
        sha256: of the manifest file: names exactly this bundle.
    """

    manifest: Manifest
    detector: SessionDetector
    groups: TemplateGroups
    words: TfidfVectors | None
    contrast: Contrast
    support: pl.DataFrame
    sha256: str


def write_session_bundle(folder: Path, bundle: SessionBundle) -> Manifest:
    """Writes a bundle into a folder, new or empty; the hashes are filled in.

    Raises:
        BundleError: it cannot be written.
    """
    words = bundle.words
    content = {
        "groups": json.loads(bundle.groups.to_json()),
        "words": None if words is None else json.loads(words.to_json()),
        "normal": list(bundle.contrast.normal),
        "anomalous": list(bundle.contrast.anomalous),
    }
    templates = json.dumps(content).encode()
    weights = bundle.detector.state_dict()
    return write_files(folder, bundle.manifest, weights, bundle.support, {TEMPLATES: templates})


def load_session_bundle(folder: Path, words: WordVectors | None = None) -> SessionBundle:
    """Loads a bundle that judges sessions, and verifies hashes, format and masking.

    Args:
        folder: the bundle's.
        words: where vectors of words come from; as stored, unless given.

    Raises:
        BundleCorruptError: a file is missing, or is not what the manifest says.
        BundleVersionError: it was made for another format or masking, or judges lines.
        EncoderError: its vectors are of words, and what made these is not here.
        InputError: a file of vectors of words cannot be read.
    """
    manifest, digest, parts = read_verified(folder)
    shape = manifest.detector
    if not isinstance(shape, SessionShape):
        raise BundleVersionError(
            f"the bundle {folder} judges lines, by {shape.kind}, and sessions are to be judged "
            "here: name one that `--method metalog` made"
        )
    if manifest.kind == "adapted" and manifest.sessions is None:
        raise _corrupted(folder, MANIFEST, "does not say which lines make a session")
    detector = load_detector(folder, lambda: SessionDetector(shape), parts[WEIGHTS])
    # Of the vectors that it reads, as those of lines are.
    support = read_support(folder, parts[SUPPORT], shape.dim)
    groups, weighted, labelled = _read_templates(folder, parts[TEMPLATES], words)
    if (weighted is None) != (shape.vectors == "sentences"):
        raise _corrupted(folder, TEMPLATES, "is of other vectors than its manifest says")
    made = manifest.encoder.dim if weighted is None else weighted.dim
    if made != shape.dim:
        raise _corrupted(
            folder, MANIFEST, f"vectors have {made} dimensions, and its detector reads {shape.dim}"
        )
    contrast = _contrast(folder, labelled, support, shape.dim)
    return SessionBundle(manifest, detector, groups, weighted, contrast, support, digest)


def _read_templates(
    folder: Path, data: bytes, words: WordVectors | None
) -> tuple[TemplateGroups, TfidfVectors | None, tuple[list[object], list[object]]]:
    try:
        content = json.loads(data)
        parts = {name: json.dumps(part).encode() for name, part in content.items()}
        if parts.keys() != {"groups", "words", "normal", "anomalous"}:
            raise _corrupted(
                folder, TEMPLATES, "must hold groups, words, normal and anomalous, and no more"
            )
        labelled = content["normal"], content["anomalous"]
        if not all(isinstance(kind, list) for kind in labelled):
            raise _corrupted(folder, TEMPLATES, "normal and anomalous must be lists")
        groups = TemplateGroups.from_json(parts["groups"])
        if content["words"] is None:
            return groups, None, labelled
        return groups, TfidfVectors.from_json(parts["words"], words), labelled
    except (MalformedGroupsError, MalformedWeightsError) as error:
        raise _corrupted(folder, TEMPLATES, str(error)) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise _corrupted(folder, TEMPLATES, "cannot be read") from error


def _contrast(
    folder: Path, labelled: tuple[list[object], list[object]], support: pl.DataFrame, dim: int
) -> Contrast:
    """The labelled texts, with the vectors that the support has of them."""
    row_of = {text: row for row, text in enumerate(support["template"].to_list())}
    kinds = []
    for kind in labelled:
        chosen = np.zeros(len(support), dtype=np.bool_)
        for text in kind:
            if not isinstance(text, str) or text not in row_of:
                what = f"the support has no row of the template {text!r}"
                raise _corrupted(folder, TEMPLATES, what)
            chosen[row_of[text]] = True
        kinds.append(chosen)
    if not any(labelled):
        return Contrast.nothing()
    vectors = support["vector"].to_numpy().reshape(-1, dim)
    return Contrast.between(support["template"].to_list(), vectors, *kinds)


def _corrupted(folder: Path, name: str, what: str) -> BundleCorruptError:
    return BundleCorruptError(f"the bundle {folder} is corrupted: {name}: {what}")
