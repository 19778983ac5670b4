"""Sums of code values over documents, kept sparse.

A *unit* is a document (or a document's texts of one group): what is shuffled, and what a standard error counts. A
*cell* is a (latent, unit) pair in which the latent fires. Every statistic of a contrast is a sum over cells, so its
cost follows the number of firings and no `[n_texts, n_latents]` array is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import sparse

from antar.core.jit import have_numba
from antar.core.sparse import SparseCodes


@dataclass(frozen=True)
class Entries:
    """Non-zero values of texts, sorted by latent, then text.

    latent, row: int64 `[e]`; `row` indexes the texts of the comparison
    a, b:        float64 `[e]`: the values on the two sides of a pair; an unpaired comparison has its values in `b`
                 and zeros in `a`
    """

    latent: np.ndarray
    row: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @property
    def change(self) -> np.ndarray:
        return self.b - self.a


def entries_of(codes: SparseCodes, other: SparseCodes | None = None) -> Entries:
    """The entries of `codes` (as `b`); with `other`, a code of the same texts, paired with it (as `a`)."""
    return entries_of_matrices(codes.csr(), None if other is None else other.csr())


def entries_of_matrices(codes: sparse.csr_array, other: sparse.csr_array | None = None) -> Entries:
    """`entries_of` of `[texts, latents]`, without stored zeros."""
    latent, row, value = _coordinates(codes)
    if other is None:
        return Entries(latent, row, np.zeros_like(value), value)
    other_latent, other_row, other_value = _coordinates(other)
    n_rows = max(_shape(codes)[0], 1)
    keys, place = np.unique(
        np.concatenate([latent * n_rows + row, other_latent * n_rows + other_row]), return_inverse=True
    )
    a, b = np.zeros(len(keys)), np.zeros(len(keys))
    b[place[: len(value)]] = value
    a[place[len(value) :]] = other_value
    return Entries(keys // n_rows, keys % n_rows, a, b)


def _shape(matrix: sparse.csr_array) -> tuple[int, int]:
    return cast("tuple[int, int]", matrix.shape)  # scipy's stubs do not know that it has two axes


def _coordinates(codes: sparse.csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrix = codes.tocsc()
    latent = np.repeat(np.arange(_shape(codes)[1], dtype=np.int64), np.diff(matrix.indptr))
    return latent, matrix.indices.astype(np.int64), matrix.data.astype(np.float64)


@dataclass(frozen=True)
class Cells:
    """Sums over the texts of each (latent, unit), sorted by latent, then unit.

    latent, unit: int64 `[c]`
    sums:         name → float64 `[c]`
    n_latents, n_units: the ranges of `latent` and `unit`
    """

    latent: np.ndarray
    unit: np.ndarray
    sums: dict[str, np.ndarray]
    n_latents: int
    n_units: int

    @property
    def starts(self) -> np.ndarray:
        """int64 `[n_latents + 1]`, where each latent's cells start."""
        return np.searchsorted(self.latent, np.arange(self.n_latents + 1)).astype(np.int64)

    def by_latent(self, values: np.ndarray) -> np.ndarray:
        """Sum of `values` `[c]` over the units of each latent: `[n_latents]`."""
        return np.bincount(self.latent, values, minlength=self.n_latents)

    def by_group(self, values: np.ndarray, labels: np.ndarray, n_groups: int) -> np.ndarray:
        """Sum of `values` `[c]` by latent and by the label of the unit (`[n_units]`): `[n_latents, n_groups]`."""
        place = self.latent * n_groups + labels[self.unit]
        return np.bincount(place, values, minlength=self.n_latents * n_groups).reshape(self.n_latents, n_groups)

    def matrix(self, values: np.ndarray) -> sparse.csr_array:
        """`values` as float64 `[n_latents, n_units]`."""
        return sparse.csr_array((values, self.unit, self.starts), shape=(self.n_latents, self.n_units))


def sum_over_units(
    latent: np.ndarray, unit: np.ndarray, columns: dict[str, np.ndarray], n_latents: int, n_units: int
) -> Cells:
    """Add up the `columns` of entries that share latent and unit."""
    key = latent * n_units + unit
    if len(key) and not (np.diff(key) > 0).all():
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(key) > 0]))
        columns = {name: np.add.reduceat(values[order], starts) for name, values in columns.items()}
        key = key[starts]
    return Cells(key // max(n_units, 1), key % max(n_units, 1), columns, n_latents, n_units)


def order_by_latent(latent: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The order by latent, then value. Compiled, it sorts each latent by itself, which many short sorts favour."""
    if not have_numba() or len(latent) == 0:
        return np.lexsort((value, latent))
    from antar.features.kernels import order_within

    first = np.arange(len(latent)) if (np.diff(latent) >= 0).all() else np.argsort(latent, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(latent))]).astype(np.int64)
    within = np.empty(len(latent), dtype=np.int64)
    order_within(starts, value[first], within)
    return first[within]


def average_ranks(
    latent: np.ndarray, value: np.ndarray, n_latents: int, n_values: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks among all `n_values` values of each latent, of which only the listed ones differ from zero.

    Returns the rank of each listed value `[e]` and the rank of a zero `[n_latents]`; ranks start at 1 and ties share
    their average, so a rank sum gives the exact Mann–Whitney U. Listed values may be negative or zero.
    """
    order = order_by_latent(latent, value)
    sorted_latent, sorted_value = latent[order], value[order]
    listed = np.bincount(latent, minlength=n_latents)
    negative = np.bincount(latent[value < 0], minlength=n_latents)
    listed_zero = np.bincount(latent[value == 0], minlength=n_latents)
    zeros = n_values - listed + listed_zero
    starts = np.cumsum(listed) - listed
    position = np.arange(len(order)) - starts[sorted_latent] + 1.0
    # Values above zero come after the zeros that are not listed.
    position += np.where(sorted_value > 0, (n_values - listed)[sorted_latent], 0)
    new_run = np.concatenate([[True], (np.diff(sorted_latent) != 0) | (np.diff(sorted_value) != 0)])[: len(order)]
    run = np.cumsum(new_run) - 1
    shared = np.bincount(run, position) / np.bincount(run) if len(order) else position
    zero_rank = negative + (zeros + 1) / 2
    ranks = np.empty(len(order))
    ranks[order] = np.where(sorted_value == 0, zero_rank[sorted_latent], shared[run])
    return ranks, zero_rank
