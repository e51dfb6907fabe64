"""Threads that a computation was given go back when it is done."""

from __future__ import annotations

import pytest
import torch

from crosyslog.threads import torch_threads


def test_the_number_of_threads_comes_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
