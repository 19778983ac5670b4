"""Effect sizes of a contrast and their standard errors, from sums over documents.

Everything here is arithmetic on `Moments`: arrays `[n_latents, n_targets]` for one language. Languages are pooled as
strata: a pooled number is the weighted mean of the languages' numbers, so a difference between languages is never
taken for a difference between groups (Simpson's paradox). Sources: d_av, Cumming 2012, *Understanding The New
Statistics*, ch. 11 and Lakens 2013, eq. 10; Hedges' correction, Hedges 1981, eq. 6e (exact); AUROC = Mann–Whitney
U/(n_a n_b) and Cliff's delta = 2 AUROC − 1; log-odds, Haldane 1955 and Anscombe 1956, pooled as Woolf 1955; standard
errors, clusters as in Liang & Zeger 1986 with the factor G/(G − 1); degrees of freedom, Satterthwaite 1946.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, stdtrit

from antar.features.cells import Cells

MEASURES = ("mean_a", "mean_b", "d_av", "d_lo", "d_hi", "hedges_g", "d_z", "auroc", "log_odds",
            "fire_a", "fire_b", "magnitude_a", "magnitude_b")  # fmt: skip
"""The columns that an effect has, each `[n_latents, n_targets]`."""


@dataclass(frozen=True)
class Moments:
    """Sums over one group's texts in one language.

    n, units, squares: float64 `[n_targets]`: texts, units, and the sum of squared unit sizes
    the others:        float64 `[n_latents, n_targets]`: with S1 and S2 a unit's sums of x and of x² and m its size,
                       s1 = ΣS1, s2 = ΣS2, s11 = ΣS1², s12 = ΣS1·S2, s22 = ΣS2², m1 = Σm·S1, m2 = Σm·S2;
                       `fired` counts texts that fire, `rank` sums (rank − rank of a zero)
    """

    n: np.ndarray
    units: np.ndarray
    squares: np.ndarray
    sums: dict[str, np.ndarray]

    def take(self, targets: np.ndarray) -> Moments:
        """The groups `targets` (int `[n_targets]`) of all groups."""
        sums = {name: values[:, targets] for name, values in self.sums.items()}
        return Moments(self.n[targets], self.units[targets], self.squares[targets], sums)

    def rest(self, targets: np.ndarray) -> Moments:
        """For each of `targets`, all the other groups together."""
        others = 1.0 - np.eye(len(self.n))[:, targets]
        sums = {name: values @ others for name, values in self.sums.items()}
        return Moments(self.n @ others, self.units @ others, self.squares @ others, sums)

    @property
    def mean(self) -> np.ndarray:
        return self.sums["s1"] / self.n

    @property
    def variance(self) -> np.ndarray:
        """Of texts, with n − 1 in the denominator."""
        return np.maximum(self.sums["s2"] - self.n * self.mean**2, 0) / (self.n - 1)

    @property
    def fire(self) -> np.ndarray:
        return self.sums["fired"] / self.n

    def mean_of_squares(self, alpha: np.ndarray | float, beta: np.ndarray | float) -> np.ndarray:
        """Cluster-robust variance of the mean of alpha·(x − mean) + beta·((x − mean)² − variance)."""
        mean = self.mean
        spread = self.sums["s2"] / self.n - mean**2
        on_x = alpha - 2 * mean * beta
        on_m = beta * (mean**2 - spread) - alpha * mean
        total = (
            on_x**2 * self.sums["s11"]
            + np.square(beta) * self.sums["s22"]
            + on_m**2 * self.squares
            + 2 * (on_x * beta * self.sums["s12"] + on_x * on_m * self.sums["m1"] + beta * on_m * self.sums["m2"])
        )
        return np.maximum(total, 0) / self.n**2 * self.units / (self.units - 1)


def moments(cells: Cells, unit_sizes: np.ndarray, labels: np.ndarray, n_groups: int) -> Moments:
    """The moments of every group at once; `labels` int `[n_units]` in 0 … n_groups − 1."""
    size = unit_sizes[cells.unit]
    s1, s2 = cells.sums["s1"], cells.sums["s2"]
    columns = {"s1": s1, "s2": s2, "s11": s1 * s1, "s12": s1 * s2, "s22": s2 * s2, "m1": size * s1, "m2": size * s2}
    columns |= {name: values for name, values in cells.sums.items() if name not in columns}
    return Moments(
        np.bincount(labels, unit_sizes, minlength=n_groups),
        np.bincount(labels, minlength=n_groups).astype(np.float64),
        np.bincount(labels, unit_sizes**2, minlength=n_groups),
        {name: cells.by_group(values, labels, n_groups) for name, values in columns.items()},
    )


@dataclass(frozen=True)
class Stratum:
    """One language of an unpaired contrast: groups a (control, rest) and b, and the rank of a zero `[n_latents]`."""

    a: Moments
    b: Moments
    zero_rank: np.ndarray

    @property
    def enough(self) -> np.ndarray:
        """bool `[n_targets]`: two units on each side, without which there is no standard error."""
        return (self.a.units >= 2) & (self.b.units >= 2)

    @property
    def weight(self) -> np.ndarray:
        """n_a n_b / (n_a + n_b), the information of the stratum (Mantel & Haenszel 1959); 0 without enough units."""
        return np.where(self.enough, self.a.n * self.b.n / (self.a.n + self.b.n), 0.0)


def normalised(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Weights that add to 1; NaN where no stratum has any, so that what they weigh becomes NaN too."""
    total = np.sum(weights, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return [weight / total for weight in weights]


def weighted(weights: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> np.ndarray:
    """Σ weight × value, where a weight of 0 silences a NaN."""
    return np.sum([np.where(w == 0, 0.0, w * v) for w, v in zip(weights, values, strict=True)], axis=0)


def unpaired_effects(strata: Sequence[Stratum], sd_floor: float) -> dict[str, np.ndarray]:
    """`MEASURES` of b against a, stratified; one stratum gives the plain numbers of one language.

    sd_floor: a pooled standard deviation at or under it is float jitter, and its effect is 0
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        w = normalised([stratum.weight for stratum in strata])
        a, b = [stratum.a for stratum in strata], [stratum.b for stratum in strata]
        mean_a, mean_b = weighted(w, [x.mean for x in a]), weighted(w, [x.mean for x in b])
        variance = weighted(w, [(x.variance + y.variance) / 2 for x, y in zip(a, b, strict=True)])
        flat = variance <= sd_floor**2
        sd = np.where(flat, 1.0, np.sqrt(variance))
        d = np.where(flat, 0.0, (mean_b - mean_a) / sd)
        beta = -d / (4 * sd**2)
        parts = [
            (wi**2 * group.mean_of_squares(sign / sd, beta), group.units - 1)
            for wi, pair in zip(w, zip(a, b, strict=True), strict=True)
            for sign, group in zip((-1, 1), pair, strict=True)
        ]
        d_lo, d_hi = interval(d, parts, flat)
        freedom = np.sum([np.where(s.enough, s.a.n + s.b.n - 2, 0) for s in strata], axis=0)
        fire_a, fire_b = weighted(w, [x.fire for x in a]), weighted(w, [x.fire for x in b])
        return {
            "mean_a": mean_a, "mean_b": mean_b, "d_av": d, "d_lo": d_lo, "d_hi": d_hi,
            "hedges_g": d * hedges_factor(freedom), "d_z": np.full(d.shape, np.nan),
            "auroc": weighted(w, [_auroc(stratum) for stratum in strata]),
            "log_odds": woolf([log_odds(s.a.sums["fired"], s.a.n, s.b.sums["fired"], s.b.n) for s in strata], w),
            "fire_a": fire_a, "fire_b": fire_b,
            "magnitude_a": np.where(fire_a > 0, mean_a / fire_a, np.nan),
            "magnitude_b": np.where(fire_b > 0, mean_b / fire_b, np.nan),
        }  # fmt: skip


def _auroc(stratum: Stratum) -> np.ndarray:
    a, b = stratum.a, stratum.b
    rank_sum = b.sums["rank"] + b.n * stratum.zero_rank[:, None]
    return (rank_sum - b.n * (b.n + 1) / 2) / (a.n * b.n)


def interval(
    d: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]], flat: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of d by the delta method: the variance is a sum of `parts` (variance, degrees of freedom)."""
    variances = [np.where(np.isnan(v) & (f <= 0), 0.0, v) for v, f in parts]
    variance = np.sum(variances, axis=0)
    spread = np.sum([v**2 / np.maximum(f, 1) for v, (_, f) in zip(variances, parts, strict=True)], axis=0)
    freedom = np.where(spread > 0, variance**2 / spread, 1.0)
    half_width = np.where(flat, 0.0, stdtrit(freedom, 0.975) * np.sqrt(variance))
    return d - half_width, d + half_width


def hedges_factor(freedom: np.ndarray) -> np.ndarray:
    """Hedges' exact small-sample factor J(m) = Γ(m/2) / (√(m/2) Γ((m − 1)/2)); NaN for m < 2."""
    m = np.where(np.asarray(freedom, dtype=np.float64) >= 2, freedom, np.nan)
    return np.exp(gammaln(m / 2) - gammaln((m - 1) / 2)) / np.sqrt(m / 2)


def log_odds(
    fired_a: np.ndarray, n_a: np.ndarray, fired_b: np.ndarray, n_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log odds ratio of firing (b against a) with 0.5 added to each cell, and its Woolf variance."""
    table = [fired_b + 0.5, n_b - fired_b + 0.5, fired_a + 0.5, n_a - fired_a + 0.5]
    ratio = np.log(table[0]) - np.log(table[1]) - np.log(table[2]) + np.log(table[3])
    return ratio, np.sum([1 / cell for cell in table], axis=0)


def woolf(parts: Sequence[tuple[np.ndarray, np.ndarray]], use: Sequence[np.ndarray]) -> np.ndarray:
    """Inverse-variance mean of log odds ratios over the strata whose `use` is not 0 (NaN where none is usable)."""
    weights = [
        np.where(np.isnan(u), np.nan, np.where(u > 0, 1 / v, 0.0)) for u, (_, v) in zip(use, parts, strict=True)
    ]
    return weighted(normalised(weights), [ratio for ratio, _ in parts])


def interaction_odds(strata: Sequence[Stratum]) -> np.ndarray:
    """Log odds ratio of firing after against before in group b, minus the same in group a; pooled as Woolf."""
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for stratum in strata:
        (in_a, noise_a), (in_b, noise_b) = (
            log_odds(group.sums["fired_before"], group.n, group.sums["fired_after"], group.n)
            for group in (stratum.a, stratum.b)
        )
        parts.append((in_b - in_a, noise_a + noise_b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return woolf(parts, normalised([stratum.weight for stratum in strata]))
