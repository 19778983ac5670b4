"""Random streams that do not depend on the order of the work.

Every consumer derives its own stream from the study's seed and a name, so that skipping, resuming or
parallelising one part of a study never changes the numbers of another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under the study's `seed`."""
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") >> 1


def numpy_rng(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, *names))


def torch_rng(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator: the numbers are the same whatever device uses them."""
    import torch  # seconds, and most who draw random numbers draw numpy's

    return torch.Generator().manual_seed(derive_seed(seed, *names))
