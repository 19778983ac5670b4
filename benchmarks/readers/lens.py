"""TransformerLens: `run_with_cache` of the three blocks' outputs on each batch, stopped after the deepest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.readers import LAYERS
from benchmarks.readers.batching import mean_bd, padded_batches


class TransformerLens:
    packages = ("transformer-lens", "transformers", "torch")

    def __init__(self, model: Path, dtype: str) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        inner = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        tokenizer = AutoTokenizer.from_pretrained(model)
        self._model = TransformerBridge.boot_transformers(
            str(model), hf_model=inner, tokenizer=tokenizer, dtype=getattr(torch, dtype), device="cpu"
        )
        self._width = inner.config.hidden_size

    @torch.no_grad()
    def read(self, ids: list[np.ndarray]) -> np.ndarray:
        names = [f"blocks.{layer}.hook_out" for layer in LAYERS]
        found = np.empty((len(LAYERS), len(ids), self._width), np.float32)
        for rows, ids_bt, mask_bt in padded_batches(ids):
            _, cache = self._model.run_with_cache(
                ids_bt, attention_mask=mask_bt, names_filter=names, stop_at_layer=max(LAYERS) + 1
            )
            for at, name in enumerate(names):
                found[at, rows] = mean_bd(cache[name], mask_bt)
        return found
