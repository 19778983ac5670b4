"""One side's activations: every wanted layer of one checkpoint in one pass over the texts.

Layer L is the output of block `layers[L]`, pooled by a masked mean in float32 over the tokens that the token shards
say to keep, so that every side pools the same tokens. One shard goes to one file in each layer's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.progress import Bar
from antar.core.shards import shard_is_whole, shard_name, write_shard
from antar.models.config import ExtractConfig, ModelConfig
from antar.models.forward import Reader
from antar.models.tokens import TokenShard, read_tokens


@dataclass
class SideTask:
    """Shard task: `run(shard)` writes shard `shard` of each layer of one checkpoint; whole ones are kept.

    out: layer → (folder, fingerprint); token_folder: whole token shards, made before any side is read;
    bar: advanced by the number of texts, also for those that a whole shard already holds
    """

    model: ModelConfig
    cfg: ExtractConfig
    token_folder: Path
    out: Mapping[int, tuple[Path, str]]
    bar: Bar | None = None
    _reader: Reader | None = field(default=None, init=False, repr=False)

    def run(self, shard: int) -> None:
        name = shard_name(shard)
        tokens = read_tokens(self.token_folder / name)
        missing = [
            layer
            for layer, (folder, fingerprint) in sorted(self.out.items())
            if not shard_is_whole(folder / name, fingerprint)
        ]
        if not missing:
            self._advance(len(tokens))
            return
        if self._reader is None:
            # Only here: a run that finds every shard whole never reads the weights.
            self._reader = Reader(self.model, self.cfg)
        pooled, budget = self._pooled(self._reader, tokens, missing), self._reader.budget
        forced = {} if budget == self.cfg.token_budget else {"token_budget": budget}  # kept where the bits are
        for layer, acts_nd in pooled.items():
            folder, fingerprint = self.out[layer]
            write_shard(folder / name, {"acts": acts_nd}, fingerprint, forced)

    def facts(self) -> dict[str, int | str]:
        """What the machine made of the settings: the device, and the token budget after any lack of memory."""
        if self._reader is None:
            return {}
        return {"device": str(self._reader.device), "token_budget": self._reader.budget}

    def _advance(self, n: int) -> None:
        if self.bar is not None:
            self.bar.advance(n)

    def _pooled(self, reader: Reader, tokens: TokenShard, layers: list[int]) -> dict[int, np.ndarray]:
        """Layer → float32 `[n_texts, d_model]`."""
        acts = pooled_means(reader, tokens, layers, self._advance)
        for layer, acts_nd in acts.items():
            if not np.isfinite(acts_nd).all():
                raise UserError(
                    f"{self.model.display}, layer {layer}: expected finite activations, found infinities in "
                    f"{self.cfg.dtype}; set extract.dtype to bfloat16 or float32"
                )
        return acts


def pooled_means(
    reader: Reader, tokens: TokenShard, layers: Sequence[int], done: Callable[[int], None] = lambda _: None
) -> dict[int, np.ndarray]:
    """Layer → float32 `[n_texts, d_model]`: each text's mean over the tokens that `tokens` keeps.

    `done(n)` is called after each batch of n texts.
    """

    def mean_bd(hidden_btd: Tensor, rows: np.ndarray, mask_bt: Tensor) -> Tensor:
        keep_bt = torch.zeros_like(mask_bt, dtype=torch.bool, device="cpu")
        for row, text in enumerate(rows):
            keep_bt[row, : len(tokens.keep[text])] = torch.from_numpy(tokens.keep[text])
        return masked_mean(hidden_btd, keep_bt.to(hidden_btd.device))

    pooled = reader.read(tokens.ids, layers, mean_bd, done)
    return {layer: np.stack(vectors).astype(np.float32) for layer, vectors in pooled.items()}


def masked_mean(hidden_btd: Tensor, keep_bt: Tensor) -> Tensor:
    """float32 `[b, d]`: the mean over the tokens where `keep_bt` (bool) is true; each row has at least one."""
    # Filled, not multiplied: an infinity under the mask times zero would be a NaN.
    kept_btd = hidden_btd.masked_fill(~keep_bt.unsqueeze(-1), 0)
    return kept_btd.sum(dim=1, dtype=torch.float32) / keep_bt.sum(dim=1, keepdim=True)
