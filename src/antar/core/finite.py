"""Finding what is not a number, once for everyone who reads activations; each reader says it in its own words."""

from __future__ import annotations

import numpy as np


def first_bad_row(rows_nd: np.ndarray) -> tuple[int, int] | None:
    """(row, columns) of the first row of `[n, d]` with NaN or infinity, and in how many columns; None without one."""
    # The sum of a row is finite unless an entry is not (or fp32 overflows, which the second look settles).
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(rows_nd.sum(axis=1)))
    for row in suspects:
        bad = int((~np.isfinite(rows_nd[row])).sum())
        if bad:
            return int(row), bad
    return None
