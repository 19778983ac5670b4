"""One dictionary's features as this room reads them: which texts fire a latent, and which latents are near it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from antar.core.errors import UserError
from antar.core.sparse import SparseCodes
from antar.features.readings import stronger_readings


@dataclass(frozen=True)
class Firing:
    """Codes by latent, and the dictionary's decoder.

    rows, values: latent j fires in the texts `rows[offsets[j] : offsets[j + 1]]` with these strengths
    unit_ld:      float32 `[n_live, d_model]`, decoder rows of the live latents at unit length
    live_latents: int64 `[n_live]`, sorted: the latents that may be neighbours
    first_t:      int64 `[n_texts]`, the first row that reads the same text; None where each text is read once. `rows`
                  then hold a text's stronger reading only
    """

    rows: np.ndarray
    values: np.ndarray
    offsets: np.ndarray
    n_texts: int
    unit_ld: np.ndarray
    live_latents: np.ndarray
    first_t: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        name: str,
        codes: SparseCodes,
        decoder_nd: np.ndarray,
        live: np.ndarray,
        n_texts: int,
        first_t: np.ndarray | None = None,
    ) -> Firing:
        if len(codes) != n_texts:
            raise UserError(
                f"codes of {name}: expected {n_texts:,} rows, one a text, found {len(codes):,}; "
                "run `antar features` again"
            )
        if decoder_nd.shape[0] != codes.n_latents:
            raise UserError(
                f"decoder of {name}: expected {codes.n_latents:,} latents, found {decoder_nd.shape[0]:,}; "
                "run `antar features` again"
            )
        by_latent = (codes if first_t is None else stronger_readings(codes, first_t)).csc()
        live = np.sort(live)
        rows_ld = decoder_nd[live]
        unit_ld = rows_ld / np.maximum(np.linalg.norm(rows_ld, axis=1, keepdims=True), 1e-12)
        offsets = np.asarray(by_latent.indptr, dtype=np.int64)
        return cls(by_latent.indices.astype(np.int64), by_latent.data, offsets, n_texts, unit_ld, live, first_t)

    def texts_of(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that fire the latent and their strengths, strongest first, ties by row."""
        lo, hi = self.offsets[latent], self.offsets[latent + 1]
        rows, values = self.rows[lo:hi], self.values[lo:hi]
        order = np.lexsort((rows, -values))
        return rows[order], values[order]

    def first_rows_of(self, latent: int) -> np.ndarray:
        """The texts that fire the latent, each by the first row that reads it: comparable between latents."""
        rows = self.rows[self.offsets[latent] : self.offsets[latent + 1]]
        return rows if self.first_t is None else self.first_t[rows]

    def nearest(self, latent: int, count: int) -> np.ndarray:
        """The `count` live latents of the highest decoder cosine with this live one, nearest first."""
        here = int(np.searchsorted(self.live_latents, latent))
        cosines = self.unit_ld @ self.unit_ld[here]
        cosines[here] = -np.inf
        # Rounded, so that the order does not hang on the last bit of a matrix product.
        order = np.lexsort((self.live_latents, -np.round(cosines, 5)))
        return self.live_latents[order][: min(count, len(order) - 1)]

    def fires_any(self, latents: np.ndarray) -> np.ndarray:
        """bool `[n_texts]`: fires at least one of the latents, in whichever reading of the text."""
        fires = np.zeros(self.n_texts, dtype=bool)
        for latent in latents:
            its = self.rows[self.offsets[latent] : self.offsets[latent + 1]]
            fires[its if self.first_t is None else self.first_t[its]] = True
        return fires if self.first_t is None else fires[self.first_t]
