"""What people write: the whole causal model with `output_hidden_states`, on batches in the order of the texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.readers import LAYERS
from benchmarks.readers.batching import mean_bd, padded_batches


class Naive:
    packages = ("transformers", "torch")

    def __init__(self, model: Path, dtype: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()

    @torch.no_grad()
    def read(self, ids: list[np.ndarray]) -> np.ndarray:
        width = self._model.config.hidden_size
        found = np.empty((len(LAYERS), len(ids), width), np.float32)
        for rows, ids_bt, mask_bt in padded_batches(ids):
            out = self._model(input_ids=ids_bt, attention_mask=mask_bt, output_hidden_states=True, use_cache=False)
            for at, layer in enumerate(LAYERS):
                found[at, rows] = mean_bd(out.hidden_states[layer + 1], mask_bt)
        return found
