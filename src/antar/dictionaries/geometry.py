"""The shape of a cloud of activations: how many directions it takes up.

The published study explains its easy deltas by a low effective dimension, and does not test it. These are the
numbers that do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK_ROWS = 4096
# Eigenvalues carry rounding of about this share of the mean square; a total below it is no variance.
NO_VARIANCE = 1e-12


@dataclass(frozen=True)
class Spectrum:
    """Mean and PCA of a set of rows, in fp64. values_d are variances, largest first; vectors_dd holds columns."""

    rows: int
    mean_d: np.ndarray
    values_d: np.ndarray
    vectors_dd: np.ndarray
    mean_square: float

    @property
    def has_variance(self) -> bool:
        return float(self.values_d.sum()) > NO_VARIANCE * self.mean_square


@dataclass(frozen=True)
class Geometry:
    """participation_ratio and pca90_rank are None where the rows have no variance; mean_norm in activation units."""

    rows: int
    participation_ratio: float | None
    pca90_rank: int | None
    mean_norm: float


def spectrum(acts_nd: np.ndarray, rows: np.ndarray | None = None) -> Spectrum:
    """PCA of `acts_nd[rows]` through the `[d, d]` covariance (divided by n), summed in fp64 chunk by chunk."""
    chosen = np.arange(len(acts_nd)) if rows is None else _as_index(rows)
    n, d = len(chosen), acts_nd.shape[1]
    if n == 0:
        raise ValueError("spectrum of no rows")
    mean_d = np.zeros(d)
    square = 0.0
    for lo in range(0, n, CHUNK_ROWS):
        block_bd = acts_nd[chosen[lo : lo + CHUNK_ROWS]].astype(np.float64)
        mean_d += block_bd.sum(axis=0) / n
        square += float(np.square(block_bd).sum()) / n
    covariance_dd = np.zeros((d, d))
    for lo in range(0, n, CHUNK_ROWS):
        centred_bd = acts_nd[chosen[lo : lo + CHUNK_ROWS]].astype(np.float64) - mean_d
        covariance_dd += centred_bd.T @ centred_bd / n
    values_d, vectors_dd = np.linalg.eigh(covariance_dd)
    return Spectrum(n, mean_d, np.maximum(values_d[::-1], 0.0), vectors_dd[:, ::-1], square)


def _as_index(rows: np.ndarray) -> np.ndarray:
    return np.flatnonzero(rows) if rows.dtype == np.bool_ else rows


def geometry(acts_nd: np.ndarray, rows: np.ndarray | None = None) -> Geometry:
    """Participation ratio (Σλ)² / Σλ² and the rank that holds 90% of the variance, λ the eigenvalues of the
    covariance; and the mean Euclidean norm. `rows` is an index or boolean array; None takes all rows."""
    chosen = np.arange(len(acts_nd)) if rows is None else _as_index(rows)
    starts = range(0, len(chosen), CHUNK_ROWS)
    blocks = (acts_nd[chosen[lo : lo + CHUNK_ROWS]].astype(np.float64) for lo in starts)
    mean_norm = float(np.concatenate([np.linalg.norm(block_bd, axis=1) for block_bd in blocks]).mean())
    found = spectrum(acts_nd, rows)
    if not found.has_variance:
        return Geometry(found.rows, None, None, mean_norm)
    total = float(found.values_d.sum())
    cumulated_d = np.cumsum(found.values_d)
    rank = int(np.searchsorted(cumulated_d, 0.9 * cumulated_d[-1])) + 1
    return Geometry(found.rows, total**2 / float(np.square(found.values_d).sum()), rank, mean_norm)
