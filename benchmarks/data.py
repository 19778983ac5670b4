"""Synthetic rows with a known truth: sparse sums of hidden directions, plus noise with a power-law spectrum.

A direction fires with a probability that falls as a power of its rank, and with a log-normal strength; the directions
themselves lean towards the leading axes of a power-law spectrum, as those of language models do. Rows come centred
and with unit mean square, as antar makes them before it trains. Used by processes that have no antar.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2048


@dataclass(frozen=True)
class Truth:
    """How rows are made. `active` directions fire on a row in the mean; `decay` is the power by which firing
    probabilities fall with rank (0: all alike), `spectrum` the one by which the axes' variances do (0: none leads);
    `noise` is the share of the variance that is noise."""

    d_model: int = 2048
    directions: int = 12288
    active: float = 192.0
    decay: float = 0.7
    spectrum: float = 0.7
    noise: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Rows:
    """float32 `[n, d_model]`, centred and scaled on the training rows, and the unit directions `[m, d_model]`."""

    train_nd: np.ndarray
    held_out_nd: np.ndarray
    directions_md: np.ndarray


def make_rows(truth: Truth, train: int, held_out: int) -> Rows:
    generator = torch.Generator().manual_seed(truth.seed)
    axes_d = (1.0 + torch.arange(truth.d_model)) ** (-truth.spectrum / 2)
    directions_md = torch.randn(truth.directions, truth.d_model, generator=generator) * axes_d
    directions_md /= directions_md.norm(dim=1, keepdim=True)
    probability_m = firing_probabilities(truth)
    rows_nd = torch.empty(train + held_out, truth.d_model)
    for chunk_bd in rows_nd.split(CHUNK):
        _fill(chunk_bd, directions_md, probability_m, axes_d, truth.noise, generator)
    centre_d = rows_nd[:train].mean(0)
    rows_nd -= centre_d
    rows_nd /= rows_nd[:train].square().mean().sqrt()
    return Rows(rows_nd[:train].numpy(), rows_nd[train:].numpy(), directions_md.numpy())


def firing_probabilities(truth: Truth) -> Tensor:
    """`[m]`, summing to `active`, falling with rank, at most 1/2 (the excess of the first ones goes to the rest)."""
    weight_m = (1.0 + torch.arange(truth.directions, dtype=torch.float64)) ** -truth.decay
    probability_m = weight_m * (truth.active / weight_m.sum())
    for _ in range(20):
        probability_m.clamp_(max=0.5)
        free_m = probability_m < 0.5
        missing = truth.active - probability_m.sum()
        probability_m[free_m] *= 1 + missing / probability_m[free_m].sum()
    return probability_m.float()


def _fill(
    rows_bd: Tensor,
    directions_md: Tensor,
    probability_m: Tensor,
    axes_d: Tensor,
    noise: float,
    generator: torch.Generator,
) -> None:
    fires_bm = torch.rand(len(rows_bd), len(probability_m), generator=generator) < probability_m
    offsets_b = F.pad(fires_bm.sum(1).cumsum(0), (1, 0))
    who_e = fires_bm.nonzero()[:, 1]
    strength_e = torch.exp(0.5 * torch.randn(len(who_e), generator=generator))
    rows_bd.copy_(
        F.embedding_bag(
            who_e, directions_md, offsets_b, per_sample_weights=strength_e, mode="sum", include_last_offset=True
        )
    )
    # E[strength²] = exp(2·0.5²); a row's expected squared length is that times the mean number of firings.
    signal = float(probability_m.sum()) * float(np.exp(0.5))
    scale_d = axes_d * np.sqrt(signal * noise / (1 - noise) / float(axes_d.square().sum()))
    rows_bd += torch.randn(rows_bd.shape, generator=generator) * scale_d
