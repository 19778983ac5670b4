"""Criteria 5 and 7: are a feature's top texts alike, and does the feature come back in another training run?

Both are means over the live features, judged against a threshold and against a null that is measured in the same
way: random texts for coherence (0.5 in theory), random directions for stability (which grows with the number of
directions to match with, so it has no theoretical value).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from antar.criteria.config import CriteriaConfig
from antar.criteria.effect import change_rows
from antar.criteria.intervals import bootstrap_mean, finite_values
from antar.criteria.types import Cell, Criterion, Interval, Null
from antar.features.stability import Reliability, split_half_reliability

Scores = Mapping[str, np.ndarray]
"""Dictionary → one number a feature; NaN where a feature has too few texts. Stability: any shape, NaN ignored."""


def _pooled(scores: Scores) -> np.ndarray:
    parts = [finite_values(scores[name]) for name in sorted(scores)]
    return np.concatenate(parts) if parts else np.zeros(0)


def coherence(scores: Scores, chance: Scores, cfg: CriteriaConfig, untrained: Scores | None = None) -> Criterion:
    """Criterion 5. value: mean over live features of the probability that two of its top texts are nearer to each
    other than one of them is to a random text of the same language. It must reach the threshold and lie above the
    upper end of the null's interval. `chance`: the same with random texts as the top ones; may be empty. `untrained`:
    the same for dictionaries of a model of random weights, in that model's own activations."""
    values, null = _pooled(scores), _pooled(chance)
    rows = [_row(name, scores[name], chance.get(name), "coherence") for name in sorted(scores)]
    without = sum(np.asarray(one).size for one in scores.values()) - len(values)
    question = "Are two of a feature's top texts nearer to each other than to a random text of their language?"
    beside: dict[str, Cell] = {
        "features": len(values),
        "features without a score": without,
        f"share of features at {cfg.coherence:.2f} or more": _share(values >= cfg.coherence),
    }
    if len(knows_nothing := _pooled(untrained or {})):
        beside |= {
            "mean on a model of random weights": float(knows_nothing.mean()),
            "features on a model of random weights": len(knows_nothing),
        }
    ci = bootstrap_mean(values, cfg, "coherence")
    null_ci = bootstrap_mean(null, cfg, "coherence", "null")
    measured_null = (
        Null(name="random texts as the top ones", value=float(null.mean()), ci=null_ci)
        if len(null)
        else Null(name="chance (theory)", value=0.5)
    )
    if ci is None:
        sentence = "Fewer than two features have enough top texts."
        return _criterion(
            5, "coherence", question, cfg, None, None, measured_null, "not measured", sentence, beside, rows
        )
    value, bar = float(values.mean()), null_ci[1] if null_ci else 0.5
    passed = value >= cfg.coherence and value > bar
    sentence = (
        f"Over {len(values):,} live features, two top texts are nearer to each other than to a random text of the "
        f"same language with probability {value:.2f} (random top texts: {measured_null.value:.2f})."
    )
    verdict = "pass" if passed else "fail"
    return _criterion(5, "coherence", question, cfg, value, ci, measured_null, verdict, sentence, beside, rows)


def stability(scores: Scores, random: Scores, contrasts: pl.DataFrame, cfg: CriteriaConfig) -> Criterion:
    """Criterion 7. value: mean cosine of matched decoder directions (Hungarian) between each dictionary and its
    replicas (other seeds, other folds). It must be above the threshold and above the upper end of the null's
    interval. `random`: the same matching between the dictionary and random directions."""
    values, null = _pooled(scores), _pooled(random)
    rows = [_row(name, scores[name], random.get(name), "stability") for name in sorted(scores)]
    halves = effect_halves(contrasts)
    beside: dict[str, Cell] = {
        "split-half reliability of the effects": halves.value,
        "split-half reliability, low": halves.lo,
        "split-half reliability, high": halves.hi,
        "correlation of the halves": halves.r,
        "effects in it": halves.n,
        "matched directions": len(values),
        f"share of directions above {cfg.stability:.2f}": _share(values > cfg.stability),
    }
    question = "Do the same directions come back with another seed and other folds of the documents?"
    ci, null_ci = bootstrap_mean(values, cfg, "stability"), bootstrap_mean(null, cfg, "stability", "null")
    measured_null = Null(name="random directions", value=float(null.mean()), ci=null_ci) if len(null) else None
    if ci is None:
        sentence = "No dictionary was trained again with another seed or fold."
        return _criterion(
            7, "stability", question, cfg, None, None, measured_null, "not measured", sentence, beside, rows
        )
    value = float(values.mean())
    passed = value > cfg.stability and (null_ci is None or value > null_ci[1])
    against = f"; random directions match with {measured_null.value:.2f}" if measured_null else ""
    sentence = f"Matched directions of replicas have a mean cosine of {value:.2f}{against}."
    verdict = "pass" if passed else "fail"
    return _criterion(7, "stability", question, cfg, value, ci, measured_null, verdict, sentence, beside, rows)


def effect_halves(contrasts: pl.DataFrame) -> Reliability:
    """Agreement over features of d_av on the two halves of the documents: real base-vs-chat rows only."""
    rows = change_rows(contrasts.filter(pl.col("null") == ""))
    select, estimate = (
        rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in ("d_av_select", "d_av")
    )
    return split_half_reliability(select, estimate)


def _share(passing: np.ndarray) -> float | None:
    return float(passing.mean()) if passing.size else None


def _row(name: str, scores: np.ndarray, null: np.ndarray | None, called: str) -> dict[str, Cell]:
    values = finite_values(scores)
    nulls = finite_values(null) if null is not None else np.zeros(0)
    return {
        "dictionary": name,
        called: float(values.mean()) if len(values) else None,
        "null": float(nulls.mean()) if len(nulls) else None,
        "features": len(values),
        "missing": None if len(values) else "no feature has a score",
    }


def _criterion(
    number: int,
    name: str,
    question: str,
    cfg: CriteriaConfig,
    value: float | None,
    ci: Interval | None,
    null: Null | None,
    verdict: str,
    sentence: str,
    beside: dict[str, Cell],
    rows: list[dict[str, Cell]],
) -> Criterion:
    coherent = number == 5
    threshold = cfg.coherence if coherent else cfg.stability
    published = "algorithmic coherence ≥" if coherent else "cross-validation stability >"
    return Criterion.model_validate(
        {
            "number": number,
            "name": name,
            "question": question,
            "published": f"{published} {threshold:.2f}",
            "value": value,
            "ci": ci,
            "threshold": threshold,
            "comparison": ">=" if coherent else ">",
            "null": null,
            "verdict": verdict,
            "sentence": sentence,
            "beside": beside,
            "per_dictionary": rows,
        }
    )
