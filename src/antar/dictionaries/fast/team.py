"""A few threads of one process that share a step's work.

Kernels release the interpreter's lock, so plain threads run side by side: no threading layer that two trainings at
once would fight over. Each thread gives torch one thread, so that a matrix product inside it starts no team of its
own (whose idle members would spin on the cores that the kernels need). Do not fork with a team alive: spawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Team:
    """`size` threads, alive until `close`."""

    def __init__(self, size: int) -> None:
        self.size = size
        default = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(size, "antar-step", initializer=torch.set_num_threads, initargs=(1,))
        gate = Barrier(size)
        self.run(lambda _: gate.wait(), range(size))
        # What a thread sets becomes what later threads of the process start with: put that back.
        torch.set_num_threads(default)

    def run(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`work` on every item, in any order; results in the order of the items. The first error is raised."""
        return list(self._pool.map(work, items))

    def close(self) -> None:
        self._pool.shutdown()


def spans(total: int, width: int) -> list[tuple[int, int]]:
    """0 … total in runs of `width`, the last one shorter."""
    return [(lo, min(lo + width, total)) for lo in range(0, total, width)]
