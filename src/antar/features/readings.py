"""Texts that are read twice, bare and in the chat template: what counts as one text.

Both readings are rows of the corpus, and where rows are compared as groups (contrasts, splits, shuffles) their common
document keeps them together. But a feature that fires on a text in both readings has fired on one text. The rule, for
whatever shows or asks about texts: of a text's readings only the stronger counts as firing, and a text is silent only
where no reading of it fires.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import polars as pl

from antar.core.sparse import CodeSource, SparseCodes
from antar.corpora.schema import READING_OF
from antar.features.codes import concatenate


def first_readings(texts: pl.DataFrame) -> np.ndarray:
    """int64 `[n_texts]`: the first row that reads the same text, which is the row itself where each is read once."""
    rows = np.arange(texts.height, dtype=np.int64)
    if READING_OF not in texts.columns:
        return rows
    _, first, place = np.unique(texts[READING_OF].to_numpy(), return_index=True, return_inverse=True)
    return first[place].astype(np.int64)


def is_first_reading(texts: pl.DataFrame) -> np.ndarray:
    """bool `[n_texts]`: true for one row of each text."""
    return first_readings(texts) == np.arange(texts.height)


@overload
def stronger_readings(codes: SparseCodes, first_n: np.ndarray) -> SparseCodes: ...


@overload
def stronger_readings(codes: CodeSource, first_n: np.ndarray) -> CodeSource: ...


def stronger_readings(codes: CodeSource, first_n: np.ndarray) -> CodeSource:
    """`codes` in which a latent fires on the stronger of a text's readings only; on the earlier where they are equal.

    first_n: int64 `[n_texts]`, as `first_readings` gives it. What gives way is a stored zero: the shape stays.
    """
    if np.array_equal(first_n, np.arange(len(codes))):
        return codes
    codes = concatenate([part for _, part in codes.parts()])  # a text's readings may lie in different shards
    row, place = np.nonzero(codes.values_nk > 0)
    values = codes.values_nk[row, place]
    pair = first_n[row] * codes.n_latents + codes.indices_nk[row, place]
    order = np.lexsort((row, -values, pair))
    weaker = order[1:][pair[order[1:]] == pair[order[:-1]]]
    kept_nk = codes.values_nk.copy()
    kept_nk[row[weaker], place[weaker]] = 0
    return SparseCodes(codes.indices_nk, kept_nk, codes.n_latents)
