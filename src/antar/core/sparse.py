"""Sparse codes: for each text the latents that fired and how strongly, never a dense `[n_texts, n_latents]`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class SparseCodes:
    """The codes of n texts under one dictionary.

    indices_nk: int32 `[n, k]`, the latents of each text; distinct within a row
    values_nk:  float32 `[n, k]`, their strengths, ≥ 0; a value of 0 means that the latent did not fire
    n_latents:  the width of the dictionary
    """

    indices_nk: np.ndarray
    values_nk: np.ndarray
    n_latents: int

    def __len__(self) -> int:
        return len(self.indices_nk)

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
