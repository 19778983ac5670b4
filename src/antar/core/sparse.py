"""Sparse codes: for each text the latents that fired and how strongly, never a dense `[n_texts, n_latents]`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from antar.core.errors import UserError


class CodeSource(Protocol):
    """Codes of n texts that need not be in memory at once."""

    @property
    def n_latents(self) -> int: ...

    def __len__(self) -> int: ...

    def parts(self) -> Iterator[tuple[int, SparseCodes]]:
        """(first text, codes of consecutive texts from there on), in the order of the texts."""
        ...


@dataclass(frozen=True)
class SparseCodes:
    """The codes of n texts under one dictionary.

    indices_nk: int32 `[n, k]`, the latents of each text
    values_nk:  float32 `[n, k]`, their strengths, ≥ 0; a value of 0 means that the latent did not fire, or fills up a
                row that has fewer than k: then its index means nothing. Latents that fire are distinct within a row
    n_latents:  the width of the dictionary
    """

    indices_nk: np.ndarray
    values_nk: np.ndarray
    n_latents: int

    def __len__(self) -> int:
        return len(self.indices_nk)

    def check(self, name: str, first: int = 0) -> None:
        """Raise a UserError, which calls these codes `name` and their first text `first`, unless every value is
        finite and at least 0 and every latent that fires is one of `n_latents`. Compiled loops index by them without
        looking."""
        if self.indices_nk.shape != self.values_nk.shape or self.indices_nk.ndim != 2:
            raise UserError(
                f"{name}: expected indices and values [n, k] of one shape, found {self.indices_nk.shape} and "
                f"{self.values_nk.shape}"
            )
        bad = ~(np.isfinite(self.values_nk) & (self.values_nk >= 0))
        if bad.any():
            row, place = np.argwhere(bad)[0]
            raise UserError(
                f"{name}: expected finite values of at least 0, found {self.values_nk[row, place]} in text "
                f"{first + row}, latent {self.indices_nk[row, place]}"
            )
        out = ((self.indices_nk < 0) | (self.indices_nk >= self.n_latents)) & (self.values_nk > 0)
        if out.any():
            row, place = np.argwhere(out)[0]
            found = self.indices_nk[row, place]
            raise UserError(
                f"{name}: expected latents 0 to {self.n_latents - 1}, found {found} in text {first + row}"
            )

    @classmethod
    def of_flat(cls, indices: np.ndarray, values: np.ndarray, counts: np.ndarray, n_latents: int) -> SparseCodes:
        """From the latents and strengths of all texts one after another; `counts` of them belong to each text."""
        k = max(1, int(counts.max(initial=0)))
        text = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(text)) - np.repeat(np.cumsum(counts, dtype=np.int64) - counts, counts)
        indices_nk, values_nk = np.zeros((len(counts), k), np.int32), np.zeros((len(counts), k), np.float32)
        indices_nk[text, place], values_nk[text, place] = indices, values
        return cls(indices_nk, values_nk, n_latents)

    def maximum(self, other: SparseCodes) -> SparseCodes:
        """For each text and latent the stronger of two codes of the same texts under one dictionary."""
        both = self.csr().maximum(other.csr()).tocsr()
        return SparseCodes.of_flat(both.indices, both.data, np.diff(both.indptr), self.n_latents)

    def parts(self) -> Iterator[tuple[int, SparseCodes]]:
        """All of them, as the one part of a `CodeSource`."""
        yield 0, self

    def rows(self, rows: np.ndarray) -> SparseCodes:
        """The codes of some texts: `rows` is an index or boolean array."""
        return SparseCodes(self.indices_nk[rows], self.values_nk[rows], self.n_latents)

    def csr(self) -> sparse.csr_array:
        """float32 `[n, n_latents]`, without the stored zeros."""
        n, k = self.indices_nk.shape
        fired = self.values_nk.ravel() > 0
        offsets = np.concatenate([[0], np.cumsum(fired.reshape(n, k).sum(axis=1))]) if n else np.zeros(1)
        matrix = sparse.csr_array(
            (self.values_nk.ravel()[fired], self.indices_nk.ravel()[fired], offsets.astype(np.int64)),
            shape=(n, self.n_latents),
        )
        matrix.sort_indices()
        return matrix

    def csc(self) -> sparse.csc_array:
        """float32 `[n, n_latents]` by latent: the layout for everything that asks about features."""
        return self.csr().tocsc()

    def firing_counts(self) -> np.ndarray:
        """int64 `[n_latents]`: how many of the texts fire each latent."""
        return np.bincount(self.indices_nk[self.values_nk > 0], minlength=self.n_latents)
