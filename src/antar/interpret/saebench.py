"""SAEBench's form of criterion 3: one question with 14 texts, of which 4 fire, scored by plain accuracy.

It stands beside the balanced accuracy so that the number can be compared with published ones. Plain accuracy rewards
saying no: who never says yes has 10 of 14 right, and the score is read beside that (`ALWAYS_NO`).
"""

from __future__ import annotations

from typing import Any

import polars as pl

from antar.interpret.cases import SAEBENCH_SILENT, SAEBENCH_TOP, SAEBENCH_WEIGHTED
from antar.interpret.judge import KeywordPredictor
from antar.interpret.scores import mean_interval
from antar.interpret.types import PredictionCase, SaebenchAnswer, SaebenchCase

ALWAYS_NO = SAEBENCH_SILENT / (SAEBENCH_SILENT + SAEBENCH_TOP + SAEBENCH_WEIGHTED)
"""The accuracy of never saying yes."""


def keyword_answer(predictor: KeywordPredictor, case: SaebenchCase) -> SaebenchAnswer:
    """What the keyword predictor says of each text by itself."""
    hard = (False,) * len(case.texts)
    asked = PredictionCase(case.claim, case.texts, case.fires, hard, wrong_label=False)
    return SaebenchAnswer(tuple(bool(one.predicted) for one in predictor.predict([asked])[0]))


def saebench_record(case: SaebenchCase, answer: SaebenchAnswer, predictor: str, version: str) -> dict[str, Any]:
    """One feature's line: a call that failed has nothing right."""
    n = len(case.texts)
    said = answer.predicted
    correct = 0 if said is None else sum(one == fires for one, fires in zip(said, case.fires, strict=True))
    return {
        "feature": case.claim.feature,
        "predictor": predictor,
        "n": n,
        "positives": sum(case.fires),
        "correct": correct,
        "accuracy": correct / n,
        "failed": answer.failed or "no answer" if said is None else None,
        "version": version,
    }


def score_saebench(frame: pl.DataFrame, seed: int) -> dict[str, dict[str, float | int | None]]:
    """predictor → mean accuracy over features with its 95% bootstrap interval; a failed call has accuracy 0."""
    found: dict[str, dict[str, float | int | None]] = {}
    for (name,), part in sorted(frame.partition_by("predictor", as_dict=True).items()):
        failed = part["failed"].is_not_null()
        # By name, so that the interval does not hang on the order of the records.
        accuracy = part.with_columns(accuracy=pl.when(failed).then(0.0).otherwise("accuracy")).sort("feature")
        value, low, high = mean_interval(accuracy["accuracy"].to_numpy(), seed, f"saebench {name}")
        found[str(name)] = {
            "value": value, "low": low, "high": high, "features": part.height, "failed": int(failed.sum())
        }  # fmt: skip
    return found
