"""Effect sizes of a paired contrast: the same texts on two sides, documents as clusters.

The measures and their sources are those of `statistics`; what differs is the standard error, which uses that a
text's two values are correlated, and d_z = mean change / SD of the change (Lakens 2013, eq. 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from antar.features.cells import Cells
from antar.features.intervals import Part, freedom_of, half_width
from antar.features.statistics import MEASURES, hedges_factor, log_odds, odds_interval, paired_odds_variance, weighted


@dataclass(frozen=True)
class Pairs:
    """One language of a paired contrast.

    cells: with sums `a`, `b` (values), `aa`, `bb` (squares), `cc` (squared change), `fired_a`, `fired_b`, and `rank`
           (of the b values, rank − rank of a zero, among the 2n values of both sides)
    unit_sizes: float64 `[n_units]`, texts
    zero_rank:  `[n_latents]`
    """

    cells: Cells
    unit_sizes: np.ndarray
    zero_rank: np.ndarray

    @property
    def n(self) -> float:
        return float(self.unit_sizes.sum())

    @property
    def units(self) -> int:
        return len(self.unit_sizes)

    @cached_property
    def totals(self) -> dict[str, np.ndarray]:
        return {name: self.cells.by_latent(values) for name, values in self.cells.sums.items()}

    def mean(self, side: str) -> np.ndarray:
        return self.totals[side] / self.n

    def variance(self, side: str) -> np.ndarray:
        """Of the texts' values on a side (`a`, `b`) or of their change (`c`), n − 1 in the denominator."""
        mean = self.mean("b") - self.mean("a") if side == "c" else self.mean(side)
        return np.maximum(self.totals[side * 2] - self.n * mean**2, 0) / (self.n - 1)

    def mean_of_squares(self, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Cluster-robust variance of the mean of alpha·change + beta·(both sides' squared deviations), centred."""
        cells, mean_a, mean_b = self.cells, self.mean("a"), self.mean("b")
        on_b, on_a = alpha - 2 * beta * mean_b, -alpha - 2 * beta * mean_a
        squares = self.totals["aa"] / self.n + self.totals["bb"] / self.n
        # The centred term has mean zero over texts: this constant takes the mean of the rest away.
        constant = -(on_b * mean_b + on_a * mean_a + beta * squares)
        at = cells.latent
        linear = (
            on_b[at] * cells.sums["b"] + on_a[at] * cells.sums["a"] + beta[at] * (cells.sums["aa"] + cells.sums["bb"])
        )
        total = (
            cells.by_latent(linear**2)
            + 2 * constant * cells.by_latent(linear * self.unit_sizes[cells.unit])
            + constant**2 * np.sum(self.unit_sizes**2)
        )
        return np.maximum(total, 0) / self.n**2 * self.units / (self.units - 1)

    def part(self, weight: np.ndarray, d: np.ndarray, sd: np.ndarray) -> Part:
        """The variance of d that this language brings, by the delta method, and its degrees of freedom."""
        change = self.cells.sums["b"] - self.cells.sums["a"]
        squares, some = self.cells.by_latent(change**2), (change != 0).astype(np.float64)
        mean = (self.mean("b") - self.mean("a"))[self.cells.latent]
        centred = some * (change - mean * self.unit_sizes[self.cells.unit]) ** 2
        typical = self.cells.by_latent(centred) / np.maximum(self.cells.by_latent(some), 1)
        variance = self.mean_of_squares(1 / sd, -d / (4 * sd**2)) + typical / (sd * self.n) ** 2
        fourths = self.cells.by_latent(change**4) + typical**2
        return weight**2 * variance, freedom_of(squares + typical, fourths, np.array(float(self.units)))

    def odds_variance(self) -> np.ndarray:
        """Cluster-robust variance `[n_latents]` of the change of the log odds of firing."""
        fired = self.cells.sums["fired_a"], self.cells.sums["fired_b"]
        size = self.unit_sizes[self.cells.unit]
        p = [self.cells.by_latent(one) / self.n for one in fired]
        with_size = [self.cells.by_latent(one * size) for one in fired]
        squares = np.sum(self.unit_sizes**2)

        def covariance(i: int, j: int) -> np.ndarray:
            total = (
                self.cells.by_latent(fired[i] * fired[j]) - p[j] * with_size[i] - p[i] * with_size[j]
                + p[i] * p[j] * squares
            )  # fmt: skip
            return total / self.n**2 * self.units / (self.units - 1)

        counts = p[0] * self.n, p[1] * self.n
        covariances = covariance(0, 0), covariance(1, 1), covariance(0, 1)
        return paired_odds_variance(np.array(self.n), *counts, *covariances)


def paired_effects(strata: Sequence[Pairs], sd_floor: float) -> dict[str, np.ndarray]:
    """`MEASURES` of b against a, each `[n_latents]`; languages are weighted by their texts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        usable = [stratum for stratum in strata if stratum.units >= 2]
        if not usable:
            return _nothing(strata[0])
        total = sum(stratum.n for stratum in usable)
        w = [np.array(stratum.n / total) for stratum in usable]
        mean_a, mean_b = (weighted(w, [s.mean(side) for s in usable]) for side in "ab")
        variance = weighted(w, [(s.variance("a") + s.variance("b")) / 2 for s in usable])
        change_sd = np.sqrt(weighted(w, [s.variance("c") for s in usable]))
        flat, still = variance <= sd_floor**2, change_sd <= sd_floor
        sd = np.where(flat, 1.0, np.sqrt(variance))
        d = np.where(flat, 0.0, (mean_b - mean_a) / sd)
        silent = sum(s.totals["fired_a"] + s.totals["fired_b"] for s in usable) == 0
        parts = [s.part(wi, d, sd) for wi, s in zip(w, usable, strict=True)]
        reach = np.where(flat, np.where(silent, np.nan, 0.0), half_width(parts))
        fire_a, fire_b = (weighted(w, [s.totals[f"fired_{side}"] / s.n for s in usable]) for side in "ab")
        odds = [log_odds(s.totals["fired_a"], np.array(s.n), s.totals["fired_b"], np.array(s.n)) for s in usable]
        return {
            "mean_a": mean_a, "mean_b": mean_b, "sd": np.where(flat, np.nan, sd), "d_av": d,
            "d_lo": d - reach, "d_hi": d + reach,
            "hedges_g": d * hedges_factor(np.array(total - len(usable))),
            "d_z": np.where(still, 0.0, (mean_b - mean_a) / np.where(still, 1.0, change_sd)),
            "auroc": weighted(w, [_auroc(s) for s in usable]),
            **odds_interval(odds, [s.odds_variance() for s in usable], w),
            "fire_a": fire_a, "fire_b": fire_b,
            "magnitude_a": np.where(fire_a > 0, mean_a / fire_a, np.nan),
            "magnitude_b": np.where(fire_b > 0, mean_b / fire_b, np.nan),
        }  # fmt: skip


def _nothing(stratum: Pairs) -> dict[str, np.ndarray]:
    return {name: np.full(stratum.cells.n_latents, np.nan) for name in MEASURES}


def _auroc(stratum: Pairs) -> np.ndarray:
    n = stratum.n
    return (stratum.totals["rank"] + n * stratum.zero_rank - n * (n + 1) / 2) / n**2
