"""The texts as vectors that no model under study has a part in: TF-IDF of their words, reduced by LSA.

Coherence in the activations alone is circular: a feature is a direction of that space, and texts that lie along it
lie together in it. Whether the same texts also share words is another question, asked of another space.

Words, alone and in pairs, rather than pieces of words: pieces of three to five characters are shared through endings,
hence through grammar, and in Devanagari they cut between a letter and its vowel sign. How a text is cut into words is
the caller's part, because a pattern that is right for both scripts belongs to the languages, not to this room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

DIMENSIONS = 128
MAX_TERMS = 200_000


def tfidf_space(
    texts: Sequence[str],
    fit_rows: np.ndarray,
    words: Callable[[str], list[str]],
    seed: int = 0,
    dimensions: int = DIMENSIONS,
) -> np.ndarray | None:
    """float32 `[n_texts, ≤ dimensions]`; None where the texts of `fit_rows` share no term at all.

    fit_rows: the training texts: terms, their weights and the axes come from these alone, so that no held-out text
              has shaped the space in which it is judged
    words:    a text's words in order

    Terms are words and pairs of neighbouring words in at least two of those texts. A text's weights are
    (1 + ln tf) · (1 + ln((1 + n)/(1 + df))), of unit norm (Salton & Buckley 1988; scikit-learn's smooth idf); LSA
    (Deerwester et al. 1990) keeps the axes of the largest singular values. A text without a known term is a row of
    zeros, and its cosines are 0.
    """

    def terms(text: str) -> list[str]:
        return _with_pairs(words(text))

    vectorizer: Any = TfidfVectorizer(
        analyzer=cast("Any", terms), sublinear_tf=True, min_df=2, max_features=MAX_TERMS
    )
    try:
        fitted = sparse.csr_matrix(vectorizer.fit_transform([texts[row] for row in fit_rows.tolist()]))
    except ValueError:  # scikit-learn's word for no terms
        return None
    n_texts, n_terms = cast("tuple[int, int]", fitted.shape)
    kept = min(dimensions, n_texts - 1, n_terms - 1)
    if kept < 1:
        return None
    svd = TruncatedSVD(kept, random_state=seed % 2**32).fit(fitted)
    return np.asarray(svd.transform(vectorizer.transform(texts)), dtype=np.float32)


def _with_pairs(words: list[str]) -> list[str]:
    return words + [f"{first} {second}" for first, second in pairwise(words)]
