"""Corrections for many tests at once."""

from __future__ import annotations

import numpy as np


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """q-values of all p-values of one family (Benjamini & Hochberg 1995, eq. 1; the adjusted form).

    p: any shape, NaN = not tested (stays NaN and does not count). q is the smallest false-discovery rate at which
    the test would be rejected. Equals `scipy.stats.false_discovery_control` on the tests that are there.
    """
    flat = np.asarray(p, dtype=np.float64).ravel()
    q = np.full(flat.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(flat))
    if len(tested) == 0:
        return q.reshape(np.shape(p))
    order = tested[np.argsort(flat[tested], kind="stable")]
    scaled = flat[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q.reshape(np.shape(p))
