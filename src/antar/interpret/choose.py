"""Which features of a dictionary are worth an LLM's time: an order of them, of which the first are taken.

`live` is a random sample, so that criterion 3 is not measured on the best. The other orders pick features that are
likely to be of interest; they look at the select half only, so that what they pick is not measured on what picked it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import polars as pl
from scipy import sparse

from antar.core.seeds import derive_seed
from antar.core.sparse import SparseCodes
from antar.features.examples import crosscheck_rows
from antar.features.readings import first_readings
from antar.interpret.words import normalise, tokens

LEAST_IN_GROUP = 2
"""A language counts for the effect when it has so many texts of each group: fewer have no variance."""


def choose_order(
    latents: Mapping[str, int],
    how: Literal["live", "effect", "coherence", "all"],
    *,
    seed: int,
    codes: SparseCodes,
    texts: pl.DataFrame,
    examples: pl.DataFrame,
) -> list[str]:
    """The features (feature → latent) of one dictionary, those to take first first.

    texts: the run's, a row for each row of `codes`; examples: the run's, of any dictionaries. Each feature has its
    own place in the random order, so that a higher cap only adds features; the same order breaks ties.
    """
    if how == "all":
        return list(latents)
    seeded = sorted(latents, key=lambda feature: derive_seed(seed, "interpret", "choose", feature))
    if how == "live":
        return seeded
    if how == "effect":
        effects = effect_sizes(codes, texts)
        value = {feature: float(effects[latent]) for feature, latent in latents.items()}
    else:
        value = word_coherence(seeded, texts, examples)
    # Rounded, so that the order does not hang on the last bit of a sum.
    return sorted(seeded, key=lambda feature: -round(value.get(feature, 0.0), 9))


def _select_rows(texts: pl.DataFrame) -> np.ndarray:
    return (texts["half"] == "select").to_numpy() & ~crosscheck_rows(texts)


def effect_sizes(codes: SparseCodes, texts: pl.DataFrame) -> np.ndarray:
    """float64 `[n_latents]`: |d_av| of cultural against control texts of the select half, the mean over languages.

    d_av = (mean of one group − mean of the other) / √((variance of one + variance of the other) / 2) in each
    language, 0 where both variances are 0. Also 0 when no language has enough texts of both groups.
    """
    values: Any = codes.csr().astype(np.float64)
    select_t = _select_rows(texts)
    group, language = texts["group"].to_numpy(), texts["language"].to_numpy()
    effects: list[np.ndarray] = []
    for name in sorted(set(language[select_t].tolist())):
        its = select_t & (language == name)
        cultural, control = its & (group == "cultural"), its & (group == "control")
        if min(cultural.sum(), control.sum()) < LEAST_IN_GROUP:
            continue
        mean_a, variance_a = _moments(values, control)
        mean_b, variance_b = _moments(values, cultural)
        sd = np.sqrt((variance_a + variance_b) / 2)
        effects.append(np.where(sd > 0, (mean_b - mean_a) / np.where(sd > 0, sd, 1), 0.0))
    return np.abs(np.mean(effects, axis=0)) if effects else np.zeros(codes.n_latents)


def _moments(values: Any, rows_t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance (n − 1) of each latent (CSR `values`) over some texts, zeros included."""
    its = values[np.flatnonzero(rows_t)]
    n = int(rows_t.sum())
    total = np.asarray(its.sum(axis=0)).ravel()
    squares = np.asarray(its.multiply(its).sum(axis=0)).ravel()
    spread = squares - total**2 / n
    # A latent that is constant in a group leaves float dust here, over which an effect would be huge.
    return total / n, np.where(spread > 1e-12 * squares, spread, 0.0) / (n - 1)


def word_coherence(features: list[str], texts: pl.DataFrame, examples: pl.DataFrame) -> dict[str, float]:
    """feature → the mean TF-IDF cosine over pairs of its distinct select-half examples; 0 with fewer than two.

    Terms are words in at least two texts of the select half, with weights as in `features.text_space`; no LSA, for a
    pair of texts needs no common axes.
    """
    place = {feature: i for i, feature in enumerate(features)}
    first_t = first_readings(texts)
    # One row a text: a word that a single text holds is not shared because that text is read twice.
    select = np.flatnonzero(_select_rows(texts) & (first_t == np.arange(texts.height)))
    shown = examples.filter((pl.col("pool") == "select") & pl.col("feature").is_in(features))
    shown = shown.with_columns(row=first_t[shown["row"].to_numpy()]).filter(pl.col("row").is_in(select))
    row_t = shown["row"].to_numpy()
    column = texts["text"].to_list()
    key_of: dict[str, int] = {}
    keys = {row: key_of.setdefault(normalise(column[row]), row) for row in np.unique(row_t).tolist()}
    # The same text under two documents is one example: it is alike to itself for no reason of the feature's.
    pairs = sorted({(place[name], keys[row]) for name, row in zip(shown["feature"], row_t.tolist(), strict=True)})
    vectors = _tfidf([column[row] for row in select.tolist()])
    if vectors is None or not pairs:
        return dict.fromkeys(features, 0.0)
    feature_e, row_e = np.array(pairs, dtype=np.int64).T
    members = sparse.csr_array(
        (np.ones(len(pairs)), (feature_e, np.searchsorted(select, row_e))), shape=(len(features), len(select))
    )
    # Σ over ordered pairs of u·v is |Σu|² − Σ|u|².
    sums: Any = members @ vectors
    norms = np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()
    n = np.bincount(feature_e, minlength=len(features))
    between = np.asarray(sums.multiply(sums).sum(axis=1)).ravel() - members @ norms
    means = between / np.maximum(n * (n - 1), 1)
    return dict(zip(features, means.tolist(), strict=True))


def _tfidf(texts: list[str]) -> Any:
    """csr_array `[n_texts, n_terms]` with rows of unit norm, or of zeros for a text without a known term.

    None when no term is in two texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer  # half a second that only this waits for

    vectorizer: Any = TfidfVectorizer(analyzer=cast("Any", tokens), sublinear_tf=True, min_df=2)
    try:
        return sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # scikit-learn's word for no terms
        return None
