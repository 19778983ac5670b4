"""The texts as the workers of this room see them: words, languages, halves, and parts of the estimate half.

A labeller sees the select half only. The estimate half is cut by document into three parts with one use each: from
`revise` a validator may make a better label, `validate` decides between labels, and `predict` measures the label
that stands (criterion 3). So no text ever judges a label that was made, or chosen, with its help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.seeds import derive_seed
from antar.features.examples import contrast_rows, crosscheck_rows
from antar.features.readings import first_readings
from antar.interpret.types import ShownText
from antar.interpret.words import WordIndex

NONE, SELECT, REVISE, VALIDATE, PREDICT = -1, 0, 1, 2, 3
_SHARES = {REVISE: 0.25, VALIDATE: 0.25, PREDICT: 0.5}
NEAREST = 10
"""A matched text is drawn from so many candidates of the same language that are nearest in length."""
LENGTH_BINS = 4


@dataclass(frozen=True)
class TextCorpus:
    """Row i of everything here is row i of the run's texts.

    parts_t:       int64, SELECT, REVISE, VALIDATE or PREDICT; NONE for a text that equals one of an earlier part
    languages:     the languages of the corpus, sorted; language_t holds indices into it
    length_bin_t:  int64, the quarter of its language's select-half lengths (in words) that a text is in
    order_t:       rows sorted by language, then length in words, then row
    first_t:       int64, the first row that reads the same text, where texts are read bare and in a chat template
    sha256:        fingerprint of everything that the workers read of the texts
    """

    text_ids: tuple[str, ...]
    texts: tuple[str, ...]
    index: WordIndex
    languages: tuple[str, ...]
    language_t: np.ndarray
    parts_t: np.ndarray
    length_bin_t: np.ndarray
    order_t: np.ndarray
    first_t: np.ndarray
    sha256: str

    @property
    def is_first_t(self) -> np.ndarray:
        """bool: true for one row of each text. Whatever counts words, or shows silent texts, takes these alone."""
        return self.first_t == np.arange(len(self.first_t))

    @classmethod
    def build(cls, frame: pl.DataFrame, seed: int) -> TextCorpus:
        """`frame` is `corpus/texts.parquet`; the parts depend on the documents' names and on `seed` only.

        A text of the estimate half that a dictionary was trained or stopped on judges nothing: it has no part. Nor
        has a cross-check text, in either half.
        """
        if frame.is_empty():
            raise UserError("interpret: expected texts, found an empty corpus; check the corpus of the study file")
        texts = [str(text) for text in frame["text"]]
        index = WordIndex.build(texts)
        languages = tuple(sorted({str(language) for language in frame["language"]}))
        place = {language: i for i, language in enumerate(languages)}
        language_t = np.array([place[language] for language in frame["language"]], dtype=np.int64)
        parts = {document: _part(document, seed) for document in frame["document"].unique()}
        unseen_t, apart_t = contrast_rows(frame), crosscheck_rows(frame)
        parts_t = np.array(
            [
                NONE if apart else SELECT if half == "select" else parts[document] if unseen else NONE
                for document, half, unseen, apart in zip(
                    frame["document"], frame["half"], unseen_t, apart_t, strict=True
                )
            ],
            dtype=np.int64,
        )
        if not (parts_t == SELECT).any() or (parts_t == SELECT).all():
            raise UserError(
                "interpret: expected texts in both halves (select, estimate), found one half only; "
                "the corpus needs more documents"
            )
        first_t = first_readings(frame)
        select_t = (parts_t == SELECT) & (first_t == np.arange(len(texts)))
        columns = ["text_id", "text", "language", "document", "half", "group", "split"]
        return cls(
            text_ids=tuple(frame["text_id"]),
            texts=tuple(texts),
            index=index,
            languages=languages,
            language_t=language_t,
            parts_t=_without_repeats(parts_t, index.text_key_t),
            length_bin_t=_length_bins(index.lengths_t, language_t, select_t),
            order_t=np.lexsort((np.arange(len(texts)), index.lengths_t, language_t)),
            first_t=first_t,
            sha256=sha256_json([seed, frame.select(columns).rows()]),
        )

    def shown(
        self, rows: Sequence[int] | np.ndarray, activations: Sequence[float] | np.ndarray
    ) -> tuple[ShownText, ...]:
        return tuple(
            ShownText(self.text_ids[row], self.texts[row], self.languages[self.language_t[row]], float(activation))
            for row, activation in zip(rows, activations, strict=True)
        )

    def once(self, rows: np.ndarray) -> np.ndarray:
        """`rows` in their order, each distinct text once."""
        taken: set[int] = set()
        kept: list[int] = []
        for row in rows:
            key = int(self.index.text_key_t[row])
            if key not in taken:
                taken.add(key)
                kept.append(int(row))
        return np.array(kept, dtype=np.int64)

    def keys(self, rows: np.ndarray) -> frozenset[int]:
        return frozenset(int(key) for key in self.index.text_key_t[rows])

    def matched(
        self, wanted: np.ndarray, allowed_t: np.ndarray, rng: np.random.Generator, seen: frozenset[int] = frozenset()
    ) -> np.ndarray:
        """For each row of `wanted` another row where `allowed_t` is true: same language, near in length.

        Drawn at random from the NEAREST candidates in length, each text once, none whose key is in `seen`. A wanted
        row for whose language no candidate is left gets none, so the answer can be shorter than `wanted`.
        """
        candidates = self.order_t[allowed_t[self.order_t]]
        starts = np.searchsorted(self.language_t[candidates], np.arange(len(self.languages) + 1))
        taken = set(seen)
        drawn: list[int] = []
        for row in wanted:
            lo, hi = starts[self.language_t[row]], starts[self.language_t[row] + 1]
            near = self._near(candidates[lo:hi], int(self.index.lengths_t[row]), taken)
            if near:
                chosen = near[int(rng.integers(len(near)))]
                taken.add(int(self.index.text_key_t[chosen]))
                drawn.append(chosen)
        return np.array(drawn, dtype=np.int64)

    def _near(self, candidates: np.ndarray, length: int, taken: set[int]) -> list[int]:
        # Walk outwards from the place of `length` among the candidates, nearest first, past those that are taken.
        lengths, keys = self.index.lengths_t, self.index.text_key_t
        right = int(np.searchsorted(lengths[candidates], length))
        left = right - 1
        near: list[int] = []
        while len(near) < NEAREST and (left >= 0 or right < len(candidates)):
            go_right = left < 0 or (
                right < len(candidates) and lengths[candidates[right]] - length <= length - lengths[candidates[left]]
            )
            row = int(candidates[right] if go_right else candidates[left])
            left, right = (left, right + 1) if go_right else (left - 1, right)
            if int(keys[row]) not in taken:
                near.append(row)
        return near


def _part(document: str, seed: int) -> int:
    place = derive_seed(seed, "interpret", "part", document) / 2**63
    for part, share in _SHARES.items():
        place -= share
        if place < 0:
            return part
    return PREDICT


def _without_repeats(parts_t: np.ndarray, text_key_t: np.ndarray) -> np.ndarray:
    # The same text under two documents could else be labelled from in one part and judge in another.
    first = np.full(int(text_key_t.max()) + 1, PREDICT, dtype=np.int64)
    np.minimum.at(first, text_key_t, parts_t)
    return np.where(parts_t > first[text_key_t], NONE, parts_t)


def _length_bins(lengths_t: np.ndarray, language_t: np.ndarray, select_t: np.ndarray) -> np.ndarray:
    # Labels depend on the bins, so the other half must not set their edges.
    bins = np.zeros(len(lengths_t), dtype=np.int64)
    for language in np.unique(language_t):
        rows = language_t == language
        known = lengths_t[rows & select_t] if (rows & select_t).any() else lengths_t[rows]
        edges = np.quantile(known, np.arange(1, LENGTH_BINS) / LENGTH_BINS)
        bins[rows] = np.searchsorted(edges, lengths_t[rows], side="left")
    return bins
