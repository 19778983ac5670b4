"""Criterion 3's number: from the label alone, does this held-out text fire the feature?

For each feature the balanced accuracy over its texts, then the mean over features, with a 95% percentile interval by
bootstrap over features. A failed call (`predicted` null) is a wrong answer. AUROC uses the scores and stands beside;
there a failed call has the worst score of its class, so that failing is never better than answering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from antar.core.seeds import numpy_rng

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Score:
    """A mean over features with its 95% interval. All None when there is no feature to score.

    features: in the mean; failed: texts for which no answer came, counted as wrong; auroc: mean over the features
    that have a score for every text that was answered, with its interval, None from a predictor without scores.
    """

    value: float | None
    low: float | None
    high: float | None
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    features: int
    failed: int

    def as_dict(self) -> dict[str, float | int | None]:
        return {
            "value": self.value, "low": self.low, "high": self.high,
            "auroc": self.auroc, "auroc_low": self.auroc_low, "auroc_high": self.auroc_high,
            "features": self.features, "failed": self.failed,
        }  # fmt: skip


@dataclass(frozen=True)
class PredictionScores:
    """The right labels' score, the wrong labels' beside it, and the right labels' in each language.

    per_feature: `feature, wrong_label, balanced_accuracy, auroc, texts`
    """

    right: Score
    wrong: Score
    by_language: dict[str, Score]
    per_feature: pl.DataFrame

    def as_dict(self) -> dict[str, object]:
        return {
            "right": self.right.as_dict(),
            "wrong_label": self.wrong.as_dict(),
            "by_language": {language: score.as_dict() for language, score in self.by_language.items()},
        }


def score_predictions(
    predictions: pl.DataFrame, texts: pl.DataFrame, *, seed: int, predictor: str | None = None
) -> PredictionScores:
    """Score `interpret/predictions.jsonl` (as `read_predictions` gives it); `texts` gives each text its language.

    predictor: whose answers; None for the only one, or for the one that is scored beside the keywords
    """
    own = _of_predictor(predictions, predictor)
    with_language = _with_worst_scores(own).join(texts.select("text_id", "language"), on="text_id", how="left")
    right = with_language.filter(~pl.col("wrong_label"))
    wrong = with_language.filter(pl.col("wrong_label"))
    languages = sorted(language for language in right["language"].unique() if language is not None)
    return PredictionScores(
        right=_score(right, seed, "right"),
        wrong=_score(wrong, seed, "wrong"),
        by_language={
            language: _score(right.filter(pl.col("language") == language), seed, language) for language in languages
        },
        per_feature=pl.concat(
            [
                _per_feature(part).with_columns(wrong_label=pl.lit(flag))
                for part, flag in ((right, False), (wrong, True))
            ]
        ),
    )


def _of_predictor(predictions: pl.DataFrame, predictor: str | None) -> pl.DataFrame:
    names = sorted(name for name in predictions["predictor"].unique() if name is not None)
    if predictor is None:
        chosen = names if len(names) == 1 else [name for name in names if name != "keywords"]
        if len(chosen) > 1:
            raise ValueError(f"expected the name of a predictor, found none among {', '.join(chosen)}")
        predictor = chosen[0] if chosen else None
    return predictions.filter(pl.col("predictor") == predictor) if predictor is not None else predictions


def _with_worst_scores(predictions: pl.DataFrame) -> pl.DataFrame:
    """Failed calls get the worst score, where the predictor gives scores at all."""
    if predictions["score"].null_count() == predictions.height:
        return predictions
    worst = pl.when(pl.col("fires")).then(-float("inf")).otherwise(float("inf"))
    return predictions.with_columns(score=pl.when(pl.col("predicted").is_null()).then(worst).otherwise("score"))


def _per_feature(predictions: pl.DataFrame) -> pl.DataFrame:
    """One row a feature that has texts of both classes; features in their order of name."""
    table = _accuracies(predictions, scores=pl.col("score"), classes=pl.col("fires"), texts=pl.len())
    aurocs = [
        auroc(np.array(scores, dtype=float), np.array(classes, dtype=bool))
        for scores, classes in zip(table["scores"].to_list(), table["classes"].to_list(), strict=True)
    ]
    return table.select(
        "feature",
        "balanced_accuracy",
        auroc=pl.Series(aurocs, dtype=pl.Float64),
        texts=pl.col("texts").cast(pl.Int64),
    )


def balanced_accuracies(predictions: pl.DataFrame) -> pl.DataFrame:
    """`feature, balanced_accuracy` of the right labels alone: `score_predictions` without means and intervals."""
    right = _of_predictor(predictions, None).filter(~pl.col("wrong_label"))
    return _accuracies(right).select("feature", "balanced_accuracy")


def _accuracies(predictions: pl.DataFrame, **beside: pl.Expr) -> pl.DataFrame:
    """`feature, balanced_accuracy` and what is wanted `beside` them; features with texts of both classes, by name."""
    correct = (pl.col("predicted") == pl.col("fires")).fill_null(False).cast(pl.Float64)
    hit, rejected = (pl.col("correct").filter(its).mean() for its in (pl.col("fires"), ~pl.col("fires")))
    return (
        predictions.with_columns(correct=correct)
        .group_by("feature")
        .agg(balanced_accuracy=(hit + rejected) / 2, **beside)
        .drop_nulls("balanced_accuracy")
        .sort("feature")
    )


def auroc(scores: np.ndarray, classes: np.ndarray) -> float | None:
    """P(score of a positive > score of a negative), ties half; None without both classes or with a missing score."""
    positives, negatives = int(classes.sum()), int((~classes).sum())
    if positives == 0 or negatives == 0 or np.isnan(scores).any():
        return None
    from scipy.stats import rankdata  # a third of a second, which only this waits for

    ranks = rankdata(scores)
    return float((ranks[classes].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _score(predictions: pl.DataFrame, seed: int, name: str) -> Score:
    failed = int(predictions["predicted"].null_count())
    table = _per_feature(predictions)
    if table.is_empty():
        return Score(None, None, None, None, None, None, 0, failed)
    value, low, high = mean_interval(table["balanced_accuracy"].to_numpy(), seed, name)
    aurocs = table["auroc"].drop_nulls().to_numpy()
    return Score(value, low, high, *mean_interval(aurocs, seed, name), table.height, failed)


def mean_interval(values: np.ndarray, seed: int, name: str) -> tuple[float | None, float | None, float | None]:
    """(mean, low, high) with a 95% percentile interval by bootstrap; None of each without values."""
    if len(values) == 0:
        return None, None, None
    low, high = np.quantile(bootstrap_means(values, numpy_rng(seed, "interpret", "bootstrap", name)), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def bootstrap_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float64 `[BOOTSTRAPS]`: means of resamples with replacement, in slabs so that memory stays small."""
    slab = max(1, 4_000_000 // len(values))
    means = [
        values[rng.integers(len(values), size=(min(slab, BOOTSTRAPS - start), len(values)))].mean(axis=1)
        for start in range(0, BOOTSTRAPS, slab)
    ]
    return np.concatenate(means)
