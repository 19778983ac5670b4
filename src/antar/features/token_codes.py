"""A text's code where activations are one row a token: its tokens are encoded, and their codes pooled.

With tokens x_1 … x_T of a text and z(x) their codes, latent j's value for the text is

    mean:  z̄_j = (1/T) Σ_t z_j(x_t)      the length that j adds to the mean of the text's tokens
    max:   max_t z_j(x_t)                  its strongest token

Tokens that do not fire j count as 0 in both. The mean is what `mean` pooling of reconstructions gives: decoded, z̄ is
the mean of the tokens' reconstructions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from antar.core.sparse import SparseCodes
from antar.features.codes import Encoder, concatenate

TokenPooling = Literal["mean", "max"]
ENTRIES = 2**21
"""Firings of tokens that are pooled at once; a batch has as many tokens as may fire so often."""


def encode_texts(
    dictionary: Encoder, blocks: Iterable[tuple[np.ndarray, np.ndarray]], pooling: TokenPooling, k: int
) -> SparseCodes:
    """The codes of texts, one after another.

    blocks: (offsets int64 `[texts + 1]`, raw token rows float32 `[rows, d_model]`), whole texts
    k: latents that fire on a token, or thereabouts: it sizes the batches
    """
    parts = [
        _pooled_block(dictionary, offsets, acts_nd, pooling, max(1, ENTRIES // k)) for offsets, acts_nd in blocks
    ]
    return concatenate(parts)


def pool_codes(tokens: SparseCodes, offsets: np.ndarray, pooling: TokenPooling) -> SparseCodes:
    """The codes of texts whose tokens' codes are `tokens[offsets[i]:offsets[i + 1]]`, strongest first."""
    fired = tokens.values_nk > 0
    text_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    key = np.repeat(text_of, fired.sum(axis=1)) * tokens.n_latents + tokens.indices_nk[fired]
    value = tokens.values_nk[fired].astype(np.float64)
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    add = np.add if pooling == "mean" else np.maximum
    pooled = add.reduceat(value, starts) if len(starts) else value
    text, latent = np.divmod(key[starts], tokens.n_latents)
    if pooling == "mean":
        pooled = pooled / np.diff(offsets)[text]
    counts = np.bincount(text, minlength=len(offsets) - 1)
    order = np.lexsort((-pooled, text))
    return SparseCodes.of_flat(latent[order], pooled[order], counts, tokens.n_latents)


def _pooled_block(
    dictionary: Encoder, offsets: np.ndarray, acts_nd: np.ndarray, pooling: TokenPooling, most_rows: int
) -> SparseCodes:
    """A block, some whole texts at a time; a text of more than `most_rows` tokens alone."""
    parts: list[SparseCodes] = []
    lo, n_texts = 0, len(offsets) - 1
    while lo < n_texts:
        hi = int(np.searchsorted(offsets, offsets[lo] + most_rows, side="right")) - 1
        hi = min(max(hi, lo + 1), n_texts)
        tokens = dictionary.encode(acts_nd[offsets[lo] : offsets[hi]])
        parts.append(pool_codes(tokens, offsets[lo : hi + 1] - offsets[lo], pooling))
        lo = hi
    return concatenate(parts)
