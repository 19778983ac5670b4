"""Effect sizes of a contrast and their standard errors, from sums over documents.

Everything here is arithmetic on `Moments`: arrays `[n_latents, n_targets]` for one language. Languages are pooled as
strata: a pooled number is the weighted mean of the languages' numbers, so a difference between languages is never
taken for a difference between groups (Simpson's paradox). Sources: d_av, Cumming 2012, *Understanding The New
Statistics*, ch. 11 and Lakens 2013, eq. 10; Hedges' correction, Hedges 1981, eq. 6e (exact); AUROC = Mann–Whitney
U/(n_a n_b) and Cliff's delta = 2 AUROC − 1; log-odds, Haldane 1955 and Anscombe 1956, pooled as Woolf 1955; standard
errors, clusters as in Liang & Zeger 1986 with the factor G/(G − 1); intervals, `intervals` (AUROC's: `placements`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ndtri

from antar.features.cells import Cells
from antar.features.intervals import Part, freedom_of, half_width, logit_variance

MEASURES = ("mean_a", "mean_b", "sd", "d_av", "d_lo", "d_hi", "hedges_g", "d_z", "auroc", "log_odds", "log_odds_lo",
            "log_odds_hi", "fire_a", "fire_b", "magnitude_a", "magnitude_b")  # fmt: skip
"""The columns that an effect has, each `[n_latents, n_targets]`."""
RATE_PAIRS = (("fired", "fired"), ("fired_before", "fired_before"), ("fired_after", "fired_after"),
              ("fired_before", "fired_after"))  # fmt: skip
"""Sums whose covariance over documents is wanted."""


@dataclass(frozen=True)
class Moments:
    """Sums over one group's texts in one language.

    n, units, squares: float64 `[n_targets]`: texts, units, and the sum of squared unit sizes
    the others:        float64 `[n_latents, n_targets]`: with S1 and S2 a unit's sums of x and of x² and m its size,
                       s1 = ΣS1, s2 = ΣS2, s11 = ΣS1², s12 = ΣS1·S2, s22 = ΣS2², m1 = Σm·S1, m2 = Σm·S2,
                       s4 = ΣS1⁴, some = units with S1 ≠ 0 and "some m" their Σm²; `fired` counts texts that
                       fire, `rank` sums (rank − rank of a zero); with F (and H) a unit's texts that fire,
                       "f m" = Σm·F and "f h" = ΣF·H
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

    @property
    def firing_squares(self) -> np.ndarray:
        """Σ(S1 − m·mean)² over the units with S1 ≠ 0."""
        mean = self.mean
        squares = self.sums["s11"] - 2 * mean * self.sums["m1"] + mean**2 * self.sums["some m"]
        return np.where(self.n > 0, np.maximum(squares, 0), 0.0)

    def rate(self, fired: str) -> np.ndarray:
        return self.sums[fired] / self.n

    def rate_covariance(self, one: str, other: str) -> np.ndarray:
        """Cluster-robust covariance of two firing rates, sums `one` and `other`."""
        p, r = self.rate(one), self.rate(other)
        total = (
            self.sums[f"{one} {other}"] - r * self.sums[f"{one} m"] - p * self.sums[f"{other} m"]
            + p * r * self.squares
        )  # fmt: skip
        return total / self.n**2 * self.units / (self.units - 1)


def moments(cells: Cells, unit_sizes: np.ndarray, labels: np.ndarray, n_groups: int) -> Moments:
    """The moments of every group at once; `labels` int `[n_units]` in 0 … n_groups − 1."""
    size = unit_sizes[cells.unit]
    s1, s2 = cells.sums["s1"], cells.sums["s2"]
    columns = {"s1": s1, "s2": s2, "s11": s1 * s1, "s12": s1 * s2, "s22": s2 * s2, "m1": size * s1, "m2": size * s2}
    some = (s1 != 0).astype(np.float64)
    columns |= {"s4": s1**4, "some": some, "some m": some * size**2}
    columns |= {name: values for name, values in cells.sums.items() if name not in columns}
    for one, other in RATE_PAIRS:
        if other in cells.sums:
            columns[f"{other} m"] = cells.sums[other] * size
            columns[f"{one} {other}"] = cells.sums[one] * cells.sums[other]
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
        parts = [part for wi, stratum in zip(w, strata, strict=True) for part in _mean_parts(stratum, wi, d, sd)]
        freedom = np.sum([np.where(s.enough, s.a.n + s.b.n - 2, 0) for s in strata], axis=0)
        fire_a, fire_b = weighted(w, [x.fire for x in a]), weighted(w, [x.fire for x in b])
        some = weighted(w, [x.sums["some"] + y.sums["some"] for x, y in zip(a, b, strict=True)])
        reach = np.where(flat, np.where(some == 0, np.nan, 0.0), half_width(parts))
        odds = [log_odds(s.a.sums["fired"], s.a.n, s.b.sums["fired"], s.b.n) for s in strata]
        noise = [
            np.sum([logit_variance(x.sums["fired"], x.n, x.rate_covariance("fired", "fired")) for x in pair], axis=0)
            for pair in zip(a, b, strict=True)
        ]
        return {
            "mean_a": mean_a, "mean_b": mean_b, "sd": np.where(flat, np.nan, sd), "d_av": d,
            "d_lo": d - reach, "d_hi": d + reach,
            "hedges_g": d * hedges_factor(freedom), "d_z": np.full(d.shape, np.nan),
            "auroc": weighted(w, [_auroc(stratum) for stratum in strata]),
            **odds_interval(odds, noise, w),
            "fire_a": fire_a, "fire_b": fire_b,
            "magnitude_a": np.where(fire_a > 0, mean_a / fire_a, np.nan),
            "magnitude_b": np.where(fire_b > 0, mean_b / fire_b, np.nan),
        }  # fmt: skip


