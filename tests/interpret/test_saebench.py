"""SAEBench's score: who always says no has 10 of 14 exactly, and a failed call has nothing."""

from __future__ import annotations

import polars as pl
import pytest

from antar.interpret.judge import KeywordPredictor
from antar.interpret.saebench import ALWAYS_NO, keyword_answer, saebench_record, score_saebench
from antar.interpret.types import Claim, SaebenchAnswer, SaebenchCase, ShownText


def case(feature: str) -> SaebenchCase:
    fires = tuple(i % 4 == 1 for i in range(14))
    texts = tuple(
        ShownText(f"{feature}-{i}", "lamps of diwali" if fire else "the bus was late", "en", 0.0)
        for i, fire in enumerate(fires)
    )
    return SaebenchCase(Claim(feature, "diwali", ("diwali",), 1), texts, fires)


def test_scripted_predictors() -> None:
    cases = [case(f"f{i}") for i in range(6)]
    said = {
        "no": lambda one: SaebenchAnswer((False,) * 14),
        "oracle": lambda one: SaebenchAnswer(one.fires),
        "keywords": lambda one: keyword_answer(KeywordPredictor(), one),
        "failing": lambda one: SaebenchAnswer(None, "timeout"),
        "half": lambda one: (
            SaebenchAnswer(None, "timeout") if one.claim.feature < "f3" else SaebenchAnswer(one.fires)
        ),
    }
    rows = [saebench_record(one, answer(one), name, "1") for name, answer in said.items() for one in cases]
    assert sum(cases[0].fires) == 4
    assert list(rows[0]) == [
        "feature", "predictor", "n", "positives", "correct", "accuracy", "failed", "version"
    ]  # fmt: skip
    frame = pl.DataFrame(rows, infer_schema_length=None)
    found = score_saebench(frame, 1)
    assert ALWAYS_NO == 10 / 14
    assert [found["no"][name] for name in ("value", "low", "high")] == pytest.approx([10 / 14] * 3)
    assert (rows[0]["correct"], rows[0]["accuracy"]) == (10, ALWAYS_NO)
    assert found["oracle"]["value"] == found["keywords"]["value"] == 1.0
    assert found["failing"] == {"value": 0.0, "low": 0.0, "high": 0.0, "features": 6, "failed": 6}
    assert (found["half"]["value"], found["half"]["failed"]) == (0.5, 3)
    assert score_saebench(frame.sample(fraction=1, shuffle=True, seed=2), 1) == found
    assert score_saebench(frame.clear(), 1) == {}
