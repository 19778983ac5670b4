"""One side's activations: every wanted layer of one checkpoint in one pass over the texts.

Layer L is the output of block `layers[L]`, pooled over the tokens that the token shards say to keep, so that every
side pools the same tokens. One shard goes to one file in each layer's folder: `acts` float32 `[n_texts, d_model]`, or
with `pooling: none` `[kept tokens, d_model]` and `offsets` int64 `[n_texts + 1]`, where each text's tokens start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from antar.core.progress import Bar
from antar.core.shards import shard_is_whole, shard_name, write_shard
from antar.models.config import ExtractConfig, ModelConfig, Pooling
from antar.models.forward import Reader, not_finite_in
from antar.models.pooling import pool
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
        for layer, acts_nd in self._pooled(self._reader, tokens, missing).items():
            folder, fingerprint = self.out[layer]
            offsets = {"offsets": row_offsets(tokens, "none")} if self.cfg.pooling == "none" else {}
            write_shard(folder / name, {"acts": acts_nd, **offsets}, fingerprint, self._reader.facts())

    def _advance(self, n: int) -> None:
        if self.bar is not None:
            self.bar.advance(n)

    def _pooled(self, reader: Reader, tokens: TokenShard, layers: list[int]) -> dict[int, np.ndarray]:
        """Layer → float32 `[n_texts, d_model]`, or one row a kept token where pooling is `none`."""
        acts = read_pooled(reader, tokens, layers, self.cfg.pooling, self._advance)
        for layer, rows_nd in acts.items():
            if not np.isfinite(rows_nd).all():
                raise not_finite_in(self.model, layer, self.cfg)
        return acts


def read_pooled(
    reader: Reader,
    tokens: TokenShard,
    layers: Sequence[int],
    pooling: Pooling = "mean",
    done: Callable[[int], None] = lambda _: None,
) -> dict[int, np.ndarray]:
    """Layer → float32 `[n_texts, d_model]` pooled over the tokens that `tokens` keeps, texts in their own order; with
    `none` `[kept tokens, d_model]`, the texts' tokens one after another.

    `done(n)` is called after each batch of n texts.
    """

    def pooled(hidden_td: Tensor, rows: np.ndarray) -> Tensor:
        return pool(hidden_td, [tokens.keep[row] for row in rows], pooling)

    starts: list[int] = row_offsets(tokens, pooling).tolist()
    acts = {layer: np.empty((starts[-1], reader.d_model), np.float32) for layer in layers}
    for rows, found in reader.read(tokens.ids, layers, pooled):
        places = np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows.tolist()])
        for layer, rows_nd in found.items():
            acts[layer][places] = rows_nd
        done(len(rows))
    return acts


def row_offsets(tokens: TokenShard, pooling: Pooling) -> np.ndarray:
    """int64 `[n_texts + 1]`: the stored rows of text i are those from offsets[i] to offsets[i + 1]."""
    per_text = [int(one.sum()) if pooling == "none" else 1 for one in tokens.keep]
    return np.concatenate([[0], np.cumsum(per_text)]).astype(np.int64)
