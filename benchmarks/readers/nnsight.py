"""nnsight: a trace over each batch that saves the blocks' outputs and stops after the deepest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.readers import LAYERS
from benchmarks.readers.batching import mean_bd, padded_batches


class NNsight:
    packages = ("nnsight", "transformers", "torch")

    def __init__(self, model: Path, dtype: str) -> None:
        from nnsight import LanguageModel

        inner = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self._model = LanguageModel(inner, tokenizer=AutoTokenizer.from_pretrained(model))

    @torch.no_grad()
    def read(self, ids: list[np.ndarray]) -> np.ndarray:
        width = self._model.config.hidden_size
        found = np.empty((len(LAYERS), len(ids), width), np.float32)
        for rows, ids_bt, mask_bt in padded_batches(ids):
            kept = self._trace(ids_bt, mask_bt)
            for at, hidden_btd in enumerate(kept):
                found[at, rows] = mean_bd(hidden_btd, mask_bt)
        return found

    def _trace(self, ids_bt: torch.Tensor, mask_bt: torch.Tensor) -> list[torch.Tensor]:
        # Its block is not run as it stands: the source is read and run inside the model, so it is kept plain.
        model, first, second, third = self._model, *LAYERS
        with model.trace({"input_ids": ids_bt, "attention_mask": mask_bt}) as tracer:
            low = model.model.layers[first].output.save()
            middle = model.model.layers[second].output.save()
            high = model.model.layers[third].output.save()
            tracer.stop()
        return [one[0] if isinstance(one, tuple) else one for one in (low, middle, high)]
