"""Ways to read pooled activations out of one checkpoint, each a `Reader` in a process of its own.

A reader is given token ids and gives the mean over each text's tokens after blocks 6, 12 and 18, in float32. Peers
are used as their documentation shows, with what they have for stopping early, on batches of 16 texts in the given
order: none of them sorts or packs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

LAYERS = (6, 12, 18)
BATCH = 16


class ReadsActivations(Protocol):
    packages: tuple[str, ...]

    def __init__(self, model: Path, dtype: str) -> None: ...

    def read(self, ids: list[np.ndarray]) -> np.ndarray:
        """float32 `[layers, texts, d_model]`, texts in their own order."""
        ...


READERS = ("naive", "transformer_lens", "nnsight", "antar_padded", "antar_packed")
OURS = ("naive", "antar_padded", "antar_packed")
"""Those that run in antar's own environment: naive is plain transformers."""


def reader_class(name: str) -> type[ReadsActivations]:
    # Imported here: each process has only its own package.
    if name == "naive":
        from benchmarks.readers.naive import Naive as found
    elif name == "transformer_lens":
        from benchmarks.readers.lens import TransformerLens as found
    elif name == "nnsight":
        from benchmarks.readers.nnsight import NNsight as found
    elif name == "antar_padded":
        from benchmarks.readers.antar import Padded as found
    else:
        from benchmarks.readers.antar import Packed as found
    return found
