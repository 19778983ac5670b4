"""A forward pass that reads chosen blocks and stops after the deepest of them.

Texts go through in batches of similar length: packed without padding where the architecture allows it (`packing.py`),
else padded on the right. A hook on each wanted block reduces its output (a pooled vector a text, or a norm a token)
while the batch is on the device, so no hidden states are kept; a hook on the deepest ends the pass, so neither later
blocks nor logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.progress import say
from antar.core.threads import torch_threads
from antar.models.config import ExtractConfig, ModelConfig
from antar.models.limits import Limits
from antar.models.packing import Spans, can_pack, packed
from antar.models.pair import decoder_blocks, load_model, pick_device

Reduce = Callable[[Tensor, np.ndarray], Tensor]
"""(hidden `[tokens, d]`, the texts one after another; the texts' indices `[b]`) → float32 rows of texts or tokens."""
BUDGETS = {"cuda": 32768, "cpu": 2048}
"""Tokens a batch where the study does not say. On a CPU more than this falls out of the caches."""


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


def packed_batches(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """As `batches`, without padding: as many texts as have `budget` tokens between them."""
    made: list[np.ndarray] = []
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    start = 0
    while start < len(order):
        before = ends[start] - lengths[order[start]]
        stop = max(start + 1, int(np.searchsorted(ends, before + budget, side="right")))
        made.append(order[start:stop])
        start = stop
    return made


class Reader:
    """One checkpoint, loaded, with its blocks found. Reads any subset of its layers.

    budget: tokens a batch; it shrinks when memory runs out (then `shrunk`), and stays small.
    unpacked: why texts are padded, or None where they are packed.
    """

    def __init__(self, model: ModelConfig, cfg: ExtractConfig) -> None:
        self._threads = cfg.threads
        self.name = model.display
        self.device = pick_device(cfg.device)
        self.model = load_model(model, getattr(torch, cfg.dtype), self.device)
        self.budget = cfg.token_budget or BUDGETS.get(self.device.type, BUDGETS["cuda"])
        self.shrunk = False
        text_config = self.model.config.get_text_config()
        self.d_model = int(text_config.hidden_size)
        self._limits = Limits.of(self.model)
        self._blocks = decoder_blocks(self.model, int(text_config.num_hidden_layers))
        with torch_threads(cfg.threads):
            self._check_causal(min(max(cfg.layers), len(self._blocks) - 1))
            self.unpacked = self._why_unpacked(max(cfg.layers)) if cfg.packing else "packing is off"

    def facts(self) -> dict[str, int | bool]:
        """What this machine made of the settings, as far as it can change the last bits of a result."""
        return {"packed": self.unpacked is None, **self.forced()}

    def forced(self) -> dict[str, int]:
        """The token budget, where memory ran out under the one that was set."""
        return {"token_budget": self.budget} if self.shrunk else {}

    def _check_causal(self, layer: int) -> None:
        """A token must not see later ones: else this is no decoder, and packing or padding would not be the same."""
        ids = [np.arange(1, 1 + n, dtype=np.int32) for n in (4, 8)]
        try:
            acts_td = self._padded(ids, np.arange(2), [layer], lambda hidden_td, _: hidden_td.float())[layer]
        except torch.OutOfMemoryError:
            return  # the first batch says so
        alone, before = acts_td[:4], acts_td[4:8]
        if bool(((alone - before).norm(dim=-1) > 0.1 * alone.norm(dim=-1)).any()):
            raise UserError(
                f"{self.name}: expected a decoder, whose tokens see earlier ones only, found that they see later "
                "ones; antar compares decoder-only language models"
            )

    def _why_unpacked(self, deepest: int) -> str | None:
        deepest = min(deepest, len(self._blocks) - 1)

        def whole(hidden_td: Tensor, _rows: np.ndarray) -> Tensor:
            return hidden_td

        def padded(ids: Sequence[np.ndarray]) -> Tensor:
            return self._padded(ids, np.arange(len(ids)), [deepest], whole)[deepest]

        def packed_pass(ids: Sequence[np.ndarray]) -> tuple[Tensor, Spans]:
            found, spans = self._packed(ids, np.arange(len(ids)), [deepest], whole)
            return found[deepest], spans

        return can_pack(self.model, deepest, padded, packed_pass)

    def read(
        self, ids: Sequence[np.ndarray], layers: Sequence[int], reduce: Reduce
    ) -> Iterator[tuple[np.ndarray, dict[int, np.ndarray]]]:
        """Batch by batch: (indices of its texts `[b]`, layer → what `reduce` gave for them).

        Every text comes once. Running out of memory halves the batch size and goes on; a single text that does not
        fit is a UserError.
        """
        lengths = np.array([len(one) for one in ids])
        self._limits.check(self.name, ids)
        pending = self._batches(lengths, np.arange(len(ids)))
        while pending:
            batch = pending.pop()
            with torch_threads(self._threads):  # not around the yield: whoever takes the batch has threads of its own
                reduced = self._try_batch([ids[i] for i in batch], batch, layers, reduce)
            if reduced is None:
                left = np.sort(np.concatenate([batch, *pending]))
                self._shrink(len(batch), int(lengths[batch].max()), int(lengths[batch].sum()))
                pending = self._batches(lengths, left)
                continue
            yield batch, reduced

    def _batches(self, lengths: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """Of the texts `rows`, to be taken from the end."""
        cut = batches if self.unpacked else packed_batches
        return [rows[part] for part in cut(lengths[rows], self.budget)][::-1]

    def _try_batch(
        self, ids: Sequence[np.ndarray], rows: np.ndarray, layers: Sequence[int], reduce: Reduce
    ) -> dict[int, np.ndarray] | None:
        """One forward pass; None when the memory did not suffice."""
        try:
            if self.unpacked:
                kept = self._padded(ids, rows, layers, reduce)
            else:
                kept, _ = self._packed(ids, rows, layers, reduce)
            # One copy for all layers: each would wait for the device again.
            stacked = torch.stack([kept[layer] for layer in layers]).cpu().numpy()
            return dict(zip(layers, stacked, strict=True))
        except torch.OutOfMemoryError:
            return None  # handled by the caller, when this frame and its tensors are gone
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):  # what torch says on a CPU
                raise
            return None

    def _padded(
        self, ids: Sequence[np.ndarray], rows: np.ndarray, layers: Sequence[int], reduce: Reduce
    ) -> dict[int, Tensor]:
        ids_bt, mask_bt = (tensor.to(self.device) for tensor in pad_right(ids))
        real_bt = mask_bt.bool()

        def reduced(hidden_btd: Tensor) -> Tensor:
            return reduce(hidden_btd[real_bt], rows)

        with self._hooked(layers, reduced) as kept:
            self.model(input_ids=ids_bt, attention_mask=mask_bt, use_cache=False)
        return kept

    def _packed(
        self, ids: Sequence[np.ndarray], rows: np.ndarray, layers: Sequence[int], reduce: Reduce
    ) -> tuple[dict[int, Tensor], Spans]:
        """Also: what the blocks asked of attention."""
        ids_1t = torch.from_numpy(np.concatenate(ids).astype(np.int64))[None].to(self.device)

        def reduced(hidden_1td: Tensor) -> Tensor:
            return reduce(hidden_1td[0], rows)

        lengths = np.array([len(one) for one in ids])
        with packed(self.model, lengths, self.device) as spans, self._hooked(layers, reduced) as kept:
            self.model(input_ids=ids_1t, position_ids=spans.positions(), use_cache=False)
        return kept, spans

    @contextmanager
    def _hooked(self, layers: Sequence[int], reduce: Callable[[Tensor], Tensor]) -> Generator[dict[int, Tensor]]:
        """What `reduce` gives for each layer's output is in the dict when the block has run the model."""
        kept: dict[int, Tensor] = {}
        deepest = max(layers)

        def hook_of(layer: int) -> Callable[..., None]:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                # Some architectures return (hidden states, attentions, ...).
                kept[layer] = reduce(output[0] if isinstance(output, tuple) else output)
                if layer == deepest:
                    raise _DeepEnough

            return hook

        handles = [self._blocks[layer].register_forward_hook(hook_of(layer)) for layer in layers]
        try:
            with torch.inference_mode(), suppress(_DeepEnough):
                yield kept
        finally:
            for handle in handles:
                handle.remove()

    def _shrink(self, n_texts: int, longest: int, tokens: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if n_texts == 1:
            raise UserError(
                f"{self.name}: one text of {longest} tokens does not fit into the memory of {self.device}; lower "
                "extract.max_tokens, or set extract.device to cpu"
            )
        tried = n_texts * longest if self.unpacked else tokens
        self.budget, self.shrunk = max(longest, min(self.budget, tried) // 2), True
        say(f"  {self.name}: out of memory on {self.device}; going on with {self.budget:,} tokens a batch")


def not_finite_in(model: ModelConfig, layer: int, cfg: ExtractConfig) -> UserError:
    """The error for a pass whose arithmetic overflowed, or whose weights are no numbers."""
    remedy = "its weights are damaged" if cfg.dtype == "float32" else "set extract.dtype to bfloat16 or float32"
    found = f"expected finite activations, found infinities or NaN in {cfg.dtype}"
    return UserError(f"{model.display}, layer {layer}: {found}; {remedy}")


def pad_right(ids: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """(ids, attention mask), int64 `[b, t]`. Padding is id 0: causal attention never looks at what comes later."""
    longest = max(len(one) for one in ids)
    ids_bt = np.zeros((len(ids), longest), np.int64)
    mask_bt = np.zeros((len(ids), longest), np.int64)
    for row, one in enumerate(ids):
        ids_bt[row, : len(one)] = one
        mask_bt[row, : len(one)] = 1
    return torch.from_numpy(ids_bt), torch.from_numpy(mask_bt)
