"""Criterion 5: are a feature's top texts alike?

In two spaces: the model's own activations, in which the feature was found, and a representation of the texts that the
model has no part in. The first alone would be circular, as a feature is a direction of that space; so the weaker of
the two decides. Each is a mean over the live features, beside the same with random texts as the top ones (0.5 in
theory).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from antar.criteria.config import CriteriaConfig
from antar.criteria.intervals import bootstrap_mean, finite_values
from antar.criteria.types import Cell, Criterion, Interval, Null

Scores = Mapping[str, np.ndarray]
"""Dictionary → one number a feature; NaN where a feature has too few texts."""
ACTIVATIONS, TEXTS = "activations", "texts"
CHANCE = 0.5


@dataclass(frozen=True)
class Spread:
    """Scores of all dictionaries in one space, and those of random texts, each with the interval of its mean."""

    name: str
    values: np.ndarray
    null: np.ndarray
    ci: Interval | None
    null_ci: Interval | None

    @classmethod
    def of(cls, name: str, scores: Scores, chance: Scores, cfg: CriteriaConfig) -> Spread:
        values, null = _pooled(scores), _pooled(chance)
        # The stream of the activations is the one that it was before there was another space.
        stream = ("coherence",) if name == ACTIVATIONS else ("coherence", name)
        return cls(
            name, values, null, bootstrap_mean(values, cfg, *stream), bootstrap_mean(null, cfg, *stream, "null")
        )

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def null_mean(self) -> float:
        return float(self.null.mean()) if len(self.null) else CHANCE

    @property
    def measured(self) -> bool:
        return self.ci is not None

    def passes(self, threshold: float) -> bool:
        return self.mean >= threshold and self.mean > (self.null_ci[1] if self.null_ci else CHANCE)

    def as_null(self) -> Null:
        if not len(self.null):
            return Null(name="chance (theory)", value=CHANCE)
        return Null(name=f"random texts as the top ones, by {self.name}", value=self.null_mean, ci=self.null_ci)

    def beside(self, threshold: float) -> dict[str, Cell]:
        means, nulls = self.ci or (None, None), self.null_ci or (None, None)
        return {
            f"coherence by {self.name}": self.mean if len(self.values) else None,
            f"coherence by {self.name}, low": means[0],
            f"coherence by {self.name}, high": means[1],
            f"random texts by {self.name}": self.null_mean if len(self.null) else None,
            f"random texts by {self.name}, high": nulls[1],
            f"share of features at {threshold:.2f} or more by {self.name}": (
                float((self.values >= threshold).mean()) if len(self.values) else None
            ),
        }


def coherence(
    scores: Scores,
    chance: Scores,
    cfg: CriteriaConfig,
    text_scores: Scores | None = None,
    text_chance: Scores | None = None,
    text_space: str = "TF-IDF",
    untrained: Scores | None = None,
) -> Criterion:
    """Criterion 5. value: mean over live features of the probability that two of its top texts are nearer to each
    other than one of them is to a random text of the same language, in the space where that is lower.

    scores, chance:           by the activations; `chance` has random texts as the top ones, and may be empty
    text_scores, text_chance: the same by a representation of the texts that is called `text_space`
    untrained:                by the activations of a model of random weights, of dictionaries trained on those
    In both spaces it must reach the threshold and lie above the upper end of its null's interval. With one space
    there is no verdict.
    """
    text_scores, text_chance = text_scores or {}, text_chance or {}
    acts, texts = Spread.of(ACTIVATIONS, scores, chance, cfg), Spread.of(TEXTS, text_scores, text_chance, cfg)
    beside: dict[str, Cell] = {
        "features": len(acts.values),
        "features without a score": sum(np.asarray(one).size for one in scores.values()) - len(acts.values),
        "representation of the texts": text_space if texts.measured else None,
        **acts.beside(cfg.coherence),
        **texts.beside(cfg.coherence),
    }
    if len(knows_nothing := _pooled(untrained or {})):
        beside |= {
            "mean on a model of random weights": float(knows_nothing.mean()),
            "features on a model of random weights": len(knows_nothing),
        }
    weaker = min((one for one in (acts, texts) if one.measured), key=lambda one: one.mean, default=None)
    verdict, sentence = _judged(weaker, acts, texts, cfg, text_space)
    return Criterion.model_validate(
        {
            "number": 5,
            "name": "coherence",
            "question": (
                "Are two of a feature's top texts nearer to each other than to a random text of their language, by "
                "the model's activations and by the texts themselves?"
            ),
            "published": f"algorithmic coherence ≥ {cfg.coherence:.2f}",
            "value": weaker.mean if weaker else None,
            "ci": weaker.ci if weaker else None,
            "threshold": cfg.coherence,
            "comparison": ">=",
            "null": (weaker or acts).as_null(),
            "verdict": verdict,
            "sentence": sentence,
            "beside": beside,
            "per_dictionary": [
                _row(name, scores[name], chance.get(name), text_scores.get(name), text_chance.get(name))
                for name in sorted(scores)
            ],
        }
    )


def _judged(
    weaker: Spread | None, acts: Spread, texts: Spread, cfg: CriteriaConfig, text_space: str
) -> tuple[str, str]:
    """Verdict and sentence."""
    if weaker is None:
        return "not measured", "Fewer than two features have enough top texts."
    if not (acts.measured and texts.measured):
        return "not measured", (
            f"By {weaker.name} alone, two top texts are nearer to each other than to a random text with probability "
            f"{weaker.mean:.2f}; it is not judged in one space, which may favour the features found in it."
        )
    verdict = "pass" if acts.passes(cfg.coherence) and texts.passes(cfg.coherence) else "fail"
    return verdict, (
        f"Over {len(acts.values):,} live features, two top texts are nearer to each other than to a random text "
        f"of the same language with probability {acts.mean:.2f} by the model's activations (random top texts: "
        f"{acts.null_mean:.2f}) and {texts.mean:.2f} by the texts alone ({text_space}; random top "
        f"texts: {texts.null_mean:.2f}). The lower decides."
    )


def _pooled(scores: Scores) -> np.ndarray:
    parts = [finite_values(scores[name]) for name in sorted(scores)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _row(name: str, *columns: np.ndarray | None) -> dict[str, Cell]:
    """Means of the scores, their null, the scores by the texts, and their null."""
    found = [finite_values(one) if one is not None else np.zeros(0) for one in columns]
    means = [float(one.mean()) if len(one) else None for one in found]
    return {
        "dictionary": name,
        "coherence": means[0],
        "null": means[1],
        "coherence_by_texts": means[2],
        "null_by_texts": means[3],
        "features": len(found[0]),
        "missing": None if len(found[0]) else "no feature has a score",
    }
