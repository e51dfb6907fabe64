"""The state of a training as one file: tensors, and beside them what JSON can hold; no pickle.

The file is of safetensors; its header keeps the JSON, so the two cannot come apart. It is written
beside its place and renamed into it: a reader finds the state of before or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from crosyslog.errors import SettingError
from crosyslog.manifest import checksum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from trainer.tasks import LabelledStream

#: Raise it when a state of before can no longer be gone on from.
FORMAT: Final = 1

#: Where the header of the file keeps the JSON.
_KEY = "training"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Writes a state; it is on the disk, and readable by its owner alone, when this returns.

    Args:
        path: the file; one that is there is replaced.
        tensors: by name.
        content: whatever else, as JSON can hold it.

    Raises:
        SettingError: it cannot be written.
    """
    from safetensors.torch import save

    held = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    complete = {**content, "format": FORMAT, "tensors": _digest(held)}
    complete["checksum"] = checksum(complete)
    beside = path.with_name(f".{path.name}.part")
    try:
        # What is learnt from a log is the log owner's.
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(save(held, {_KEY: json.dumps(complete)}))
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise SettingError(f"cannot write the checkpoint {path}: {error.strerror}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a state, and verifies that it is as it was written.

    Returns:
        What `write_checkpoint` was given.

    Raises:
        SettingError: it is missing, damaged, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    damaged = f"the checkpoint {path} is damaged: start anew with --restart"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    try:
        tensors = load(data)
        # safetensors has no call that reads the header of bytes: 8 bytes of its length, then JSON.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        content = json.loads(header["__metadata__"][_KEY])
        found = content.pop("checksum")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(damaged) from error
    if found != checksum(content):
        raise SettingError(damaged)
    if content.pop("format") != FORMAT:
        raise SettingError(
            f"the checkpoint {path} was written by another version of CroSysLog: go on with "
            "that, or start anew with --restart"
        )
    if content.pop("tensors") != _digest(tensors):
        raise SettingError(damaged)
    return tensors, content


def fingerprint(sources: Sequence[LabelledStream]) -> list[dict[str, str]]:
    """What tells sources from others: of each its name, and sha256 of what it holds."""
    return [
        {
            "name": source.name,
            "templates": _digest_texts(source.templates),
            "rows": _digest_array(source.rows),
            "labels": _digest_array(source.labels),
            "vectors": _digest_array(source.vectors),
        }
        for source in sources
    ]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    parts = [(name, _digest_array(tensors[name].numpy())) for name in sorted(tensors)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _digest_array(values: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    # As bytes in place: the rows of a large log are gigabytes, and a copy would be as many again.
    digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _digest_texts(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
