"""Nothing is told to anybody: libraries that would are told not to."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ENCODE = "from crosyslog.encoder import load_encoder; load_encoder(device='cpu').encode(['a'])"


def test_an_encoder_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    """onnxruntime keeps what it is about to send, and a number for this machine, below HOME."""
    switches = {"ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    environment["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", _ENCODE], env=environment, check=True, timeout=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_switch_is_one_that_onnxruntime_knows() -> None:
    """Without trying what it does when it is left on."""
    libraries = [path for path in files("onnxruntime") or () if ".so" in path.name]
    assert any(b"ORT_DISABLE_TELEMETRY" in path.locate().read_bytes() for path in libraries)  # type: ignore[attr-defined]
