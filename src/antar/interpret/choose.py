"""In what order a dictionary's live features are taken, where not all are: at random, by effect, by coherence.

Effect and coherence are read off the select half, so that the texts which later judge a feature did not choose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from antar.core.seeds import derive_seed
from antar.core.sparse import SparseCodes
from antar.features.examples import crosscheck_rows
from antar.interpret.words import tokens

How = Literal["live", "effect", "coherence", "all"]


def choose_order(
    latents: Mapping[str, int],
    how: How,
    *,
    seed: int,
    codes: SparseCodes,
    texts: pl.DataFrame,
    examples: pl.DataFrame,
) -> list[str]:
    """The features of `latents` (feature → latent), best first; ties in the order of a seeded draw.

    codes: a row a text of `texts`; examples: those of these features.
    """
    if how == "all":
        return list(latents)
    # Each feature has its own place in the draw, whatever others there are.
    drawn = sorted(latents, key=lambda feature: derive_seed(seed, "interpret", "choose", feature))
    if how == "live":
        return drawn
    if how == "effect":
        size_l = culture_effects(codes, texts)
        return sorted(drawn, key=lambda feature: -size_l[latents[feature]])
    alike = word_coherence(drawn, texts, examples)
    return sorted(drawn, key=lambda feature: -alike[feature])


def culture_effects(codes: SparseCodes, texts: pl.DataFrame) -> np.ndarray:
    """float64 `[n_latents]`: |d_av| between cultural and control texts of the select half.

    d_av is the difference of means over the root of the mean of the two variances (Lakens 2013), within each language
    that has two texts of each group; languages count alike. 0 where nothing varies.
    """
    csr = codes.csc().tocsr()
    select_t = (texts["half"] == "select").to_numpy() & ~crosscheck_rows(texts)
    cultural_t = (texts["group"] == "cultural").to_numpy()
    found: list[np.ndarray] = []
    for language in sorted(texts["language"].unique()):
        its_t = select_t & (texts["language"] == language).to_numpy()
        groups = [np.flatnonzero(its_t & cultural_t), np.flatnonzero(its_t & ~cultural_t)]
        if min(map(len, groups)) >= 2:
            (mean_a, var_a), (mean_b, var_b) = (_moments(csr[rows]) for rows in groups)
            sd = np.sqrt((var_a + var_b) / 2)
            found.append(np.divide(mean_a - mean_b, sd, out=np.zeros_like(sd), where=sd > 1e-12))
    return np.abs(np.mean(found, axis=0)) if found else np.zeros(codes.n_latents)


def _moments(rows: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of each column, zeros counted."""
    n = len(rows.indptr) - 1
    mean = np.asarray(rows.sum(axis=0), dtype=np.float64).ravel() / n
    squares = np.asarray(rows.astype(np.float64).power(2).sum(axis=0)).ravel()
    return mean, np.maximum(squares - n * mean**2, 0.0) / (n - 1)


def word_coherence(features: Sequence[str], texts: pl.DataFrame, examples: pl.DataFrame) -> dict[str, float]:
    """feature → mean cosine of TF-IDF between its select-half examples; 0 with fewer than two."""
    pool = examples.filter(pl.col("pool") == "select")
    used = np.unique(pool["row"].to_numpy())
    if not len(used):
        return dict.fromkeys(features, 0.0)
    shown = texts["text"].gather(used).to_list()
    vectorizer: Any = TfidfVectorizer(analyzer=cast("Any", tokens), sublinear_tf=True)
    vectors = sparse.csr_array(vectorizer.fit_transform(shown))
    by_feature = {
        str(feature): np.searchsorted(used, part["row"].to_numpy())
        for (feature,), part in pool.partition_by("feature", as_dict=True).items()
    }
    return {feature: _mean_cosine(vectors, by_feature.get(feature)) for feature in features}


def _mean_cosine(vectors: sparse.csr_array, rows: np.ndarray | None) -> float:
    if rows is None or len(rows) < 2:
        return 0.0
    # The sum of unit vectors has in its square every pair twice, and each vector with itself.
    total = np.asarray(vectors[rows].sum(axis=0)).ravel()
    own = float(np.asarray(vectors[rows].power(2).sum()))
    n = len(rows)
    return float((total @ total - own) / (n * (n - 1)))
