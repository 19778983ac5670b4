"""The embedded labeller: keywords as the label, coverage against random sets as the coherence gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from antar.interpret.corpus import TextCorpus
from antar.interpret.keywords import NO_WORD, KeywordModel, Keywords, TextSets
from antar.interpret.types import Evidence, Label, ShownText
from antar.interpret.words import keyword_fingerprint

SEPARATOR = " · "
MAJORITY = 0.8
"""A label is about one language when so large a share of its examples is in it; else it is `mixed`."""


def phrase(keywords: Sequence[str]) -> str:
    """The label that a person reads, e.g. `ईद · सेवइयाँ · eid`."""
    return SEPARATOR.join(keywords)


class KeywordLabeller:
    """Fills the `Labeller` protocol over the texts of one corpus; a shown text must be one of them."""

    name = "keywords"
    version = "1"

    def __init__(self, model: KeywordModel) -> None:
        self._model = model
        self.fingerprint = keyword_fingerprint("labeller")
        self._row_of = {text_id: row for row, text_id in enumerate(model.corpus.text_ids)}

    def rows(self, texts: Sequence[ShownText]) -> np.ndarray:
        """Rows of the shown texts, each distinct text once, in the order shown."""
        return self._model.corpus.once(np.array([self._row_of[text.text_id] for text in texts], dtype=np.int64))

    def label(self, batch: Sequence[Evidence]) -> list[Label]:
        model = self._model
        n_texts = len(model.corpus.texts)
        examples = [self.rows(evidence.examples) for evidence in batch]
        sets = TextSets.of(examples, n_texts)
        found = model.keywords(sets)
        p_s = model.p_values(sets, model.coverage(sets, found))
        needed_s = needed_keywords(model, examples, [self.rows(evidence.background) for evidence in batch], found)
        return [
            self._one(evidence, examples[s], found, s, float(p_s[s]), int(needed_s[s]))
            for s, evidence in enumerate(batch)
        ]

    def _one(self, evidence: Evidence, rows: np.ndarray, found: Keywords, s: int, p: float, needed: int) -> Label:
        cfg, corpus = self._model.config, self._model.corpus
        words = keyword_strings(corpus, found, s)
        if len(rows) < cfg.min_examples:
            coherent, reason = False, f"{len(rows)} distinct example texts, fewer than {cfg.min_examples}"
        elif not words:
            coherent, reason = False, "no word is common to enough of the examples"
        else:
            coherent = p <= cfg.alpha
            than = "better than" if coherent else "no better than"
            reason = f"the keywords cover the examples {than} those of random texts cover theirs, p = {p:.3f}"
        holders = [row for row in rows if corpus.index.words_of(int(row)) & set(words)]
        return Label(
            feature=evidence.feature,
            coherent=coherent,
            label=phrase(words) if coherent else None,
            keywords=words,
            needed=needed,
            category=None,
            language=main_language(corpus, rows),
            evidence=tuple(corpus.text_ids[row] for row in holders),
            reason=reason,
        )


def keyword_strings(corpus: TextCorpus, found: Keywords, s: int) -> tuple[str, ...]:
    return tuple(corpus.index.words[word] for word in found.words_sm[s] if word != NO_WORD)


def main_language(corpus: TextCorpus, rows: np.ndarray) -> str:
    """The language of at least MAJORITY of the texts, else `mixed`."""
    if len(rows) == 0:
        return "mixed"
    counts = np.bincount(corpus.language_t[rows], minlength=len(corpus.languages))
    most = int(counts.argmax())
    return corpus.languages[most] if counts[most] >= MAJORITY * len(rows) else "mixed"


def needed_keywords(
    model: KeywordModel, firing: list[np.ndarray], silent: list[np.ndarray], found: Keywords
) -> np.ndarray:
    """int64 `[n_sets]`: how many keywords a text must hold so that the firing texts part best from the silent ones.

    Maximises the share of firing texts with at least that many minus the share of silent ones (Youden's J); the
    smallest such number, and 1 where there are no silent texts.
    """
    most = found.words_sm.shape[1]
    shares: list[np.ndarray] = []
    for rows in (firing, silent):
        sets = TextSets.of(rows, len(model.corpus.texts))
        held = model.held_counts(sets, found.words_sm)
        counts = np.zeros((len(rows), most + 1))
        np.add.at(counts, (sets.of_set, held), 1)
        at_least = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        shares.append(at_least / np.maximum(sets.sizes, 1)[:, None])
    gain_sm = np.round(shares[0] - shares[1], 12)
    return np.where([len(rows) > 0 for rows in silent], gain_sm.argmax(axis=1) + 1, 1)
