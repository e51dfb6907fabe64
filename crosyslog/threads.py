"""How many threads torch computes with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Computes with so many threads, and with as many as before when left.

    An LSTM's steps are so small that threads spend their time waiting for each other: on two busy
    cores, adapting took 13 s with two threads and 0.4 s with one. A BERT uses all it is given.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
