"""BatchTopK (Bussmann, Leask and Nanda 2024, arXiv 2412.06410): texts share a budget of latents.

In training the B·k largest pre-activations of a batch of B texts fire, so a rich text may use more than k latents and
a plain one fewer. A text on its own has no batch, so afterwards a latent fires where its pre-activation is above a
threshold θ: the mean, over batches, of the smallest positive value that was selected. θ belongs to weights: it is
measured for the very weights that are kept, on the same training batches at every check, and validation uses it.

Folding (topk.py) multiplies pre-activations by the scale, so θ is multiplied by it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.dictionaries.data import Scaling
from antar.dictionaries.files import WEIGHTS_FILE, read_sizes, read_tensors
from antar.dictionaries.loss import Entries, decode_sparse, pre_activations
from antar.dictionaries.topk import TopK, TopKLearner, fold, weight_shapes
from antar.dictionaries.weights import NAMES, Weights

THRESHOLD_BATCHES = 16
"""Training batches that θ is measured on, at most."""


@dataclass(frozen=True)
class BatchTopK(TopK):
    """A dictionary with k latents a text on average. A latent fires above its threshold.

    threshold_n: float32 `[n_latents]` ≥ 0, on the raw scale. One number for all latents here; a crosscoder's differ
    """

    kind: str = "batchtopk"
    threshold_n: Tensor = field(kw_only=True)

    def _firing(self, x_bd: Tensor) -> tuple[Tensor, Tensor]:
        return keep_above(pre_activations(self.weights, x_bd)[1], self.threshold_n)

    def tensors(self) -> dict[str, Tensor]:
        return {**super().tensors(), "threshold": self.threshold_n}

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        d_model, n_latents, k = read_sizes(folder, config)
        tensors = read_tensors(folder, {**weight_shapes(d_model, n_latents), "threshold": (n_latents,)})
        if (lowest := float(tensors["threshold"].min())) < 0:
            raise UserError(
                f"{folder / WEIGHTS_FILE}: expected thresholds of at least 0, found {lowest:.4g}; train it again"
            )
        threshold_n = torch.from_numpy(tensors["threshold"])
        weights = Weights(*(torch.from_numpy(tensors[name]) for name in NAMES))
        return cls(weights, k, str(config["architecture"]), threshold_n=threshold_n)


def select_by_batch(pre_bn: Tensor, k: int) -> Entries:
    """The batch · k largest pre-activations of the batch, ReLU'd; entries in the order of texts, then latents."""
    batch, n_latents = pre_bn.shape
    flat_e = pre_bn.reshape(-1).topk(batch * k, sorted=False).indices.sort().values
    texts_e = torch.div(flat_e, n_latents, rounding_mode="floor")
    starts_b = torch.searchsorted(texts_e, torch.arange(batch, device=pre_bn.device))
    values_bk = pre_bn.reshape(-1)[flat_e].relu_().view(batch, k)
    return Entries((flat_e - texts_e * n_latents).view(batch, k), values_bk, texts_e, starts_b)


def keep_above(pre_bn: Tensor, threshold: Tensor | float) -> tuple[Tensor, Tensor]:
    """Indices and values of the pre-activations above `threshold` (≥ 0), largest first; rows end in zeros."""
    kept_bn = torch.where(pre_bn > threshold, pre_bn, 0.0)
    fullest = int((kept_bn > 0).sum(1).max()) if len(pre_bn) else 0
    values_bm, indices_bm = kept_bn.topk(max(1, fullest), dim=1)
    return indices_bm, values_bm


def smallest_selected(weights: Weights, batches: Iterable[Tensor], k: int) -> float:
    """θ: the mean over `batches` of the smallest positive value that training would select; 0 where nothing fires."""
    smallest: list[float] = []
    for x_bd in batches:
        values_bk = select_by_batch(pre_activations(weights, x_bd)[1], k).values_bk
        positive_e = values_bk[values_bk > 0]
        if len(positive_e):
            smallest.append(float(positive_e.min()))
    return float(np.mean(smallest)) if smallest else 0.0


@dataclass(frozen=True)
class BatchTopKLearner(TopKLearner):
    """How BatchTopK learns (`kinds.Learner` says what each part is for)."""

    kind: str = "batchtopk"

    def select(self, pre_bn: Tensor, k: int) -> Entries:
        return select_by_batch(pre_bn, k)

    def threshold(self, weights: Weights, batches: Iterable[Tensor], k: int) -> float:
        return smallest_selected(weights, batches, k)

    def reconstruct(self, weights: Weights, x_bd: Tensor, k: int, threshold: float) -> Tensor:
        """What a user of the dictionary will get: with the threshold, not with the batch."""
        indices_bm, values_bm = keep_above(pre_activations(weights, x_bd)[1], threshold)
        return decode_sparse(indices_bm, values_bm, weights.decoder_nd) + weights.decoder_bias_d

    def fold(self, weights: Weights, scaling: Scaling, k: int, threshold: float) -> BatchTopK:
        folded = fold(weights, scaling)
        threshold_n = torch.full_like(folded.encoder_bias_n, threshold * scaling.scale)
        return BatchTopK(folded, k, threshold_n=threshold_n)
