"""The score measures what it says: 1.00 for the codes themselves, 0.50 for a constant, nothing for silence."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from antar.interpret.scores import auroc, score_predictions

N_FEATURES, N_TEXTS = 30, 20
TEXTS = pl.DataFrame({"text_id": [f"t{i}" for i in range(N_TEXTS)], "language": ["en", "hi"] * (N_TEXTS // 2)})


def predictions(judge: str, wrong: bool = False) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    fires = np.array([i < N_TEXTS // 2 for i in range(N_TEXTS)])
    rows = []
    for feature in range(N_FEATURES):
        said = {
            "oracle": fires, "constant": np.zeros(N_TEXTS, dtype=bool), "shuffled": rng.random(N_TEXTS) < 0.5,
            "good": np.where(rng.random(N_TEXTS) < 0.8, fires, ~fires),
        }[judge]  # fmt: skip
        rows += [
            {"feature": f"f{feature}", "text_id": f"t{i}", "fires": bool(fires[i]), "predicted": bool(said[i]),
             "score": float(said[i]) + rng.random() * 0.5, "predictor": judge, "wrong_label": wrong}
            for i in range(N_TEXTS)
        ]  # fmt: skip
    return pl.DataFrame(rows)


def test_oracle_constant_and_shuffled_judges() -> None:
    oracle = score_predictions(predictions("oracle"), TEXTS, seed=0)
    assert (oracle.right.value, oracle.right.low, oracle.right.auroc) == (1.0, 1.0, 1.0)
    assert score_predictions(predictions("constant"), TEXTS, seed=0).right.value == 0.5
    shuffled = score_predictions(predictions("shuffled"), TEXTS, seed=0).right
    assert shuffled.value == pytest.approx(0.5, abs=0.06)
    assert shuffled.low is not None
    assert shuffled.high is not None
    assert shuffled.low < 0.5 < shuffled.high


def test_equal_to_scikit_learn_and_to_a_naive_bootstrap() -> None:
    frame = predictions("good")
    found = score_predictions(frame, TEXTS, seed=0)
    each = [
        (
            balanced_accuracy_score(part["fires"].to_numpy(), part["predicted"].to_numpy()),
            roc_auc_score(part["fires"].to_numpy(), part["score"].to_numpy()),
        )
        for part in frame.partition_by("feature")
    ]
    values = np.array([value for value, _ in each])
    assert found.right.value == pytest.approx(values.mean())
    assert found.right.auroc == pytest.approx(np.mean([value for _, value in each]))
    assert found.right.features == N_FEATURES
    rng = np.random.default_rng(5)
    means = [values[rng.integers(N_FEATURES, size=N_FEATURES)].mean() for _ in range(4000)]
    assert (found.right.low, found.right.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)
    assert score_predictions(frame.sample(fraction=1, shuffle=True, seed=1), TEXTS, seed=0).right == found.right


def test_failures_are_wrong_and_languages_and_wrong_labels_stand_apart() -> None:
    frame = predictions("oracle").with_columns(
        predicted=pl.when(pl.col("text_id").is_in(["t1", "t3"])).then(None).otherwise(pl.col("predicted"))
    )
    both = pl.concat([frame, predictions("shuffled", wrong=True)]).with_columns(predictor=pl.lit("a model"))
    found = score_predictions(both, TEXTS, seed=0)
    # Two of the ten firing texts failed, both Hindi: (0.8 + 1) / 2, and in Hindi (0.6 + 1) / 2.
    assert found.right.value == pytest.approx(0.9)
    assert found.right.failed == 2 * N_FEATURES
    assert found.by_language["hi"].value == pytest.approx(0.8)
    assert found.by_language["en"].value == 1.0
    assert found.wrong.value == pytest.approx(0.5, abs=0.06)
    assert found.wrong.failed == 0
    assert found.per_feature.filter(pl.col("wrong_label")).height == N_FEATURES


def test_nothing_to_score_is_none() -> None:
    empty = score_predictions(predictions("oracle").clear(), TEXTS, seed=0)
    assert empty.right.value is None
    assert empty.by_language == {}
    one_class = score_predictions(predictions("oracle").filter(pl.col("fires")), TEXTS, seed=0)
    assert one_class.right.value is None
    assert auroc(np.array([1.0, np.nan]), np.array([True, False])) is None


def test_one_predictor_at_a_time() -> None:
    keywords = predictions("constant").with_columns(predictor=pl.lit("keywords"))
    model = predictions("oracle")
    both = pl.concat([keywords, model])
    assert score_predictions(both, TEXTS, seed=0).right == score_predictions(model, TEXTS, seed=0).right
    assert score_predictions(both, TEXTS, seed=0, predictor="keywords").right.value == 0.5
    assert score_predictions(keywords, TEXTS, seed=0).right.value == 0.5
    assert score_predictions(both, TEXTS, seed=0, predictor="nobody").right.value is None
    with pytest.raises(ValueError, match="good, oracle"):
        score_predictions(pl.concat([both, predictions("good")]), TEXTS, seed=0)


def test_a_failed_call_has_the_worst_score() -> None:
    said = pl.when(pl.col("text_id").is_in(["t1", "t15"])).then(None)
    frame = predictions("oracle").with_columns(
        predicted=said.otherwise(pl.col("predicted")), score=said.otherwise(pl.col("score"))
    )
    found = score_predictions(frame, TEXTS, seed=0).right
    # Of 100 pairs the failed firing text loses 10 and the failed silent one 9 more.
    assert found.auroc == pytest.approx(0.81)
    assert found.auroc_low == pytest.approx(0.81)
    assert found.auroc_high == pytest.approx(0.81)
    assert found.value == pytest.approx(0.9)


def test_all_failed_is_nothing_and_has_no_auroc() -> None:
    nothing = pl.lit(None)
    frame = predictions("oracle").with_columns(predicted=nothing.cast(pl.Boolean), score=nothing.cast(pl.Float64))
    found = score_predictions(frame, TEXTS, seed=0).right
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.auroc, found.auroc_low, found.auroc_high) == (None, None, None)
    assert found.failed == N_FEATURES * N_TEXTS
    # Where others of this predictor have scores, a feature whose calls all failed counts as 0.
    mixed = pl.concat(
        [frame.filter(pl.col("feature") == "f0"), predictions("oracle").filter(pl.col("feature") == "f1")]
    )
    assert score_predictions(mixed, TEXTS, seed=0).right.auroc == 0.5


def test_answers_without_scores_have_no_auroc() -> None:
    frame = predictions("oracle").with_columns(score=pl.lit(None, pl.Float64))
    found = score_predictions(frame, TEXTS, seed=0).right
    assert (found.value, found.auroc) == (1.0, None)
