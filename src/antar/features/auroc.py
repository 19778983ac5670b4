"""AUROC within strata, with weights: what the cross-check counts, and what its bootstrap counts again and again.

    AUROC = Σ_b W_b · P(score of an a > score of a b, ties half | both in stratum b) / Σ_b W_b,   W_b the a's weight

over the strata that hold both. With one stratum and no weights it is Mann & Whitney's U / (n_a n_b). Conditioning on
strata (of length) is what matching is for: no a is compared with a b of another stratum (Janes & Pepe 2009, the
covariate-adjusted ROC).

It is the third AUROC here, and each is for other input. `statistics` has a contrast's row from rank sums of sparse
codes, for every latent at once, and no interval; `placements` has the interval that goes with it, from where single
codes lie, summed by document. Both are one number for equal weights (`tests/features/test_auroc_rows.py`). Here are
scores of a set of features: dense, a few columns, compared within strata and under hundreds of bootstrap weights a
text, which neither ranks nor placements that are computed once can take.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strata:
    """Which stratum each a and each b is in: int `[n_a]`, `[n_b]`."""

    of_a: np.ndarray
    of_b: np.ndarray

    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(places of a, places of b) of every stratum that holds both."""
        both = np.intersect1d(self.of_a, self.of_b)
        return [(np.flatnonzero(self.of_a == one), np.flatnonzero(self.of_b == one)) for one in both]


def stratified_auroc(a: np.ndarray, b: np.ndarray, strata: Strata) -> float:
    """AUROC of scores `a` `[n_a]` over scores `b` `[n_b]`; NaN where no stratum holds both."""
    ones = np.ones((1, len(a))), np.ones((1, len(b)))
    return float(weighted_auroc(a, b, strata, *ones)[0])


def weighted_auroc(
    a: np.ndarray, b: np.ndarray, strata: Strata, weights_ra: np.ndarray, weights_rb: np.ndarray
) -> np.ndarray:
    """float64 `[r]`: the AUROC under each row of weights (≥ 0): `[r, n_a]` and `[r, n_b]`.

    A stratum without weight on either kind is left out of that row; NaN where that leaves none.
    """
    wins_r, total_r = np.zeros(len(weights_ra)), np.zeros(len(weights_ra))
    for in_a, in_b in strata.pairs():
        order = in_b[np.argsort(b[in_b], kind="stable")]
        sorted_b = b[order]
        below_rb = np.concatenate([np.zeros((len(weights_rb), 1)), np.cumsum(weights_rb[:, order], axis=1)], axis=1)
        lower, upper = (np.searchsorted(sorted_b, a[in_a], side=side) for side in ("left", "right"))
        beaten_ra = (below_rb[:, lower] + below_rb[:, upper]) / 2
        of_a_r, of_b_r = weights_ra[:, in_a].sum(axis=1), below_rb[:, -1]
        known = (of_a_r > 0) & (of_b_r > 0)
        won_r = (weights_ra[:, in_a] * beaten_ra).sum(axis=1)
        wins_r[known] += won_r[known] / of_b_r[known]
        total_r[known] += of_a_r[known]
    with np.errstate(invalid="ignore"):
        return wins_r / total_r
