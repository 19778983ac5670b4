"""A forward pass that reads chosen blocks and stops after the deepest of them.

Texts go through in batches of similar length, padded on the right, and come back in their own order. A hook on
each wanted block reduces its output (a pooled vector a text, or a norm a token) while the batch is on the device, so
no hidden states are kept; a hook on the deepest ends the pass, so neither later blocks nor logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.progress import say
from antar.models.config import ExtractConfig, ModelConfig
from antar.models.pair import decoder_blocks, load_model, pick_device

Reduce = Callable[[Tensor, np.ndarray, Tensor], Tensor]
"""(hidden `[b, t, d]`, the texts' indices `[b]`, attention mask `[b, t]`) → `[b, ...]`."""


class _DeepEnough(Exception):
    """Raised by the hook on the deepest wanted block."""


def batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Indices of texts in batches of similar length, longest first, each at most `budget` tokens with padding.

    A text longer than the budget is a batch of its own. Equal lengths keep their order, so the batches depend on
    the lengths alone.
    """
    made: list[np.ndarray] = []
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        # The first text of a batch is its longest, so it sets how many fit.
        count = max(1, budget // max(1, int(lengths[order[start]])))
        made.append(order[start : start + count])
        start += count
    return made


class Reader:
    """One checkpoint, loaded, with its blocks found. Reads any subset of its layers.

    budget: tokens a batch; it shrinks when the GPU runs out of memory, and stays small
    """

    def __init__(self, model: ModelConfig, cfg: ExtractConfig) -> None:
        if cfg.threads is not None:
            torch.set_num_threads(cfg.threads)
        self.name = model.display
        self.device = pick_device(cfg.device)
        self.model = load_model(model, getattr(torch, cfg.dtype), self.device)
        self.budget = cfg.token_budget
        text_config = self.model.config.get_text_config()
        self.d_model = int(text_config.hidden_size)
        self._blocks = decoder_blocks(self.model, int(text_config.num_hidden_layers))

    def read(
        self,
        ids: Sequence[np.ndarray],
        layers: Sequence[int],
        reduce: Reduce,
        done: Callable[[int], None] = lambda _: None,
    ) -> dict[int, list[np.ndarray]]:
        """Layer → what `reduce` gave for each text (without its batch axis), texts in the order of `ids`.

        `done(n)` is called after each batch of n texts. Running out of GPU memory halves the batch size and goes
        on; a single text that does not fit is a UserError.
        """
        lengths = np.array([len(one) for one in ids])
        results: dict[int, list[np.ndarray]] = {layer: [np.empty(0)] * len(ids) for layer in layers}
        pending = batches(lengths, self.budget)[::-1]
        while pending:
            batch = pending.pop()
            reduced = self._try_batch([ids[i] for i in batch], batch, layers, reduce)
            if reduced is None:
                left = np.sort(np.concatenate([batch, *pending]))
                self._shrink(len(batch), int(lengths[batch].max()))
                pending = [left[part] for part in batches(lengths[left], self.budget)][::-1]
                continue
            for layer, values in reduced.items():
                for i, value in zip(batch, values, strict=True):
                    results[layer][i] = value
            done(len(batch))
        return results

    def _try_batch(
        self, ids: Sequence[np.ndarray], rows: np.ndarray, layers: Sequence[int], reduce: Reduce
    ) -> dict[int, np.ndarray] | None:
        """One forward pass; None when the GPU's memory did not suffice."""
        try:
            ids_bt, mask_bt = (tensor.to(self.device) for tensor in pad_right(ids))
            kept: dict[int, Tensor] = {}

            def keep(layer: int, hidden_btd: Tensor) -> None:
                kept[layer] = reduce(hidden_btd, rows, mask_bt)

            with torch.inference_mode(), self._hooked(layers, keep), suppress(_DeepEnough):
                self.model(input_ids=ids_bt, attention_mask=mask_bt, use_cache=False)
            return {layer: kept[layer].cpu().numpy() for layer in layers}
        except torch.OutOfMemoryError:
            return None  # handled by the caller, when this frame and its tensors are gone

    @contextmanager
    def _hooked(self, layers: Sequence[int], keep: Callable[[int, Tensor], None]) -> Generator[None]:
        deepest = max(layers)

        def hook_of(layer: int) -> Callable[..., None]:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                # Some architectures return (hidden states, attentions, ...).
                keep(layer, output[0] if isinstance(output, tuple) else output)
                if layer == deepest:
                    raise _DeepEnough

            return hook

        handles = [self._blocks[layer].register_forward_hook(hook_of(layer)) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _shrink(self, n_texts: int, longest: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if n_texts == 1:
            raise UserError(
                f"{self.name}: one text of {longest} tokens does not fit into the memory of {self.device}; lower "
                "extract.max_tokens, or set extract.device to cpu"
            )
        self.budget = max(longest, min(self.budget, n_texts * longest) // 2)
        say(f"  {self.name}: out of memory on {self.device}; going on with {self.budget:,} tokens a batch")


def pad_right(ids: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """(ids, attention mask), int64 `[b, t]`. Padding is id 0: causal attention never looks at what comes later."""
    longest = max(len(one) for one in ids)
    ids_bt = np.zeros((len(ids), longest), np.int64)
    mask_bt = np.zeros((len(ids), longest), np.int64)
    for row, one in enumerate(ids):
        ids_bt[row, : len(one)] = one
        mask_bt[row, : len(one)] = 1
    return torch.from_numpy(ids_bt), torch.from_numpy(mask_bt)
