"""The texts that fire a feature most, and which texts may serve for what.

Codes are read part by part (`CodeSource`), so what is in memory does not grow with the texts. The top texts are found
exactly, in one pass over the codes as they are stored: each latent keeps a short sorted list,
and a firing that does not exceed the last of a full list costs one comparison. That pass is compiled (Numba). Without
Numba the same result comes from the column-compressed codes, one partition a latent, in over ten times the time and
five times the codes' memory (benchmarks/top_examples.py).
"""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl

from antar.core.jit import have_numba
from antar.core.sites import DictionaryId, feature_id
from antar.core.sparse import CodeSource, SparseCodes
from antar.corpora.schema import MASKED_OF
from antar.features.readings import first_readings, stronger_readings

POOLS = ("select", "estimate")
"""What a labeller may see, and what validates: the two halves of the documents."""


_EXAMPLE_COLUMNS = {"feature": pl.String, "dictionary": pl.String, "latent": pl.Int64, "rank": pl.Int64,
                    "row": pl.Int64, "text_id": pl.String, "activation": pl.Float32, "pool": pl.String}  # fmt: skip


def top_examples(
    codes: CodeSource, n: int = 20, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The `n` strongest texts of each latent: `(latents, ranks, rows, values)`, one entry an example.

    Sorted by latent, then rank (0-based). Only firings count, so a latent that fires on fewer than `n` texts has
    fewer examples. Ties go to the earlier row. `rows` (index or boolean `[n_texts]`) restricts the texts; the rows
    that come back still index `codes`.
    """
    if n < 1:
        raise ValueError(f"n: expected at least one example a latent, found {n}")
    all_rows = np.arange(len(codes), dtype=np.int64)
    kept = all_rows if rows is None else np.sort(all_rows[rows])
    top = (_CompiledTop if have_numba() else _NumpyTop)(codes.n_latents, min(n, max(len(kept), 1)))
    for first, part in codes.parts():
        lo, hi = np.searchsorted(kept, (first, first + len(part)))
        if hi > lo:
            top.add(part, kept[lo:hi] - first, first)
    counts, chosen_rows, chosen_values = top.found()
    latents = np.repeat(np.arange(codes.n_latents), counts)
    ranks = np.arange(len(chosen_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return latents, ranks, chosen_rows, chosen_values


class _CompiledTop:
    """The `n` strongest firings of each latent among the texts that were added."""

    def __init__(self, n_latents: int, n: int) -> None:
        self._values_ln = np.empty((n_latents, n), dtype=np.float32)
        self._rows_ln = np.empty((n_latents, n), dtype=np.int64)
        self._counts_l = np.zeros(n_latents, dtype=np.int64)
        self._bar_l = np.zeros(n_latents, dtype=np.float32)

    def add(self, codes: SparseCodes, kept: np.ndarray, first: int) -> None:
        """kept: rows of `codes`, ascending; first: what its row 0 is called. Parts come in the order of the texts."""
        from antar.features.kernels import keep_strongest

        best = self._values_ln, self._rows_ln, self._counts_l, self._bar_l
        if not keep_strongest(codes.indices_nk, codes.values_nk, kept, first, *best):
            raise ValueError(f"codes: expected latents from 0 to {codes.n_latents - 1}, found another")

    def found(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(counts, rows, values): how many examples each latent has, and those, latent by latent."""
        filled = np.arange(self._rows_ln.shape[1]) < self._counts_l[:, None]
        return self._counts_l, self._rows_ln[filled], self._values_ln[filled]


class _NumpyTop:
    """What `_CompiledTop` does, without Numba: its fallback, and its twin in the tests.

    A firing and its row are packed into one integer, so that one partition of a column finds the strongest texts with
    ties broken by row. Memory is that of a part's codes.
    """

    def __init__(self, n_latents: int, n: int) -> None:
        self._n = n
        self._best = [np.empty(0, np.uint64)] * n_latents

    def add(self, codes: SparseCodes, kept: np.ndarray, first: int) -> None:
        matrix = codes.rows(kept).csc()
        values = np.asarray(matrix.data, dtype=np.float32)
        # Positive floats sort as their bits do; inverted, the smallest key is the strongest, earliest text.
        strength = ~values.view(np.uint32)
        keys = (strength.astype(np.uint64) << np.uint64(32)) | (kept[matrix.indices] + first).astype(np.uint64)
        for latent, (lo, hi) in enumerate(itertools.pairwise(matrix.indptr)):
            column = np.concatenate([self._best[latent], keys[lo:hi]]) if len(self._best[latent]) else keys[lo:hi]
            self._best[latent] = column if len(column) <= self._n else np.partition(column, self._n - 1)[: self._n]

    def found(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = np.array([len(column) for column in self._best], dtype=np.int64)
        chosen = np.concatenate([*(np.sort(column) for column in self._best), np.empty(0, np.uint64)])
        chosen_values = (~(chosen >> np.uint64(32)).astype(np.uint32)).view(np.float32)
        return counts, (chosen & np.uint64(0xFFFFFFFF)).astype(np.int64), chosen_values


def examples_frame(dictionary: DictionaryId, codes: CodeSource, texts: pl.DataFrame, n: int = 20) -> pl.DataFrame:
    """The rows of `examples.parquet` for one dictionary: the top `n` texts of each latent in each pool.

    texts: in row order, with `text_id`, `half` ("select" | "estimate", by document), `group` and `split`. The pool
    `estimate` judges, so it holds only texts that no dictionary was trained on. Neither holds a cross-check's texts.
    Of a text that is read twice the stronger reading alone is an example.
    """
    codes = stronger_readings(codes, first_readings(texts))
    half = texts["half"].to_numpy()
    text_ids = texts["text_id"]
    names = pl.Series([feature_id(dictionary, latent) for latent in range(codes.n_latents)], dtype=pl.String)
    frames: list[pl.DataFrame] = []
    for pool in POOLS:
        allowed = ~crosscheck_rows(texts) if pool == "select" else contrast_rows(texts)
        chosen = (half == pool) & allowed
        latents, ranks, rows, values = top_examples(codes, n, np.flatnonzero(chosen))
        frames.append(
            pl.DataFrame(
                {
                    "feature": names.gather(latents),
                    "dictionary": [str(dictionary)] * len(latents),
                    "latent": latents.astype(np.int64),
                    "rank": ranks.astype(np.int64),
                    "row": rows,
                    "text_id": text_ids.gather(rows),
                    "activation": values,
                    "pool": [pool] * len(latents),
                },
                schema=_EXAMPLE_COLUMNS,
            )
        )
    return pl.concat(frames)


def contrast_rows(texts: pl.DataFrame) -> np.ndarray:
    """bool `[n_texts]`: the texts that contrasts may use: held-out cultural texts, and controls not trained on.

    The published preset trains on cultural texts only, so there its controls are all unseen, whatever split name
    they carry; where controls are trained on too, those of the training split stay out.
    """
    group, split = texts["group"].to_numpy(), texts["split"].to_numpy()
    return np.where(group == "cultural", split == "heldout", (split != "train") & (split != "crosscheck"))


def crosscheck_rows(texts: pl.DataFrame) -> np.ndarray:
    """bool `[n_texts]`: the texts of a cross-check, masked copies too. They are in no contrast but their own facets',
    in no example, and decide nothing about which features live."""
    return (texts["split"] == "crosscheck").to_numpy()


def facet_rows(texts: pl.DataFrame, column: str) -> np.ndarray:
    """bool `[n_texts]`: the texts that the `facet` contrast of `column` compares: cultural ones that have a value.

    They are the contrasts' own texts. A column that only a cross-check has (DOSA's `state`) is measured among the
    cross-check's texts, without the masked copies.
    """
    valued = ((texts["group"] == "cultural") & texts[column].is_not_null()).to_numpy()
    own = valued & contrast_rows(texts)
    if (valued & ~crosscheck_rows(texts)).any():
        return own
    copies = texts[MASKED_OF].is_not_null().to_numpy() if MASKED_OF in texts.columns else np.zeros(len(valued), bool)
    return valued & crosscheck_rows(texts) & ~copies
