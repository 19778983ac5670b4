"""SAEBench's way of scoring labels, beside criterion 3's own: 14 texts in one question, plain accuracy.

Four of the texts fire the feature (2 strongest, 2 drawn by strength) and ten are random: always saying no has
10/14 = 0.714 (Karvonen et al. 2025, arXiv 2503.09532). It is reported beside that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from antar.core.seeds import numpy_rng
from antar.interpret.cases import BY_STRENGTH, RANDOM, STRONGEST
from antar.interpret.judge import KeywordPredictor
from antar.interpret.scores import bootstrap_means
from antar.interpret.types import PredictionCase, SaebenchAnswer, SaebenchCase

TEXTS = STRONGEST + BY_STRENGTH + RANDOM
ALWAYS_NO = RANDOM / TEXTS


def saebench_record(case: SaebenchCase, answer: SaebenchAnswer, predictor: str, version: str) -> dict[str, Any]:
    """One feature's line. A failed call has no accuracy here and counts 0 in the mean."""
    right = (
        None if answer.predicted is None else sum(a == b for a, b in zip(answer.predicted, case.fires, strict=True))
    )
    return {
        "feature": case.claim.feature,
        "predictor": predictor,
        "n": len(case.texts),
        "positives": sum(case.fires),
        "correct": right,
        "accuracy": None if right is None else right / len(case.texts),
        "version": version,
        "failed": answer.failed,
    }


def keyword_answer(predictor: KeywordPredictor, case: SaebenchCase) -> SaebenchAnswer:
    """The keyword baseline's answer to the same question."""
    asked = PredictionCase(case.claim, case.texts, case.fires, (False,) * len(case.texts), wrong_label=False)
    (answers,) = predictor.predict([asked])
    return SaebenchAnswer(tuple(bool(answer.predicted) for answer in answers))


def score_saebench(records: pl.DataFrame, seed: int) -> dict[str, dict[str, Any]]:
    """predictor → `value` (mean accuracy over features), its 95% bootstrap interval, `features`, `failed`."""
    found: dict[str, dict[str, Any]] = {}
    for (predictor,), part in records.sort("predictor", maintain_order=True).group_by(
        "predictor", maintain_order=True
    ):
        values = part["accuracy"].fill_null(0.0).to_numpy()
        means = bootstrap_means(values, numpy_rng(seed, "interpret", "saebench", predictor))
        low, high = np.quantile(means, [0.025, 0.975])
        found[predictor] = {
            "value": float(values.mean()),
            "low": float(low),
            "high": float(high),
            "features": len(values),
            "failed": int(part["accuracy"].null_count()),
        }
    return found
