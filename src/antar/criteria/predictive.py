"""Criterion 3: can a reader who knows only a feature's label say which unseen texts activate it?

Balanced accuracy, so that a predictor that always says no gets 0.5 (a plain accuracy over 14 examples of which
10 are negative gives it 0.714). A call that failed counts as wrong; a feature whose label was invalidated counts
like every other. The keyword matcher is a baseline and never the judge: without an LLM there is no value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from antar.criteria.config import CriteriaConfig
from antar.criteria.intervals import bootstrap_mean
from antar.criteria.types import Cell, Criterion, Null
from antar.interpret.saebench import ALWAYS_NO

KEYWORDS = "keywords"
"""The embedded predictor that needs no LLM."""


def balanced_accuracies(predictions: pl.DataFrame) -> pl.DataFrame:
    """Per feature: `feature, dictionary, n, failed, balanced_accuracy`; the last is null where the tested texts
    all fire the feature or all do not, because then no balanced accuracy exists.

    balanced accuracy = (share of the firing texts predicted to fire + share of the others predicted not to) / 2.
    A `predicted` of null is a failed call and is wrong either way.
    """
    right = (pl.col("predicted") == pl.col("fires")).fill_null(False)
    return (
        predictions.group_by("feature")
        .agg(
            pl.len().alias("n"),
            pl.col("predicted").is_null().sum().alias("failed"),
            right.filter(pl.col("fires")).mean().alias("_sensitivity"),
            right.filter(~pl.col("fires")).mean().alias("_specificity"),
        )
        .select(
            "feature",
            pl.col("feature").str.replace(r"/\d+$", "").alias("dictionary"),
            "n",
            "failed",
            ((pl.col("_sensitivity") + pl.col("_specificity")) / 2).alias("balanced_accuracy"),
        )
        .sort("feature")
    )


def _mean(scores: pl.DataFrame) -> float | None:
    values = _values(scores)
    return float(values.mean()) if len(values) else None


def _values(scores: pl.DataFrame) -> np.ndarray:
    return scores["balanced_accuracy"].drop_nulls().to_numpy()


def predictive_validity(
    predictions: pl.DataFrame | None,
    n_labelled: int,
    cfg: CriteriaConfig,
    facts: Mapping[str, Any] | None = None,
) -> Criterion:
    """Criterion 3. value: mean balanced accuracy over the labelled features; the lower end of its interval decides.

    predictions: `feature, fires, predicted, predictor, wrong_label`; `wrong_label` rows put another feature's
                 label to the same texts
    n_labelled:  how many features have a label; those without a prediction are counted beside
    facts:       of the interpret stage, where a language model predicted: AUROC, languages, SAEBench's form, and how
                 good the validator is
    """
    frame = predictions if predictions is not None and predictions.height else None
    llms = [] if frame is None else sorted(set(frame["predictor"].to_list()) - {KEYWORDS})
    beside: dict[str, Cell] = {"labelled features": n_labelled}
    if frame is not None and KEYWORDS in frame["predictor"]:
        beside |= _baseline(frame.filter(pl.col("predictor") == KEYWORDS), cfg)
    if frame is None or not llms:
        keyword = beside.get("keyword baseline")
        told = (
            f" The keyword baseline reaches {keyword:.2f}, which says how far words go, not how good the labels are."
            if isinstance(keyword, float)
            else ""
        )
        return _criterion(
            cfg, None, None, None, "not measured", f"No language model read the labels.{told}", beside, []
        )
    beside |= _of_model(facts or {})
    return _measured(frame.filter(pl.col("predictor") == llms[-1]), llms, n_labelled, beside, cfg)


def _of_model(facts: Mapping[str, Any]) -> dict[str, Cell]:
    """What stands beside a language model's score."""
    scores = facts.get("scores") or {}
    right = scores.get("right") or {}
    found: dict[str, Cell] = {"AUROC": right.get("auroc"), "AUROC, low": right.get("auroc_low"),
                              "AUROC, high": right.get("auroc_high")}  # fmt: skip
    for language, score in (scores.get("by_language") or {}).items():
        found[f"balanced accuracy on {language} texts"] = score.get("value")
        found[f"balanced accuracy on {language} texts, low"] = score.get("low")
        found[f"balanced accuracy on {language} texts, high"] = score.get("high")
    bench = (facts.get("saebench") or {}).get(facts.get("predictor")) or {}
    if bench:
        found["SAEBench's 14-text accuracy"] = bench.get("value")
        found["SAEBench's 14-text accuracy of always saying no"] = ALWAYS_NO
    for name, words in (("true_positive", "right labels that the validator kept"),
                        ("true_negative", "wrong labels that the validator did not keep")):  # fmt: skip
        rate = (facts.get("validator_rates") or {}).get(name) or {}
        if rate:
            found[words] = rate.get("value")
    return found


