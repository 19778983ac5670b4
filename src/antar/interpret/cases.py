"""Which texts a worker is shown, for labels, verdicts and predictions. Every draw has its own seed by feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from antar.core.seeds import numpy_rng
from antar.interpret.config import InterpretConfig, PredictionConfig, ValidationConfig
from antar.interpret.corpus import PREDICT, REVISE, SELECT, VALIDATE, TextCorpus
from antar.interpret.features import Firing
from antar.interpret.types import (
    Claim,
    Evidence,
    Label,
    PredictionCase,
    SaebenchCase,
    ShownText,
    ValidationCase,
)
from antar.interpret.words import telling_words

SAEBENCH_TOP, SAEBENCH_WEIGHTED, SAEBENCH_SILENT = 2, 2, 10
"""The texts of SAEBench's AutoInterp score: the strongest, others by the square of activation, random silent ones."""


@dataclass(frozen=True)
class CaseMaker:
    """Draws the texts for the features of one dictionary."""

    corpus: TextCorpus
    firing: Firing
    seed: int

    def evidence(self, feature: str, latent: int, rows: np.ndarray, activations: np.ndarray) -> Evidence:
        """The select-half examples, and as many matched select-half texts that do not fire the feature."""
        corpus = self.corpus
        silent = self._silent(latent, SELECT)
        background = corpus.matched(rows, silent, self._rng("background", feature), corpus.keys(rows))
        return Evidence(feature, corpus.shown(rows, activations), corpus.shown(background, np.zeros(len(background))))

    def llm_evidence(self, feature: str, latent: int, cfg: InterpretConfig) -> Evidence:
        """Select-half examples over a feature's whole range, so that a label is not of its extremes alone.

        `top_share` of them are the strongest; the rest come evenly from quantiles of activation below those. The
        hard texts fire a neighbouring feature and not this one; they and the background are matched to examples.
        """
        corpus = self.corpus
        rows, values = self._in_part(latent, SELECT)
        top = min(len(rows), round(cfg.top_share * cfg.examples))
        rest = quantile_sample(
            len(rows) - top, cfg.examples - top, cfg.prediction.quantiles, self._rng("examples", feature)
        )
        chosen = np.concatenate([np.arange(top), top + rest])
        rows, values = rows[chosen], values[chosen]
        silent_t = self._silent(latent, SELECT)
        hard = np.zeros(0, dtype=np.int64)
        if cfg.hard_negatives and len(rows):
            near_t = silent_t & self.firing.fires_any(self.firing.nearest(latent, cfg.prediction.neighbours))
            rng = self._rng("hard", feature)
            wanted = np.resize(rng.permutation(rows), cfg.hard_negatives)
            hard = corpus.matched(wanted, near_t, rng, corpus.keys(rows))
        seen = corpus.keys(rows) | corpus.keys(hard)
        background = corpus.matched(rows, silent_t, self._rng("background", feature), seen)
        return Evidence(feature, corpus.shown(rows, values), self._not_firing(background), self._not_firing(hard))

    def validation(self, label: Label, latent: int, cfg: ValidationConfig) -> ValidationCase:
        """The strongest texts of two parts of the estimate half, each with as many matched silent ones."""
        corpus = self.corpus
        shown: dict[int, tuple[ShownText, ...]] = {}
        silent: dict[int, tuple[ShownText, ...]] = {}
        for part, name in ((VALIDATE, "validate"), (REVISE, "revise")):
            rows, values = self._in_part(latent, part)
            rows, values = rows[: cfg.texts], values[: cfg.texts]
            drawn = corpus.matched(
                rows, self._silent(latent, part), self._rng(name, label.feature), corpus.keys(rows)
            )
            shown[part], silent[part] = corpus.shown(rows, values), corpus.shown(drawn, np.zeros(len(drawn)))
        return ValidationCase(label, shown[VALIDATE], silent[VALIDATE], shown[REVISE], silent[REVISE])

    def prediction(self, claim: Claim, latent: int, cfg: PredictionConfig) -> PredictionCase | None:
        """The texts of criterion 3 for one feature.

        Firing texts come evenly from quantiles of activation. Each silent text is matched to one of them; half
        are drawn among the texts that fire a neighbouring feature, as far as there are such. The classes are 1:1
        in each language. None when too few texts are left.
        """
        corpus = self.corpus
        rng = self._rng("predict", claim.feature)
        rows, values = self._in_part(latent, PREDICT)
        chosen = quantile_sample(len(rows), cfg.texts, cfg.quantiles, rng)
        rows, values = rows[chosen], values[chosen]
        keys = corpus.keys(rows)
        silent_t = self._silent(latent, PREDICT)
        near_t = silent_t & self.firing.fires_any(self.firing.nearest(latent, cfg.neighbours))
        order = rng.permutation(len(rows))
        half, rest = order[: len(rows) // 2], order[len(rows) // 2 :]
        hard = corpus.matched(rows[half], near_t, rng, keys)
        got = self._got(rows[half], hard)
        # Whoever found no hard text of its language is matched to a random one of it, not to one of another language.
        left = np.concatenate([half[~got], rest])
        random = corpus.matched(rows[left], silent_t, rng, keys | corpus.keys(hard))
        silent = np.concatenate([hard, random])
        # Where silent texts ran out the firing texts without a match are left out: each language stays 1:1.
        kept = np.sort(np.concatenate([half[got], left[self._got(rows[left], random)]]))
        if len(kept) < cfg.min_texts:
            return None
        texts = corpus.shown(rows[kept], values[kept]) + corpus.shown(silent, np.zeros(len(silent)))
        fires = (True,) * len(kept) + (False,) * len(silent)
        is_hard = (False,) * len(kept) + (True,) * len(hard) + (False,) * len(random)
        return PredictionCase(claim, texts, fires, is_hard, wrong_label=False)

    def saebench(self, claim: Claim, latent: int) -> SaebenchCase | None:
        """SAEBench's form: 4 firing texts among 10 random silent ones of any language, shuffled.

        Two firing texts are the strongest, two are drawn from the others in proportion to the square of their
        activation, as SAEBench's `get_iw_sample_indices` does by default. Unlike there the random texts are known to
        be silent. None when there are fewer texts than that.
        """
        corpus = self.corpus
        rng = self._rng("saebench", claim.feature)
        rows, values = self._in_part(latent, PREDICT)
        silent = rng.permutation(np.flatnonzero(self._silent(latent, PREDICT)))
        fired = corpus.keys(rows)
        silent = np.array([row for row in corpus.once(silent) if int(corpus.index.text_key_t[row]) not in fired])
        if len(rows) < SAEBENCH_TOP + SAEBENCH_WEIGHTED or len(silent) < SAEBENCH_SILENT:
            return None
        weights = values[SAEBENCH_TOP:].astype(np.float64) ** 2
        drawn = rng.choice(len(weights), size=SAEBENCH_WEIGHTED, replace=False, p=weights / weights.sum())
        chosen = np.concatenate([np.arange(SAEBENCH_TOP), SAEBENCH_TOP + drawn])
        texts = corpus.shown(rows[chosen], values[chosen]) + self._not_firing(silent[:SAEBENCH_SILENT])
        order = rng.permutation(len(texts))
        return SaebenchCase(claim, tuple(texts[i] for i in order), tuple(bool(i < len(chosen)) for i in order))

    def _got(self, wanted: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """bool `[len(wanted)]`: which rows `matched` gave one of `drawn`. It leaves a row out only when its language
        has none left, so in each language the first ones were served."""
        left = np.bincount(self.corpus.language_t[drawn], minlength=len(self.corpus.languages))
        got = np.zeros(len(wanted), dtype=bool)
        for i, language in enumerate(self.corpus.language_t[wanted]):
            got[i] = left[language] > 0
            left[language] -= 1
        return got

    def _not_firing(self, rows: np.ndarray) -> tuple[ShownText, ...]:
        return self.corpus.shown(rows, np.zeros(len(rows)))

    def _in_part(self, latent: int, part: int) -> tuple[np.ndarray, np.ndarray]:
        rows, values = self.firing.texts_of(latent)
        inside = self.corpus.parts_t[rows] == part
        rows, values = rows[inside], values[inside]
        kept = self.corpus.once(rows)
        return kept, values[np.isin(rows, kept)]

    def _silent(self, latent: int, part: int) -> np.ndarray:
        return (self.corpus.parts_t == part) & self.corpus.is_first_t & ~self.firing.fires_any(np.array([latent]))

    def _rng(self, name: str, feature: str) -> np.random.Generator:
        return numpy_rng(self.seed, "interpret", name, feature)


def quantile_sample(n: int, wanted: int, quantiles: int, rng: np.random.Generator) -> np.ndarray:
    """Indices into n items sorted by activation: `wanted` in all, evenly from `quantiles` slices, sorted."""
    if n <= wanted:
        return np.arange(n)
    chosen: list[np.ndarray] = []
    slices = np.array_split(np.arange(n), quantiles)
    for i, part in enumerate(slices):
        share = wanted * (i + 1) // quantiles - wanted * i // quantiles
        chosen.append(rng.choice(part, size=min(share, len(part)), replace=False))
    taken = np.concatenate(chosen)
    # A slice shorter than its share leaves places, which the rest fills.
    rest = np.setdiff1d(np.arange(n), taken)
    return np.sort(np.concatenate([taken, rng.permutation(rest)[: wanted - len(taken)]]))


def wrong_claims(claims: Sequence[Claim], seed: int) -> dict[str, Claim | None]:
    """feature → another feature's claim that shares no telling word with its own; None when there is none."""
    telling = telling_words({claim.feature: (claim.keywords, claim.label) for claim in claims})
    return {claim.feature: wrong_claim(claim, claims, seed, telling) for claim in claims}


def wrong_claim(claim: Claim, others: Sequence[Claim], seed: int, telling: Mapping[str, set[str]]) -> Claim | None:
    """Another feature's claim that shares no word with this one, under this feature's name; None when none is.

    telling: the words of each feature's claim that count.
    """
    words = telling[claim.feature]
    start = int(numpy_rng(seed, "interpret", "wrong", claim.feature).integers(max(1, len(others))))
    for offset in range(len(others)):
        other = others[(start + offset) % len(others)]
        if other.feature != claim.feature and not words & telling[other.feature]:
            return Claim(claim.feature, other.label, other.keywords, other.needed)
    return None
