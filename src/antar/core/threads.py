"""How many threads torch uses while a block runs, on every engine and for every long work."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(n: int | None) -> Generator[None]:
    """Torch on `n` threads while the block runs; None leaves it as it is."""
    before = torch.get_num_threads()
    if n is None or n == before:
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
