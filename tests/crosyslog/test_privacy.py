"""Nothing is told to anybody: libraries that would are told not to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ENCODE = "from crosyslog.encoder import load_encoder; load_encoder(device='cpu').encode(['a'])"
_UNTOLD = "import onnxruntime"


def test_an_encoder_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    """onnxruntime keeps what it is about to send, and a number for this machine, below HOME."""
    assert kept_below_home(_ENCODE, tmp_path / "ours") == []
    # The other way round, or the test above proves nothing.
    assert kept_below_home(_UNTOLD, tmp_path / "theirs")


def kept_below_home(program: str, home: Path) -> list[str]:
    home.mkdir()
    switches = {"ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    # As if no network were there, whatever it would do with one.
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    environment |= {"HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    return [path.name for path in home.rglob("*") if path.is_file()]
