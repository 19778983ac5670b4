"""95% intervals of effects whose features fire on few texts.

A standard error from clusters is right for many documents. Codes are mostly zeros, so what counts is not how many
documents there are but in how many the feature fires: with three of them a variance is known to within a factor, and
a group in which it happens never to fire has no variance at all. Two corrections, both of which vanish for features
that fire often:

- *Degrees of freedom.* With u the documents' contributions, a variance estimated by Σu² varies as a χ² with
  ν = 2 / (Σu⁴/(Σu²)² − 1/G) degrees of freedom does (its squared coefficient of variation is (κ − 1)/G, κ the
  kurtosis); ν is G for a normal feature and about twice the number of documents that fire for a rare one. Parts
  with ν of their own are combined as by Satterthwaite (1946).
- *One more document that fires* in each group, as typical as the others, is added to the variance (never to the
  estimate): what Agresti & Caffo (2000) do for two shares, for clusters of any size.

tests/prove/test_prove_vectors.py measures the coverage at firing rates from 1% to 50%.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit, stdtrit

Part = tuple[np.ndarray, np.ndarray]
"""A variance and its degrees of freedom, arrays of one shape."""


def freedom_of(squares: np.ndarray, fourths: np.ndarray, units: np.ndarray) -> np.ndarray:
    """ν of a variance that is estimated from `units` contributions with Σu² = squares and Σu⁴ = fourths.

    At most units − 1, at least 1.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = fourths / squares**2 - 1 / units
        found = np.where((squares > 0) & (excess > 0), 2 / excess, units - 1.0)
    return np.clip(found, 1.0, np.maximum(units - 1.0, 1.0))


def combined(parts: Sequence[Part]) -> Part:
    """The sum of independent variances, and its freedom. A part of NaN without freedom counts as nothing."""
    variances = [np.where(np.isnan(v) & (f <= 0), 0.0, v) for v, f in parts]
    variance = np.sum(variances, axis=0)
    spread = np.sum([v**2 / np.maximum(f, 1) for v, (_, f) in zip(variances, parts, strict=True)], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return variance, np.where(spread > 0, variance**2 / spread, 1.0)


def half_width(parts: Sequence[Part]) -> np.ndarray:
    """Half the length of a 95% t interval."""
    variance, freedom = combined(parts)
    return stdtrit(freedom, 0.975) * np.sqrt(variance)


def on_logit_scale(share: np.ndarray, parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of a share (an AUROC): symmetric in its logit, so that it stays within 0 and 1.

    NaN for a share of exactly 0 or 1, whose logit has no finite standard error.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = (share > 0) & (share < 1)
        centre = logit(np.where(inside, share, np.nan))
        reach = half_width(parts) / (share * (1 - share))
        return expit(centre - reach), expit(centre + reach)


def logit_variance(fired: np.ndarray, n: np.ndarray, clustered: np.ndarray) -> np.ndarray:
    """Variance of the logit of a firing rate with 0.5 added to both cells (Haldane 1955; Gart & Zweifel 1967).

    fired, n:  texts that fire, texts
    clustered: cluster-robust variance of the rate. What it is above the binomial one (the design effect, never taken
               below 1) multiplies 1/(fired + ½) + 1/(n − fired + ½).
    """
    rate = fired / n
    binomial = rate * (1 - rate) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        design = np.where(binomial > 0, np.maximum(clustered / binomial, 1.0), 1.0)
    return design * (1 / (fired + 0.5) + 1 / (n - fired + 0.5))
