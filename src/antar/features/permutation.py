"""p-values by permutation over documents, fine enough for tens of thousands of tests.

The statistic is studentised: a difference of means over its cluster-robust standard error, recomputed for every
shuffle (Chung & Romano 2013: a studentised permutation test stays valid where only the means are equal under the
null; Cameron, Gelbach & Miller 2008 on clusters). All shuffles of all features are one compiled pass over the codes
(`kernels`).

With B shuffles one feature's p cannot fall below 1/(B + 1), too coarse for Benjamini–Hochberg over 70,000 tests. So
the tail is pooled. Each feature's statistic is centred and scaled by the mean and standard deviation of its own
shuffles (which also takes away what length bins explain), and a pool of features with about the same expected number
of firing documents in group b shares one null. The assumption is that these standardised nulls have one shape within
a pool; how rare a feature is governs that shape (it makes the null discrete and skewed), hence the pools. Where a
feature's own shuffles exceed its statistic at least `OWN_EXCEEDANCES` times, its own p is used, which assumes
nothing: pooling decides only in the tail. Beyond every draw of its pool a generalised Pareto tail takes over, so that
a lone strong feature among 100,000 tests can still be found. tests/features/test_permutation.py measures how well
this is calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from antar.core.jit import have_numba
from antar.features.cells import Cells
from antar.features.designs import Design

OWN_EXCEEDANCES = 10
POOL_CELLS = 32
"""A pool holds at least so many (feature, target) cells …"""
MAX_POOLS = 16
"""… and there are at most so many pools."""
TAIL_DRAWS = 250
"""Largest draws of a pool to which its tail is fitted."""
TAIL_REACH = 1000
"""A p is at least 1/(this × the pool's draws)."""
CHUNK_COLUMNS = 512
"""Columns (targets × draws) of one sparse × dense product: 512 × 8,192 latents × 8 bytes = 32 MiB an array."""


def unpaired_statistics(
    cells: Sequence[Cells], designs: Sequence[Design], targets: np.ndarray, sd_floor: float
) -> np.ndarray:
    """Studentised differences, float32 `[n_languages + 1, n_latents, n_targets, n_columns]`; pooled comes last.

    cells, designs: one of each for a language; targets: the labels that are each compared with all other labels.
    A target with fewer than two units on either side in a language is NaN there and left out of the pool.
    """
    n_columns, n_latents = designs[0].labels.shape[1], cells[0].n_latents
    out = np.empty((len(designs) + 1, n_latents, len(targets), n_columns), dtype=np.float32)
    step = max(1, CHUNK_COLUMNS // len(targets))
    for lo in range(0, n_columns, step):
        chunk = slice(lo, min(lo + step, n_columns))
        parts = [_differences(one, design, chunk, targets) for one, design in zip(cells, designs, strict=True)]
        for place, (difference, variance, floor, _) in enumerate(parts):
            out[place, :, :, chunk] = _ratio(difference, variance, sd_floor**2 * floor)
        out[-1, :, :, chunk] = _pooled_ratio(parts, sd_floor)
    return out


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _differences(cells: Cells, design: Design, chunk: slice, targets: np.ndarray) -> _Part:
    """(difference, its variance, 1/n_a + 1/n_b, weight) of one language: `[n_latents or 1, n_targets, chunk]`."""
    labels = design.labels[:, chunk]
    chosen = labels[:, None, :] == targets[None, :, None]
    shape = (-1, *chosen.shape[1:])
    member_ub = chosen.reshape(len(chosen), chosen.shape[1] * chosen.shape[2]).astype(np.uint8)
    m = design.unit_sizes
    n, units, squares = (one @ member_ub for one in (m, np.ones(len(m)), m**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        difference, variance = (_compiled_groups if have_numba() else _scipy_groups)(
            cells, m, member_ub, n, units, squares
        )
        rest, rest_units = m.sum() - n, len(m) - units
        enough = (units >= 2) & (rest_units >= 2)
        weight = np.where(enough, n * rest / (n + rest), 0.0)
        floor = np.where(enough, 1 / n + 1 / rest, 0.0)
        difference, variance = (np.where(enough, one, np.nan) for one in (difference, variance))
    return difference.reshape(shape), variance.reshape(shape), floor.reshape(shape), weight.reshape(shape)


def _compiled_groups(
    cells: Cells, sizes: np.ndarray, member_ub: np.ndarray, n: np.ndarray, units: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Differences of means and their variances, `[n_latents, b]`, under labellings (uint8 `[n_units, b]`)."""
    from antar.features.kernels import group_differences

    found = np.empty((2, cells.n_latents, member_ub.shape[1]))
    group_differences(
        cells.starts, cells.unit, cells.sums["s1"], sizes, member_ub, n, units, squares, found[0], found[1]
    )
    return found[0], found[1]


def _scipy_groups(
    cells: Cells, sizes: np.ndarray, member_ub: np.ndarray, n: np.ndarray, units: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What `_compiled_groups` gives, by sparse × dense products: its fallback without Numba, and twin in tests."""
    s1, flat, one = cells.sums["s1"], member_ub.astype(np.float64), np.ones(len(sizes))
    in_b, in_a = [], []
    for values in (s1, s1 * s1, s1 * sizes[cells.unit]):
        matrix = cells.matrix(values)
        in_b.append(matrix @ flat)
        in_a.append((matrix @ one)[:, None] - in_b[-1])
    mean_b, variance_b = _mean_and_variance(n, units, squares, *in_b)
    rest = (sizes.sum() - n, len(sizes) - units, (sizes**2).sum() - squares)
    mean_a, variance_a = _mean_and_variance(*rest, *in_a)
    return mean_b - mean_a, variance_a + variance_b


def _mean_and_variance(
    n: np.ndarray, units: np.ndarray, squares: np.ndarray, s1: np.ndarray, s11: np.ndarray, m1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A mean and its cluster-robust variance: Σ(S1 − m·mean)² / n² × G/(G − 1)."""
    mean = s1 / n
    total = s11 - 2 * mean * m1 + mean**2 * squares
    return mean, np.maximum(total, 0) / n**2 * (units / (units - 1))


def _ratio(difference: np.ndarray, variance: np.ndarray, floor: np.ndarray) -> np.ndarray:
    # Rounding leaves 1e-16 of the squares where nothing varies; the floor of the standard deviation catches it.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance <= floor, 0.0 * difference, difference / np.sqrt(variance))


def _pooled_ratio(parts: Sequence[_Part], sd_floor: float) -> np.ndarray:
    total = np.sum([part[3] for part in parts], axis=0)
    difference, variance, floor = 0.0, 0.0, 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        for one, its_variance, its_floor, weight in parts:
            w = weight / total
            difference = difference + np.where(w == 0, 0.0, w * one)
            variance = variance + np.where(w == 0, 0.0, w**2 * its_variance)
            floor = floor + np.where(w == 0, 0.0, w**2 * its_floor)
    return _ratio(np.asarray(difference), np.asarray(variance), sd_floor**2 * np.asarray(floor))


def paired_statistics(cells: Sequence[Cells], designs: Sequence[Design], sd_floor: float) -> np.ndarray:
    """Studentised mean changes, float32 `[n_languages + 1, n_latents, 1, n_columns]`; pooled comes last.

    cells: with sums `a` and `b`. A language with fewer than two units is NaN and left out of the pool.
    """
    n_columns, n_latents = designs[0].labels.shape[1], cells[0].n_latents
    out = np.empty((len(designs) + 1, n_latents, 1, n_columns), dtype=np.float32)
    for lo in range(0, n_columns, CHUNK_COLUMNS):
        chunk = slice(lo, min(lo + CHUNK_COLUMNS, n_columns))
        parts = [_changes(one, design, chunk) for one, design in zip(cells, designs, strict=True)]
        for place, (difference, variance, floor, _) in enumerate(parts):
            out[place, :, :, chunk] = _ratio(difference, variance, sd_floor**2 * floor)
        out[-1, :, :, chunk] = _pooled_ratio(parts, sd_floor)
    return out


def _changes(cells: Cells, design: Design, chunk: slice) -> _Part:
    signs_ub = design.labels[:, chunk].astype(np.int8)
    m = design.unit_sizes
    if len(m) < 2:
        nothing = np.full((cells.n_latents, 1, signs_ub.shape[1]), np.nan)
        return nothing, nothing, np.zeros((1, 1, 1)), np.zeros((1, 1, 1))
    mean, variance = (_compiled_changes if have_numba() else _scipy_changes)(cells, m, signs_ub)
    size = np.full((1, 1, 1), m.sum())
    return mean[:, None, :], variance[:, None, :], 1 / size, size


def _compiled_changes(cells: Cells, sizes: np.ndarray, signs_ub: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean changes and their variances, `[n_latents, b]`, under signs (int8 `[n_units, b]`)."""
    from antar.features.kernels import signed_means

    change = cells.sums["b"] - cells.sums["a"]
    found = np.empty((2, cells.n_latents, signs_ub.shape[1]))
    signed_means(cells.starts, cells.unit, change, sizes, np.ascontiguousarray(signs_ub), found[0], found[1])
    return found[0], found[1]


def _scipy_changes(cells: Cells, sizes: np.ndarray, signs_ub: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `_compiled_changes` gives, without Numba: its fallback, and its twin in the tests."""
    signs, change = signs_ub.astype(np.float64), cells.sums["b"] - cells.sums["a"]
    n, units = sizes.sum(), len(sizes)
    mean = (cells.matrix(change) @ signs) / n
    m1 = cells.matrix(change * sizes[cells.unit]) @ signs
    s11 = cells.by_latent(change**2)[:, None]
    total = np.maximum(s11 - 2 * mean * m1 + mean**2 * np.sum(sizes**2), 0)
    return mean, total / n**2 * (units / (units - 1))


@dataclass(frozen=True)
class PValues:
    """p:       `[n_cells, n_columns]`, two-sided, each column tested on its own
    z:       the statistics standardised by their own shuffles, the same shape; NaN where p is
    largest: float32 `[n_draws]`, the largest |z| of any cell under each shuffle
    """

    p: np.ndarray
    z: np.ndarray
    largest: np.ndarray


def pooled_p_values(observed: np.ndarray, draws: np.ndarray, expected: np.ndarray) -> PValues:
    """Two-sided p of each cell, with the tail of the null pooled over similar cells (see the module's paragraph).

    observed: `[n_cells, n_columns]` statistics
    draws:    `[n_cells, n_draws]`, the same statistic under shuffles
    expected: `[n_cells]`, what decides which cells are alike: the expected number of firing units in group b

    NaN where a statistic is NaN; 1 where the shuffles do not vary. p = 2·min(upper, lower), each (1 + hits)/(1 + N).
    """
    p, z = np.full(observed.shape, np.nan), np.full(observed.shape, np.nan)
    largest = np.zeros(draws.shape[1], dtype=np.float32)
    testable = np.flatnonzero(~np.isnan(observed).any(axis=1) & ~np.isnan(draws).any(axis=1))
    centre = draws.mean(axis=1, dtype=np.float64, keepdims=True)
    spread = draws.std(axis=1, dtype=np.float64, keepdims=True)
    still = spread[:, 0] <= 1e-6 * (1 + np.abs(centre[:, 0]))
    p[testable], z[testable] = 1.0, 0.0
    varying = testable[~still[testable]]
    if len(varying) == 0:
        return PValues(p, z, largest)
    order = varying[np.argsort(expected[varying], kind="stable")]
    for pool in np.array_split(order, max(1, min(MAX_POOLS, len(order) // POOL_CELLS))):
        null = left_out((draws[pool] - centre[pool]) / spread[pool]).astype(np.float32)
        z[pool] = (observed[pool] - centre[pool]) / spread[pool]
        p[pool] = _pool_p(z[pool], null)
        largest = np.maximum(largest, np.abs(null).max(axis=0))
    return PValues(p, z, largest)


def max_p(z: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """p adjusted for all the tests that `largest` `[n_draws]` was taken over (Westfall & Young 1993, single step).

    The share of shuffles in which some test reaches |z|, (1 + hits)/(1 + draws); NaN stays NaN. It controls the
    chance of one false finding or more, however the tests depend, because a shuffle relabels them all at once.
    """
    ordered = np.sort(largest)
    slack = 1e-4 * (1 + np.abs(z))
    hits = len(ordered) - np.searchsorted(ordered, np.abs(z) - slack)
    return np.where(np.isnan(z), np.nan, (1 + hits) / (1 + len(ordered)))


def left_out(z: np.ndarray) -> np.ndarray:
    """Draws `[cells, draws]` standardised by all draws of their row, as if each had been left out of its row's mean
    and standard deviation. The observed statistic is not among its draws, so only then are they alike; without this
    the null's tail is too short (with 200 shuffles, 1.5 times too many null features reached p = 0.002)."""
    n = z.shape[1]
    # Where all draws but one are equal, leaving that one out leaves no spread: it is kept finite.
    return z * np.sqrt(n / (n - 1)) / np.sqrt(np.maximum(1 - z**2 / (n - 1), 1 / n))


def _pool_p(z: np.ndarray, null: np.ndarray) -> np.ndarray:
    """p of standardised statistics `[cells, columns]` against their own `[cells, draws]` and the pool's draws."""
    # Rare features have few distinct values: a draw that equals the statistic up to rounding counts as a hit.
    slack = 1e-4 * (1 + np.abs(z))
    both = np.empty((2, *z.shape))
    pooled = np.sort(null, axis=None)
    for side, sign in enumerate((1, -1)):
        edge = sign * z - slack
        hits = len(pooled) - np.searchsorted(pooled, edge) if sign > 0 else np.searchsorted(pooled, -edge, "right")
        shared = np.where(
            hits > 0, (hits + 1) / (len(pooled) + 1), tail_p(edge, pooled if sign > 0 else -pooled[::-1])
        )
        beyond = null[:, None, :] >= edge[..., None] if sign > 0 else null[:, None, :] <= -edge[..., None]
        count = np.count_nonzero(beyond, axis=2)
        both[side] = np.where(count >= OWN_EXCEEDANCES, (count + 1) / (null.shape[1] + 1), shared)
    return np.minimum(2 * both.min(axis=0), 1.0)


def tail_p(z: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """P(null ≥ z) for z beyond all of the null's draws `ordered` (ascending), by a generalised Pareto tail.

    The tail is fitted to the largest draws (at most `TAIL_DRAWS` and 5% of them) by probability-weighted moments
    (Hosking & Wallis 1987, eq. 6; its use for permutation tests, Knijnenburg et al. 2009). Its shape is kept at 0
    (exponential) or above: studentised statistics have lighter tails than that, so the fit errs on the safe side, and
    a negative shape would claim that larger values are impossible. p is at most 1/(N + 1) and at least
    1/(`TAIL_REACH` · N): extrapolation further than that would be faith.
    """
    n = len(ordered)
    most = 1 / (n + 1)
    k = min(TAIL_DRAWS, n // 20)
    if k < 20:
        return np.full(z.shape, most)
    threshold = float(ordered[-k - 1])
    excess = ordered[-k:].astype(np.float64) - threshold
    mean = float(excess.mean())
    weighted = float(np.mean(excess * (k - np.arange(1, k + 1) + 0.35) / k))
    if mean <= 0 or mean <= 2 * weighted:
        return np.full(z.shape, most)
    shape = max(2 - mean / (mean - 2 * weighted), 0.0)
    beyond = np.maximum(z - threshold, 0.0)
    if shape > 1e-6:
        scale = 2 * mean * weighted / (mean - 2 * weighted)
        survival = np.power(1 + shape * beyond / scale, -1 / shape)
    else:
        survival = np.exp(-beyond / mean)
    return np.clip(k / n * survival, 1 / (TAIL_REACH * n), most)
