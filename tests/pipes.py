"""Content that comes through a real pipe, which can be read once."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def piped(content: bytes, first: int = 3) -> Iterator[Path]:
    """The path of a pipe that gives the content, as a shell's `<(command)` does.

    Args:
        content: what comes.
        first: how many bytes of it come alone, before the rest.
    """
    reading, writing = os.pipe()

    def write() -> None:
        # The reader may have given up.
        with suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.write(content[:first])
            rest = memoryview(content[first:])
            while rest:
                rest = rest[pipe.write(rest) :]

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield Path(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        writer.join()
