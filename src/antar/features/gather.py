"""The codes that one comparison needs, taken out of all codes a part and some latents at a time.

Latents are measured one by one, so they may be taken in blocks, and only a block's firings on the compared texts are
in memory. A study's codes are usually one block; those of texts pooled over tokens, in which most latents may fire,
are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from antar.core.sparse import CodeSource
from antar.features.cells import Entries, entries_of_matrices
from antar.features.designs import Design

ENTRIES_AT_ONCE = 2**22
"""Firings, of both sides, that are measured at once: about a gigabyte with everything that is made of them."""


@dataclass(frozen=True)
class Survey:
    """firing_n: int64 `[n_latents]`, firings on the compared texts; typical: root mean square of the values of all
    texts that fired, 0 where none did."""

    firing_n: np.ndarray
    typical: float

    @classmethod
    def of(cls, codes: CodeSource, rows: np.ndarray) -> Survey:
        compared = np.zeros(len(codes), bool)
        compared[rows] = True
        firing_n = np.zeros(codes.n_latents, np.int64)
        squares, count = 0.0, 0
        for first, part in codes.parts():
            firing_n += part.rows(compared[first : first + len(part)]).firing_counts()
            fired = part.values_nk[part.values_nk > 0].astype(np.float64)
            squares, count = squares + float(np.sum(fired**2)), count + len(fired)
        return cls(firing_n, float(np.sqrt(squares / count)) if count else 0.0)


def latent_blocks(latents: np.ndarray, firing_n: np.ndarray) -> list[np.ndarray]:
    """`latents` in runs with at most `ENTRIES_AT_ONCE` firings each (a latent with more is alone)."""
    blocks: list[np.ndarray] = []
    lo = 0
    ends = np.cumsum(firing_n[latents])
    while lo < len(latents):
        before = int(ends[lo - 1]) if lo else 0
        hi = max(int(np.searchsorted(ends, before + ENTRIES_AT_ONCE, side="right")), lo + 1)
        blocks.append(latents[lo:hi])
        lo = hi
    return blocks


def entries_in(
    designs: Sequence[Design], latents: np.ndarray, codes: CodeSource, before: CodeSource | None
) -> list[Entries]:
    """For each design the entries of `latents`, renumbered 0 … len(latents) − 1; `before`: side a of a pair."""
    after = _matrices(designs, latents, codes)
    if before is None:
        return [entries_of_matrices(one) for one in after]
    return [entries_of_matrices(*both) for both in zip(after, _matrices(designs, latents, before), strict=True)]


def _matrices(designs: Sequence[Design], latents: np.ndarray, codes: CodeSource) -> list[sparse.csr_array]:
    """float32 `[texts of the design, latents]` for each design."""
    place = np.full(codes.n_latents, -1, np.int32)
    place[latents] = np.arange(len(latents), dtype=np.int32)
    found = [_Growing(len(design.rows)) for design in designs]
    for first, part in codes.parts():
        for design, into in zip(designs, found, strict=True):
            lo, hi = np.searchsorted(design.rows, (first, first + len(part)))
            its = part.rows(design.rows[lo:hi] - first)
            fired = its.values_nk > 0
            column = np.where(fired, place[np.where(fired, its.indices_nk, 0)], -1)
            kept = column >= 0
            into.add(column[kept], its.values_nk[kept], kept.sum(axis=1))
    return [one.matrix(len(latents)) for one in found]


class _Growing:
    """Rows of a sparse matrix, added one part after another."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._columns: list[np.ndarray] = [np.empty(0, np.int32)]
        self._values: list[np.ndarray] = [np.empty(0, np.float32)]
        self._counts: list[np.ndarray] = [np.zeros(1, np.int64)]

    def add(self, columns: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
        self._columns.append(columns)
        self._values.append(values)
        self._counts.append(counts)

    def matrix(self, n_columns: int) -> sparse.csr_array:
        values, columns = np.concatenate(self._values), np.concatenate(self._columns)
        starts = np.cumsum(np.concatenate(self._counts), dtype=np.int64)
        return sparse.csr_array((values, columns, starts), shape=(self._n_rows, n_columns))