def _mean_parts(stratum: Stratum, weight: np.ndarray, d: np.ndarray, sd: np.ndarray) -> list[Part]:
    """The variance of d that the two groups of a stratum bring, by the delta method, and its degrees of freedom."""
    pair = (stratum.a, stratum.b)
    typical = sum(x.firing_squares for x in pair) / np.maximum(sum(x.sums["some"] for x in pair), 1)
    parts: list[Part] = []
    for sign, group in zip((-1, 1), pair, strict=True):
        variance = group.mean_of_squares(sign / sd, -d / (4 * sd**2)) + typical / (sd * group.n) ** 2
        freedom = freedom_of(group.sums["s11"] + typical, group.sums["s4"] + typical**2, group.units)
        # A group of one unit has no variance; `combined` passes it over because it has no freedom.
        parts.append((weight**2 * variance, np.where(group.units < 2, 0.0, freedom)))
    return parts


def _auroc(stratum: Stratum) -> np.ndarray:
    a, b = stratum.a, stratum.b
    rank_sum = b.sums["rank"] + b.n * stratum.zero_rank[:, None]
    return (rank_sum - b.n * (b.n + 1) / 2) / (a.n * b.n)


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


def odds_interval(
    odds: Sequence[tuple[np.ndarray, np.ndarray]], noise: Sequence[np.ndarray], use: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """log_odds, log_odds_lo and log_odds_hi: the inverse-variance mean of log odds ratios (Woolf) and its interval.

    odds: (ratio, Woolf variance) of each stratum; noise: the ratio's cluster-robust variance; use: the strata's
    weights, of which those that are 0 are left out (NaN where none is usable)
    """
    weights = normalised(
        [np.where(np.isnan(u), np.nan, np.where(u > 0, 1 / v, 0.0)) for u, (_, v) in zip(use, odds, strict=True)]
    )
    centre = weighted(weights, [ratio for ratio, _ in odds])
    variance = np.sum([np.where(w == 0, 0.0, w**2 * v) for w, v in zip(weights, noise, strict=True)], axis=0)
    reach = ndtri(0.975) * np.sqrt(variance)
    return {"log_odds": centre, "log_odds_lo": centre - reach, "log_odds_hi": centre + reach}


def interaction_odds(strata: Sequence[Stratum]) -> dict[str, np.ndarray]:
    """Log odds ratio of firing after against before in group b, minus the same in group a; pooled as Woolf."""
    odds: list[tuple[np.ndarray, np.ndarray]] = []
    noise: list[np.ndarray] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for stratum in strata:
            (in_a, woolf_a), (in_b, woolf_b) = (
                log_odds(group.sums["fired_before"], group.n, group.sums["fired_after"], group.n)
                for group in (stratum.a, stratum.b)
            )
            odds.append((in_b - in_a, woolf_a + woolf_b))
            noise.append(
                np.sum([paired_odds_variance(group.n, *_firing(group)) for group in (stratum.a, stratum.b)], axis=0)
            )
        return odds_interval(odds, noise, normalised([stratum.weight for stratum in strata]))


def _firing(group: Moments) -> tuple[np.ndarray, ...]:
    before, after = "fired_before", "fired_after"
    covariances = [group.rate_covariance(*pair) for pair in RATE_PAIRS[1:]]
    return group.sums[before], group.sums[after], *covariances


def paired_odds_variance(
    n: np.ndarray, fired_a: np.ndarray, fired_b: np.ndarray, var_a: np.ndarray, var_b: np.ndarray, cov: np.ndarray
) -> np.ndarray:
    """Variance of the change of a logit between two sides of the same texts.

    fired_a, fired_b: texts that fire on each side, of n; var_a, var_b, cov: cluster-robust, of the two rates
    """
    of_a, of_b = logit_variance(fired_a, n, var_a), logit_variance(fired_b, n, var_b)
    # One document more that fires on one side alone, each way: to agree on three texts is not to agree for certain.
    correlation = np.clip(cov / np.sqrt((var_a + 1 / n**2) * (var_b + 1 / n**2)), -1, 1)
    return of_a + of_b - 2 * correlation * np.sqrt(of_a * of_b)
