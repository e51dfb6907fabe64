"""Threads that a computation was given go back when it is done."""

from __future__ import annotations

import pytest
import torch

from crosyslog.threads import torch_threads


def fail_with(threads: int) -> None:
    with torch_threads(threads):
        raise KeyError(torch.get_num_threads())


def test_the_number_of_threads_comes_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError, match=str(before + 1)):
        fail_with(before + 1)
    assert torch.get_num_threads() == before
