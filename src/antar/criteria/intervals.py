"""Confidence intervals: exact ones for shares, bootstrap ones for means."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from antar.core.seeds import numpy_rng
from antar.criteria.config import CriteriaConfig
from antar.criteria.types import Interval

_CELLS_AT_ONCE = 1 << 22


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval | None:
    """The exact binomial interval of a share (Clopper & Pearson 1934); None when n is 0."""
    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 ≤ successes ≤ n, found {successes} of {n}")
    if n == 0:
        return None
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def bootstrap_mean(values: np.ndarray, cfg: CriteriaConfig, *names: str | int) -> Interval | None:
    """Percentile bootstrap of the mean of `values` `[n]`, drawn as independent; None below two values.

    `names` choose the random stream, so that one criterion's interval does not depend on another's.
    """
    n = len(values)
    if n < 2:
        return None
    rng = numpy_rng(cfg.seed, "bootstrap", *names)
    block = max(1, _CELLS_AT_ONCE // n)
    means = [
        values[rng.integers(0, n, size=(min(block, cfg.replicates - done), n))].mean(axis=1)
        for done in range(0, cfg.replicates, block)
    ]
    tail = (1 - cfg.confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def finite_values(values: np.ndarray) -> np.ndarray:
    """float64 `[m]`: `values` flattened, without what is not a number."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return flat[np.isfinite(flat)]
