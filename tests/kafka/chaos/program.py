"""The command `crosyslog-agent` with an encoder that starts at once, and fails on one kind of text.

Run as `python tests/kafka/chaos/program.py ARGUMENTS`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.fakes import FakeEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

#: What the scoring fails on.
UNSCORABLE = "this cannot be encoded"


class PoisonedEncoder(FakeEncoder):
    """Fails on texts of which one is not to be encoded."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any(UNSCORABLE in text for text in texts):
            raise ValueError("index out of range in self")
        return super().encode(texts)


def main() -> None:
    """Runs the command."""
    import crosyslog.encoder

    # Before the agent's modules take it for a default.
    crosyslog.encoder.load_encoder = lambda *_, **__: PoisonedEncoder()
    from agent.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