def _measured(
    frame: pl.DataFrame, llms: list[str], n_labelled: int, beside: dict[str, Cell], cfg: CriteriaConfig
) -> Criterion:
    scores = balanced_accuracies(frame.filter(~pl.col("wrong_label")))
    wrong = balanced_accuracies(frame.filter(pl.col("wrong_label")))
    value, ci = _mean(scores), bootstrap_mean(_values(scores), cfg, "predictive validity")
    scored, failed, calls = len(_values(scores)), int(scores["failed"].sum()), int(scores["n"].sum())
    beside |= {
        "predictor": llms[-1],
        "other predictors, not used": ", ".join(llms[:-1]) or None,
        "features scored": scored,
        "labelled features not scored": max(n_labelled - scored, 0),
        "failed calls (counted wrong)": failed,
        "calls": calls,
    }
    null = Null(
        name="another feature's label" if wrong.height else "a constant answer (theory)",
        value=_mean(wrong) if wrong.height else 0.5,
        ci=bootstrap_mean(_values(wrong), cfg, "wrong label") if wrong.height else None,
    )
    if value is None or ci is None:
        sentence = "Fewer than two labelled features could be tested."
        return _criterion(cfg, value, ci, null, "not measured", sentence, beside, _rows(scores, wrong))
    passed = ci[0] >= cfg.predictive_validity
    sentence = (
        f"From the label alone, {llms[-1]} tells firing from silent texts with a balanced accuracy of {value:.2f} "
        f"(at least {ci[0]:.2f}) over {scored:,} features; with another feature's label it reaches "
        f"{'an unknown value' if null.value is None else f'{null.value:.2f}'}."
    )
    return _criterion(cfg, value, ci, null, "pass" if passed else "fail", sentence, beside, _rows(scores, wrong))


def _baseline(frame: pl.DataFrame, cfg: CriteriaConfig) -> dict[str, Cell]:
    numbers: dict[str, Cell] = {}
    for name, rows in (
        ("keyword baseline", frame.filter(~pl.col("wrong_label"))),
        ("keyword baseline with another feature's label", frame.filter(pl.col("wrong_label"))),
    ):
        scores = balanced_accuracies(rows)
        ci = bootstrap_mean(_values(scores), cfg, name)
        numbers[name] = _mean(scores)
        numbers[f"{name}, low"] = ci[0] if ci else None
        numbers[f"{name}, high"] = ci[1] if ci else None
        numbers[f"{name}, features"] = len(_values(scores))
    return numbers


def _rows(scores: pl.DataFrame, wrong: pl.DataFrame) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for (dictionary,), group in scores.sort("dictionary").group_by("dictionary", maintain_order=True):
        others = wrong.filter(pl.col("dictionary") == dictionary)
        rows.append(
            {
                "dictionary": str(dictionary),
                "features": len(_values(group)),
                "balanced_accuracy": _mean(group),
                "wrong_label": _mean(others),
                "failed": int(group["failed"].sum()),
                "missing": None if len(_values(group)) else "no feature with both firing and silent texts",
            }
        )
    return rows


def _criterion(
    cfg: CriteriaConfig,
    value: float | None,
    ci: tuple[float, float] | None,
    null: Null | None,
    verdict: str,
    sentence: str,
    beside: dict[str, Cell],
    rows: list[dict[str, Cell]],
) -> Criterion:
    return Criterion.model_validate(
        {
            "number": 3,
            "name": "predictive validity",
            "question": "Does the label alone say which unseen texts activate a feature (lower end of the interval)?",
            "published": f"SAEBench score ≥ {cfg.predictive_validity:.2f}",
            "value": value,
            "ci": ci,
            "threshold": cfg.predictive_validity,
            "comparison": ">=",
            "null": null,
            "verdict": verdict,
            "sentence": sentence,
            "beside": beside,
            "per_dictionary": rows,
        }
    )
