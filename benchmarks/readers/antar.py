"""antar: texts sorted by length, the pass ends at the deepest block, padded or packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antar.models import ExtractConfig, ModelConfig
from antar.models.extract import read_pooled
from antar.models.forward import Reader
from antar.models.tokens import TokenShard
from benchmarks.readers import LAYERS


class Packed:
    packages = ("antar", "transformers", "torch")
    packing = True

    def __init__(self, model: Path, dtype: str) -> None:
        settings = {"layers": LAYERS, "dtype": dtype, "device": "cpu", "packing": self.packing}
        self._reader = Reader(ModelConfig(path=str(model)), ExtractConfig.model_validate(settings))
        assert (self._reader.unpacked is None) == self.packing

    def read(self, ids: list[np.ndarray]) -> np.ndarray:
        tokens = TokenShard(ids, [np.ones(len(one), bool) for one in ids])
        found = read_pooled(self._reader, tokens, LAYERS)
        return np.stack([found[layer] for layer in LAYERS])


class Padded(Packed):
    packing = False
