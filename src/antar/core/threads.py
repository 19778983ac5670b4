"""How many threads torch and the BLAS use, on every engine and for every long work."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Threads:
    """torch: of torch's own team; blas: of the library behind numpy's and scipy's products. The last bits of a result
    depend on both, so a worker takes over those of the process that it works for."""

    torch: int
    blas: int

    @classmethod
    def here(cls) -> Threads:
        """As this process has them now."""
        from threadpoolctl import threadpool_info

        pools = [int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]
        return cls(torch.get_num_threads(), max(pools, default=torch.get_num_threads()))

    def use(self) -> None:
        """This process has so many from now on, also in libraries that it has not loaded yet."""
        from threadpoolctl import threadpool_limits

        os.environ["OMP_NUM_THREADS"] = str(self.torch)
        os.environ["OPENBLAS_NUM_THREADS"] = str(self.blas)
        threadpool_limits(self.blas, user_api="blas")
        torch.set_num_threads(self.torch)
