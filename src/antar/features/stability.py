"""Criterion 7: would another seed or fold find the same features, and another half of the documents the same effects?

Directions are compared by the mean cosine of matched decoder rows (beside the same matching with random directions,
which is above 0: the best of many random cosines is large in few dimensions). Effects are compared by the
correlation of the two halves' d_av over features, stepped up to the reliability of the whole by Spearman and Brown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import ndtri

from antar.core.seeds import derive_seed
from antar.features.matching import match, match_random


@dataclass(frozen=True)
class Stability:
    """cosines, null: float64, the matched cosines of all replicas, and of the random directions in their place;
    by_latent: float64 `[n_latents]`, mean over the replicas in which a latent found a match, NaN where in none."""

    cosines: np.ndarray
    null: np.ndarray
    by_latent: np.ndarray

    @property
    def mean(self) -> float:
        """NaN without replicas."""
        return float(self.cosines.mean()) if len(self.cosines) else float("nan")

    @property
    def null_mean(self) -> float:
        return float(self.null.mean()) if len(self.null) else float("nan")


def measure_stability(
    decoder: np.ndarray, replicas: Sequence[np.ndarray], live: np.ndarray | None = None,
    replicas_live: Sequence[np.ndarray] | None = None, seed: int = 0,
) -> Stability:  # fmt: skip
    """Match `decoder` `[n_latents, d_model]` with each of `replicas` (the same layer; other seeds or folds).

    live, replicas_live: bool `[n_latents]` for each; dead rows are whatever they were initialised to and stay out.
    """
    alive = np.arange(len(decoder)) if live is None else np.flatnonzero(live)
    total, found = np.zeros(len(decoder)), np.zeros(len(decoder))
    cosines: list[np.ndarray] = []
    null: list[np.ndarray] = []
    for number, replica in enumerate(replicas):
        rows = replica if replicas_live is None else replica[replicas_live[number]]
        matching = match(decoder[alive], rows)
        cosines.append(matching.cosine)
        null.append(match_random(decoder[alive], len(rows), derive_seed(seed, "stability", number)).cosine)
        total[alive[matching.a]] += matching.cosine
        found[alive[matching.a]] += 1
    with np.errstate(invalid="ignore"):
        by_latent = total / found
    return Stability(np.concatenate([*cosines, np.empty(0)]), np.concatenate([*null, np.empty(0)]), by_latent)


@dataclass(frozen=True)
class Reliability:
    """Agreement of two halves over `n` features: Pearson `r`, its step-up `value`, and the value's 95% interval."""

    n: int
    r: float
    value: float
    lo: float
    hi: float


def split_half_reliability(select: np.ndarray, estimate: np.ndarray) -> Reliability:
    """Spearman–Brown reliability 2r/(1 + |r|) of effects that were measured on two halves.

    Spearman 1910, Brown 1910; |r| keeps a negative correlation above −1. The interval is Fisher's z for r, carried
    through the step-up; it takes features as independent, so with correlated features it is too narrow. Pairs with a
    NaN are left out; NaN below 4 pairs or where a half does not vary.
    """
    both = ~(np.isnan(select) | np.isnan(estimate))
    x, y = select[both].astype(np.float64), estimate[both].astype(np.float64)
    nothing = float("nan")
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Reliability(len(x), nothing, nothing, nothing, nothing)
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    half_width = float(ndtri(0.975)) / np.sqrt(len(x) - 3)
    centre = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    lo, hi = (spearman_brown(float(np.tanh(centre + sign * half_width))) for sign in (-1, 1))
    return Reliability(len(x), r, spearman_brown(r), lo, hi)


def spearman_brown(r: float) -> float:
    return 2 * r / (1 + abs(r))


def effect_reliability(contrasts: pl.DataFrame) -> pl.DataFrame:
    """Reliability of `d_av` against `d_av_select` in a table of contrasts.

    One row for each contrast, null, dictionary, sides, facet, value and language: n, r, reliability, lo, hi.
    """
    keys = ["contrast", "null", "dictionary", "side_a", "side_b", "facet", "value", "language"]
    rows: list[dict[str, Any]] = []
    for key, part in contrasts.group_by(keys, maintain_order=True):
        halves = [part[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in ("d_av_select", "d_av")]
        found = split_half_reliability(*halves)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {"n": found.n, "r": found.r, "reliability": found.value, "lo": found.lo, "hi": found.hi}
        )
    numbers = {"n": pl.Int64, "r": pl.Float64, "reliability": pl.Float64, "lo": pl.Float64, "hi": pl.Float64}
    schema = {**dict.fromkeys(keys, pl.String), **numbers}
    return pl.DataFrame(rows, schema=schema).with_columns(pl.selectors.float().fill_nan(None))
