"""Contrastive keywords: class-based TF-IDF of a feature's example texts against the corpus.

Source: M. Grootendorst, "BERTopic", 2022, arXiv 2203.05794, eq. 2: W(t, c) = tf(t, c) · log(1 + A / f(t)). Here a
class is the set of a feature's distinct example texts; tf is the share of them that hold the word, f the number of
corpus texts (select half) that hold it, A the mean number of words of a class. A word counts once a text, so that
one text that repeats itself makes no theme. Words must also be in several examples, and more common there than in
texts of the same languages, else the rarest word would always win.

Everything is sparse products: with S sets of e texts of w words the cost is O(S·e·w), in blocks of sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from antar.core.seeds import numpy_rng
from antar.interpret.config import KeywordConfig
from antar.interpret.corpus import LENGTH_BINS, SELECT, TextCorpus

NO_WORD = -1


@dataclass(frozen=True)
class Keywords:
    """Keywords of n sets.

    words_sm:   int64 `[n, most]`, word ids, strongest first, NO_WORD after the last
    support_sm: float64 `[n, most]`, the share of the set's texts that hold the word
    scores_sm:  float64 `[n, most]`, W(t, c)
    """

    words_sm: np.ndarray
    support_sm: np.ndarray
    scores_sm: np.ndarray


@dataclass(frozen=True)
class TextSets:
    """Sets of texts. Set s holds the texts `rows[offsets[s] : offsets[s + 1]]`, each once.

    of_set: int64 `[rows]`, the set that each row belongs to
    """

    rows: np.ndarray
    offsets: np.ndarray
    n_texts: int

    @classmethod
    def of(cls, sets: Sequence[np.ndarray], n_texts: int) -> TextSets:
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in sets])]).astype(np.int64)
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *sets]).astype(np.int64)
        return cls(rows, offsets, n_texts)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def of_set(self) -> np.ndarray:
        return np.repeat(np.arange(len(self)), self.sizes)

    def csr(self) -> sparse.csr_array:
        """int32 `[n_sets, n_texts]`: 1 where the text is in the set."""
        ones = np.ones(len(self.rows), dtype=np.int32)
        return sparse.csr_array((ones, self.rows, self.offsets), shape=(len(self), self.n_texts))


def _sums(matrix: sparse.csr_array, axis: int) -> np.ndarray:
    """int64: column sums (axis 0) or row sums (axis 1)."""
    return np.asarray(matrix.sum(axis=axis), dtype=np.int64).ravel()


@dataclass(frozen=True)
class KeywordModel:
    """What the select half knows about each word.

    idf_v:    float64 `[n_words]`, log(1 + A / f)
    share_lv: float64 `[n_languages, n_words]`, share of the language's texts that hold the word
    """

    corpus: TextCorpus
    config: KeywordConfig
    seed: int
    idf_v: np.ndarray
    share_lv: np.ndarray
    _nulls: dict[tuple[int, ...], np.ndarray] = field(
        default_factory=dict[tuple[int, ...], np.ndarray], repr=False, compare=False
    )

    @classmethod
    def fit(cls, corpus: TextCorpus, config: KeywordConfig, examples: int, seed: int) -> KeywordModel:
        """Count the select half once. `examples` is the size of a class, which fixes A."""
        rows = np.flatnonzero((corpus.parts_t == SELECT) & corpus.is_first_t)
        holds = corpus.index.holds_tv[rows]
        counts_v = _sums(holds, 0)
        words_a_class = examples * holds.nnz / max(1, len(rows))
        share_lv = np.zeros((len(corpus.languages), len(counts_v)))
        for language in range(len(corpus.languages)):
            of_language = rows[corpus.language_t[rows] == language]
            if len(of_language):
                share_lv[language] = _sums(corpus.index.holds_tv[of_language], 0) / len(of_language)
        # A word that only the other half holds counts as held once: rarer than that cannot be known.
        return cls(corpus, config, seed, np.log1p(words_a_class / np.maximum(counts_v, 1)), share_lv)

    def keywords(self, sets: TextSets) -> Keywords:
        """The keywords of each set of texts (`TextSets`)."""
        cfg = self.config
        sizes_s = sets.sizes
        held = sparse.coo_array(sets.csr() @ self.corpus.index.holds_tv)
        row, word, count = held.row, held.col, held.data
        least_s = np.maximum(cfg.min_texts, np.ceil(cfg.min_share * sizes_s - 1e-9))
        enough = count >= least_s[row]
        row, word, count = row[enough], word[enough], count[enough]
        support = count / sizes_s[row]
        expected = (self._language_mix(sets)[row] * self.share_lv[:, word].T).sum(axis=1)
        lifted = support >= cfg.min_lift * expected
        row, word, support = row[lifted], word[lifted], support[lifted]
        score = support * self.idf_v[word]
        # Ties go to the word that comes first in the sorted vocabulary.
        order = np.lexsort((word, -np.round(score, 12), row))
        row, word, support, score = row[order], word[order], support[order], score[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        first = rank < cfg.most
        row, rank = row[first], rank[first]
        shape = (len(sets), cfg.most)
        found = Keywords(np.full(shape, NO_WORD, dtype=np.int64), np.zeros(shape), np.zeros(shape))
        found.words_sm[row, rank] = word[first]
        found.support_sm[row, rank] = support[first]
        found.scores_sm[row, rank] = score[first]
        return found

    def _language_mix(self, sets: TextSets) -> np.ndarray:
        """float64 `[n_sets, n_languages]`: the share of each language in each set."""
        mix = np.asarray(sets.csr() @ np.eye(len(self.corpus.languages))[self.corpus.language_t])
        return mix / np.maximum(mix.sum(axis=1, keepdims=True), 1.0)

    def held_counts(self, sets: TextSets, words_sm: np.ndarray) -> np.ndarray:
        """int64 `[sets.rows]`: how many of its set's keywords each member text holds."""
        row, rank = np.nonzero(words_sm != NO_WORD)
        ones = np.ones(len(row), dtype=np.int32)
        wanted = sparse.csr_array((ones, (row, words_sm[row, rank])), shape=(len(words_sm), len(self.idf_v)))
        both = sparse.csr_array(self.corpus.index.holds_tv[sets.rows].multiply(wanted[sets.of_set]))
        return _sums(both, 1)

    def coverage(self, sets: TextSets, found: Keywords) -> np.ndarray:
        """float64 `[n_sets]` in 0..1: how much the keywords cover the texts that they came from.

        The mean of breadth (share of the texts that hold any keyword) and depth (mean support of a keyword,
        weighted by support). Breadth alone saturates on long texts, depth alone misses a theme of many words.
        """
        holders = np.bincount(sets.of_set[self.held_counts(sets, found.words_sm) > 0], minlength=len(sets))
        breadth = holders / np.maximum(sets.sizes, 1)
        depth = (found.support_sm**2).sum(axis=1) / np.maximum(found.support_sm.sum(axis=1), 1e-12)
        return (breadth + depth) / 2

    def p_values(self, sets: TextSets, coverage_s: np.ndarray) -> np.ndarray:
        """float64 `[n_sets]`: share of random sets, the set itself counted, that are covered as well or better.

        A random set has the same number of texts in each language, from the same quarter of that language's
        lengths (that of the set's mean). Sets of one make-up share one null of `null_sets` draws, which depends on
        the seed and the make-up alone.
        """
        p_s = np.ones(len(sets))
        for s in range(len(sets)):
            null = self._null(self._make_up(sets.rows[sets.offsets[s] : sets.offsets[s + 1]]))
            at_least = len(null) - np.searchsorted(null, coverage_s[s] - 1e-9, side="left")
            p_s[s] = (1 + at_least) / (1 + len(null))
        return p_s

    def _make_up(self, rows: np.ndarray) -> tuple[int, ...]:
        counts = np.bincount(self.corpus.language_t[rows], minlength=len(self.corpus.languages))
        bin_ = int(np.floor(self.corpus.length_bin_t[rows].mean() + 0.5)) if len(rows) else 0
        return (min(bin_, LENGTH_BINS - 1), *(int(count) for count in counts))

    def _null(self, make_up: tuple[int, ...]) -> np.ndarray:
        known = self._nulls.get(make_up)
        if known is not None:
            return known
        corpus, (bin_, *counts) = self.corpus, make_up
        rng = numpy_rng(self.seed, "interpret", "null", *make_up)
        pools: list[tuple[np.ndarray, int]] = []
        for language, count in enumerate(counts):
            of_language = (corpus.parts_t == SELECT) & (corpus.language_t == language)
            near = corpus.once(np.flatnonzero(of_language & (corpus.length_bin_t == bin_)))
            # A quarter too small to draw from gives way to the language's whole select half.
            wide = near if len(near) >= 2 * count else corpus.once(np.flatnonzero(of_language))
            pools.append((wide, min(count, len(wide))))
        draws = [
            np.concatenate([rng.choice(pool, size=count, replace=False) for pool, count in pools])
            for _ in range(self.config.null_sets)
        ]
        sets = TextSets.of(draws, len(corpus.texts))
        null = np.sort(self.coverage(sets, self.keywords(sets)))
        self._nulls[make_up] = null
        return null
