"""Criterion 5: do the texts that fire a feature most lie together in the model's own space?

For two top examples i and j of a feature and a random text r in j's language, the question is whether i is nearer
(by cosine of the activations) to j than to r. The share of yes is the feature's coherence; 0.5 is chance, because
under chance j is itself a random text of its language. The same number for random texts in place of the examples is
the null and must come out near 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from antar.core.seeds import numpy_rng

SCHEMA = {"latent": pl.Int64, "coherence": pl.Float64, "n_examples": pl.Int64, "n_pairs": pl.Int64}


@dataclass(frozen=True)
class Space:
    """The texts in which coherence is measured.

    acts_nd:  `[n_texts, d_model]`, activations at the dictionary's site
    language: `[n_texts]` strings; document: `[n_texts]` strings. Where texts are read bare and in a chat template,
              a reading counts as a language: rows of one reading are alike as those of one language are
    text:     `[n_texts]`, equal for readings of one text (`features/readings.py`); by default each row is a text
    """

    acts_nd: np.ndarray
    language: np.ndarray
    document: np.ndarray
    text: np.ndarray | None = None

    @property
    def text_n(self) -> np.ndarray:
        return np.arange(len(self.document)) if self.text is None else self.text


def measure_coherence(
    space: Space, latents: np.ndarray, rows: np.ndarray, references: int = 256, seed: int = 0
) -> pl.DataFrame:
    """Coherence of each latent from its examples: `latent, coherence, n_examples, n_pairs`.

    latents, rows: int `[e]`, an example each, sorted by latent (as `top_examples` gives them)
    references:    random texts drawn in each language; the same ones for every feature

    Every ordered pair of examples from different documents counts once (two sentences of one document are alike for
    another reason), against every reference in j's language that is no reading of an example's text and not from i's
    document; ties count half. Null where no pair is left. Cosines are of the activations as they are,
    not centred. A feature costs m² × references comparisons: 8,192 features × 20
    examples take about 5 s.
    """
    drawn = _references(space, references, seed)
    used = np.unique(rows)
    place = np.searchsorted(used, rows)
    unit_used = _unit_rows(space.acts_nd[used])
    similar = {language: unit_used @ _unit_rows(space.acts_nd[its]).T for language, its in drawn.items()}
    records: list[tuple[int, float | None, int, int]] = []
    names, starts = np.unique(latents, return_index=True)
    for latent, lo, hi in zip(names.tolist(), starts, np.append(starts, len(latents))[1:], strict=True):
        value, pairs = _one_feature(space, used[place[lo:hi]], place[lo:hi], unit_used, drawn, similar)
        records.append((latent, value, int(hi - lo), pairs))
    return pl.DataFrame(records, schema=SCHEMA, orient="row")


def coherence_null(
    space: Space, latents: np.ndarray, rows: np.ndarray, references: int = 256, seed: int = 0
) -> pl.DataFrame:
    """The same with each example replaced by a random text of its language, distinct within a feature: near 0.5."""
    rng = numpy_rng(seed, "coherence null")
    random_rows = np.empty_like(rows)
    members = {str(one): np.flatnonzero(space.language == one) for one in np.unique(space.language)}
    for latent in np.unique(latents):
        its = np.arange(*np.searchsorted(latents, [latent, latent + 1]))
        for language in np.unique(space.language[rows[its]]):
            same = its[space.language[rows[its]] == language]
            random_rows[same] = rng.choice(members[str(language)], len(same), replace=False)
    return measure_coherence(space, latents, random_rows, references, seed)


def _references(space: Space, n: int, seed: int) -> dict[str, np.ndarray]:
    rng = numpy_rng(seed, "coherence references")
    drawn: dict[str, np.ndarray] = {}
    for language in np.unique(space.language):
        members = np.flatnonzero(space.language == language)
        drawn[str(language)] = rng.choice(members, min(n, len(members)), replace=False)
    return drawn


def _unit_rows(acts_nd: np.ndarray) -> np.ndarray:
    """float32 rows of norm 1; a row of zeros stays zero, and all its cosines are 0."""
    acts = acts_nd.astype(np.float32)
    norms = np.linalg.norm(acts, axis=1, keepdims=True)
    return acts / np.where(norms > 0, norms, 1)


def _one_feature(
    space: Space, rows: np.ndarray, place: np.ndarray, unit_used: np.ndarray,
    drawn: dict[str, np.ndarray], similar: dict[str, np.ndarray],
) -> tuple[float | None, int]:  # fmt: skip
    """Coherence of one feature and how many ordered pairs it rests on."""
    vectors = unit_used[place]
    between = vectors @ vectors.T
    document, language = space.document[rows], space.language[rows]
    allowed = document[:, None] != document[None, :]
    wins = np.full(between.shape, np.nan)
    for name in np.unique(language):
        columns = np.flatnonzero(language == name)
        its = drawn[str(name)]
        known = np.isin(space.text_n[its], space.text_n[rows])
        usable = ~known[None, :] & (document[:, None] != space.document[its][None, :])
        gap = between[:, columns, None] - similar[str(name)][place][:, None, :]
        score = (gap > 0) + 0.5 * (gap == 0)
        counts = usable.sum(axis=1)[:, None]
        with np.errstate(invalid="ignore"):
            wins[:, columns] = (score * usable[:, None, :]).sum(axis=2) / counts
    values = wins[allowed & ~np.isnan(wins)]
    return (float(values.mean()) if len(values) else None), len(values)
