"""The embedded validator and predictor: a label speaks of a text that holds enough of its keywords.

The validator decides on texts of its own; a revised label is made from other texts still, and must beat the old
one on the texts that judge. Its interval on balanced accuracy is Zou and Donner's MOVER (Stat. Med. 2008) over two
Wilson intervals, which stays honest with a handful of texts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from antar.interpret.config import ValidationConfig
from antar.interpret.keywords import KeywordModel, TextSets
from antar.interpret.labeller import KeywordLabeller, keyword_strings, needed_keywords, phrase
from antar.interpret.types import Prediction, PredictionCase, ShownText, ValidationCase, Verdict, VerdictName
from antar.interpret.words import content_words, keyword_fingerprint, tokens, words_of

_Z = 1.959963984540054
EVIDENCE_SHOWN = 5


class TextWords:
    """The content words of shown texts, each text tokenised once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], frozenset[str]] = {}

    def __call__(self, text: ShownText) -> frozenset[str]:
        key = (text.text_id, text.text)
        if key not in self._known:
            self._known[key] = content_words(tokens(text.text))
        return self._known[key]


@dataclass(frozen=True)
class Separation:
    """How a label parts firing from silent texts: balanced accuracy with its 95% interval, and who holds it."""

    balanced_accuracy: float
    low: float
    high: float
    holds_firing: tuple[bool, ...]
    holds_silent: tuple[bool, ...]


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95% Wilson score interval of a proportion; (0, 1) when nothing was seen."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def balanced_accuracy_interval(
    hits: int, n_firing: int, rejections: int, n_silent: int
) -> tuple[float, float, float]:
    """(value, low, high) of (sensitivity + specificity) / 2, by MOVER over Wilson intervals."""
    sensitivity, specificity = hits / n_firing, rejections / n_silent
    (lo_1, hi_1), (lo_2, hi_2) = wilson(hits, n_firing), wilson(rejections, n_silent)
    value = (sensitivity + specificity) / 2
    below = np.hypot(sensitivity - lo_1, specificity - lo_2) / 2
    above = np.hypot(hi_1 - sensitivity, hi_2 - specificity) / 2
    return value, float(value - below), float(value + above)


def without_texts(case: ValidationCase, min_texts: int) -> Verdict | None:
    """The verdict on a label that too few texts can judge, whoever validates; None where there are enough."""
    label, least = case.label, min(len(case.firing), len(case.silent))
    if least >= min_texts:
        return None
    reason = f"{least} held-out texts of each class, fewer than {min_texts}: the label cannot be checked"
    shown = tuple(text.text_id for text in case.firing[:EVIDENCE_SHOWN])
    standing = label.label or "", label.keywords, label.needed
    return Verdict(label.feature, "INVALIDATE", reason, *standing, shown, None, None, None)


class KeywordValidator:
    """Fills the `Validator` protocol; spare texts must be texts of the corpus, judging texts may be any."""

    name = "keywords"
    version = "1"

    def __init__(self, model: KeywordModel, config: ValidationConfig) -> None:
        self._model, self._config = model, config
        self._labeller = KeywordLabeller(model)
        self.fingerprint = keyword_fingerprint("validator")
        self._words = TextWords()

    def validate(self, batch: Sequence[ValidationCase]) -> list[Verdict]:
        return [self._one(case, better) for case, better in zip(batch, self._better(batch), strict=True)]

    def _better(self, batch: Sequence[ValidationCase]) -> list[tuple[tuple[str, ...], int]]:
        """For each case the keywords and their number that the spare texts alone give."""
        model = self._model
        firing = [self._labeller.rows(case.spare_firing) for case in batch]
        found = model.keywords(TextSets.of(firing, len(model.corpus.texts)))
        silent = [self._labeller.rows(case.spare_silent) for case in batch]
        needed = needed_keywords(model, firing, silent, found)
        return [
            (
                keyword_strings(model.corpus, found, s) if len(firing[s]) >= self._config.min_texts else (),
                int(needed[s]),
            )
            for s in range(len(batch))
        ]

    def _one(self, case: ValidationCase, better: tuple[tuple[str, ...], int]) -> Verdict:
        cfg, label = self._config, case.label
        unchecked = without_texts(case, cfg.min_texts)
        if unchecked is not None:
            return unchecked
        standing = tuple(sorted(words_of(label.keywords, label.label or "")))
        old = self._separation(case, standing, label.needed)
        if self._stands(old):
            return self._verdict(case, "KEEP", label.keywords, label.needed, old, "the keywords separate them")
        words, needed = better
        new = self._separation(case, words, needed) if words else None
        if new and self._stands(new) and new.balanced_accuracy > old.balanced_accuracy:
            why = f"the first label reached {old.balanced_accuracy:.2f}; these words come from other held-out texts"
            return self._verdict(case, "REVISE", words, needed, new, why)
        why = f"below {cfg.keep_at:.2f}" if old.balanced_accuracy < cfg.keep_at else "not surely above chance"
        return self._verdict(case, "INVALIDATE", label.keywords, label.needed, old, why)

    def _stands(self, separation: Separation) -> bool:
        return separation.balanced_accuracy >= self._config.keep_at and separation.low > 0.5

    def _separation(self, case: ValidationCase, keywords: Collection[str], needed: int) -> Separation:
        wanted = set(keywords)
        firing = tuple(len(self._words(text) & wanted) >= needed for text in case.firing)
        silent = tuple(len(self._words(text) & wanted) >= needed for text in case.silent)
        value, low, high = balanced_accuracy_interval(
            sum(firing), len(firing), len(silent) - sum(silent), len(silent)
        )
        return Separation(value, low, high, firing, silent)

    def _verdict(
        self,
        case: ValidationCase,
        name: VerdictName,
        words: tuple[str, ...],
        needed: int,
        found: Separation,
        why: str,
    ) -> Verdict:
        """The evidence of a label that stands is firing texts that hold it; of one that falls, its mistakes."""
        right = name != "INVALIDATE"
        evidence = [
            text.text_id for text, holds in zip(case.firing, found.holds_firing, strict=True) if holds == right
        ]
        if not right:
            evidence += [text.text_id for text, holds in zip(case.silent, found.holds_silent, strict=True) if holds]
        reason = (
            f"{why}: held by {sum(found.holds_firing)} of {len(case.firing)} held-out texts that fire it and "
            f"{sum(found.holds_silent)} of {len(case.silent)} that do not, balanced accuracy "
            f"{found.balanced_accuracy:.2f} [{found.low:.2f}, {found.high:.2f}]"
        )
        return Verdict(
            feature=case.label.feature,
            verdict=name,
            reason=reason,
            label=phrase(words),
            keywords=words,
            needed=needed,
            evidence=tuple(evidence[:EVIDENCE_SHOWN]),
            balanced_accuracy=found.balanced_accuracy,
            low=found.low,
            high=found.high,
        )


class KeywordPredictor:
    """Fills the `Predictor` protocol from the claim and the text alone. The score is the share of keywords held."""

    name = "keywords"
    version = "1"

    def __init__(self) -> None:
        self._words = TextWords()
        self.fingerprint = keyword_fingerprint("predictor")

    def predict(self, batch: Sequence[PredictionCase]) -> list[list[Prediction]]:
        answers: list[list[Prediction]] = []
        for case in batch:
            wanted, needed = words_of(case.claim.keywords, case.claim.label), case.claim.needed
            held = [len(self._words(text) & wanted) for text in case.texts]
            answers.append([Prediction(count >= needed, count / max(1, len(wanted))) for count in held])
        return answers
