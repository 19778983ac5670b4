"""Every verdict of every criterion, on findings small enough to check by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from antar import criteria
from antar.criteria import Agreement, CriteriaConfig, CriteriaReport, Criterion, Findings, Null
from antar.criteria.baselines import culture_beside, culture_counts, culture_sentence
from antar.criteria.effect import NO_SHAM, real_twin
from antar.criteria.study import _labelled
from antar.features.magnitude import Magnitude
from antar.interpret.scores import score_predictions

CFG = CriteriaConfig(replicates=400)


def metrics(fvu: float = 0.02, mse: float = 0.001, k: int = 4, l0: float | None = 4.0, **more: Any) -> dict[str, Any]:
    part = {"mse": mse, "fvu": fvu, "l0": l0, "variance": 0.04, "fvu_pca": 0.4, "fvu_random": 0.9, "live_share": 0.5}
    part |= more
    return {"d_model": 8, "n_latents": 64, "k": k, "parts": {"train": part, "heldout_cultural": part,
            "heldout_control": part}}  # fmt: skip


def contrast_rows(
    dictionary: str, effects: list[float], null: str = "", contrast: str = "shift", q: float = 0.001, **more: Any
) -> pl.DataFrame:
    n = len(effects)
    columns: dict[str, Any] = {
        "contrast": [contrast] * n,
        "dictionary": [dictionary] * n,
        "side_b": ["chat" if contrast != "culture" else dictionary.split(".")[0]] * n,
        "language": ["pooled"] * n,
        "latent": list(range(n)),
        "null": [null] * n,
        "d_av": effects,
        "q": [q] * n,
        "log_odds": [0.0] * n,
        "d_av_select": effects,
    }
    columns |= more
    return pl.DataFrame(columns)


def magnitudes(above: int, of: int, shams: tuple[str, ...] = ("a", "b")) -> list[Magnitude]:
    """The shift at `of` layers: its interval is above every sham's at the first `above` alone."""

    def one(side: str, layer: int, low: float, high: float) -> Magnitude:
        return Magnitude(side, layer, "en", 40, 9.0, (8.0, 10.0), (low + high) / 2, (low, high), 20.0)

    found = [one("delta", layer, 3, 4) for layer in range(of)]
    for name in shams:
        found += [one(f"delta:{name}", layer, 1, 2 if layer < above else 3.5) for layer in range(of)]
    return found


# -- 1 and 2 ------------------------------------------------------------------------------------------------------


def test_reconstruction_passes_only_when_all_dictionaries_pass_by_fvu() -> None:
    good = {"base.layer01": metrics(), "delta.layer01": metrics()}
    assert criteria.reconstruction(good, CFG).verdict == "pass"
    # The published MSE is met and the honest one is not.
    mixed = criteria.reconstruction(good | {"chat.layer01": metrics(fvu=0.3)}, CFG)
    assert mixed.verdict == "fail"
    assert mixed.value == pytest.approx(2 / 3)
    assert mixed.beside["dictionaries with MSE < 0.05 (published)"] == 3
    assert mixed.beside["dictionaries for which the mean alone has MSE < 0.05"] == 3
    assert mixed.null == Null(name="PCA at the same k", value=0.0, ci=criteria.clopper_pearson(0, 3))


def test_reconstruction_leaves_out_replicas_and_the_shams_dictionaries() -> None:
    found = criteria.reconstruction(
        {"base.layer01": metrics(), "base.layer01.seed2": metrics(fvu=0.9), "delta:a.layer01": metrics(fvu=0.5)}, CFG
    )
    assert found.value == 1.0
    assert [row["dictionary"] for row in found.per_dictionary] == ["base.layer01"]
    assert found.beside["mean FVU of the shams' delta dictionaries"] == 0.5


def test_a_nan_metric_becomes_null_with_a_reason() -> None:
    found = criteria.reconstruction({"base.layer01": metrics(fvu=math.nan), "chat.layer01": metrics()}, CFG)
    assert found.verdict == "not measured"
    assert found.value is None and found.ci is None
    row = found.per_dictionary[0]
    assert row["fvu"] is None and row["missing"] == "fvu is not a finite number"
    assert "not known for 1 of 2" in found.sentence
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_no_dictionaries_is_not_measured() -> None:
    assert criteria.reconstruction({}, CFG).verdict == "not measured"
    assert criteria.sparsity({}, CFG).verdict == "not measured"


def test_sparsity_by_construction_and_by_measure() -> None:
    constructed = criteria.sparsity({"base.layer01": metrics(k=4), "chat.layer01": metrics(k=2, l0=1.9)}, CFG)
    assert constructed.verdict == "passes by construction"
    assert constructed.value == pytest.approx(16.0)
    assert constructed.beside["mean share of live latents"] == 0.5
    # k = 8 of 64 does not promise more than 10; a mean L0 of 4 happens to give it, one of 7 does not.
    assert criteria.sparsity({"base.layer01": metrics(k=8, l0=4.0)}, CFG).verdict == "pass"
    assert criteria.sparsity({"base.layer01": metrics(k=8, l0=7.0)}, CFG).verdict == "fail"
    unknown = criteria.sparsity({"base.layer01": metrics(l0=None)}, CFG)
    assert unknown.verdict == "not measured"
    assert unknown.per_dictionary[0]["missing"] == "l0 was not measured"


# -- 3 ------------------------------------------------------------------------------------------------------------


def predictions(right: float, predictor: str, features: int = 30, wrong_label: bool = False) -> pl.DataFrame:
    """20 texts a feature, half of which fire; the share `right` of each half is predicted rightly."""
    rows: list[dict[str, Any]] = []
    for feature in range(features):
        for text in range(20):
            fires = text < 10
            correct = text % 10 < round(10 * right)
            rows.append(
                {
                    "feature": f"base.layer01/{feature}",
                    "text_id": f"t{text}",
                    "fires": fires,
                    "predicted": fires if correct else not fires,
                    "score": 0.5,
                    "predictor": predictor,
                    "wrong_label": wrong_label,
                }
            )
    return pl.DataFrame(rows)


def test_predictive_validity_is_never_measured_by_the_keyword_baseline() -> None:
    frame = pl.concat([predictions(0.9, "keywords"), predictions(0.5, "keywords", wrong_label=True)])
    found = criteria.predictive_validity(frame, 30, CFG)
    assert found.verdict == "not measured" and found.value is None
    assert found.beside["keyword baseline"] == pytest.approx(0.9)
    assert found.beside["keyword baseline with another feature's label"] == pytest.approx(0.5)
    assert "0.90" in found.sentence
    assert criteria.predictive_validity(None, 0, CFG).verdict == "not measured"


def test_predictive_validity_of_a_language_model() -> None:
    wrong = predictions(0.5, "llm", wrong_label=True)
    found = criteria.predictive_validity(pl.concat([predictions(0.9, "llm"), wrong]), 40, CFG)
    assert found.verdict == "pass"
    assert found.value == pytest.approx(0.9)
    assert found.null is not None and found.null.value == pytest.approx(0.5)
    assert found.beside["labelled features not scored"] == 10
    assert criteria.predictive_validity(predictions(0.6, "llm"), 30, CFG).verdict == "fail"
    assert criteria.predictive_validity(predictions(0.9, "llm", features=1), 1, CFG).verdict == "not measured"


def test_what_a_models_score_stands_beside() -> None:
    right = {"value": 0.9, "auroc": 0.95, "auroc_low": 0.9, "auroc_high": 0.97}
    facts = {
        "predictor": "llm",
        "scores": {"right": right, "by_language": {"hi": {"value": 0.8, "low": 0.7, "high": 0.9}}},
        "saebench": {"llm": {"value": 0.82}, "keywords": {"value": 0.7}},
        "validator_rates": {"true_positive": {"value": 0.85}, "true_negative": {"value": 0.2}},
    }
    beside = criteria.predictive_validity(predictions(0.9, "llm"), 30, CFG, facts).beside
    assert beside["AUROC"] == 0.95 and beside["AUROC, low"] == 0.9
    assert beside["balanced accuracy on hi texts"] == 0.8 and beside["balanced accuracy on hi texts, low"] == 0.7
    assert beside["SAEBench's 14-text accuracy"] == 0.82
    assert beside["SAEBench's 14-text accuracy of always saying no"] == pytest.approx(10 / 14)
    assert beside["wrong labels that the validator did not keep"] == 0.2
    # Keywords alone have none of it, whatever the facts say.
    plain = criteria.predictive_validity(predictions(0.9, "keywords"), 30, CFG, facts)
    assert plain == criteria.predictive_validity(predictions(0.9, "keywords"), 30, CFG)


def test_only_what_the_model_was_asked_for_is_labelled() -> None:
    def labelled(*rows: tuple[str, str | None]) -> int:
        names, labels = zip(*rows, strict=True)
        features = [f"base.layer01/{i}" for i in range(len(rows))]
        return _labelled(pl.DataFrame({"feature": features, "label": labels, "labeller": names},
                                      schema_overrides={"label": pl.String}))  # fmt: skip

    assert labelled(("keywords", "a"), ("keywords", None)) == 1
    assert labelled(("llm", "a"), ("llm", None), ("keywords", "b"), ("keywords", "c")) == 1
    # A model that found nothing coherent labelled nothing; the keywords' labels are not its own.
    assert labelled(("llm", None), ("keywords", "b")) == 0
    assert _labelled(pl.DataFrame({"feature": ["base.layer01/1"], "label": ["a"]})) == 1


def test_the_lower_end_decides_and_not_the_mean() -> None:
    high = predictions(1.0, "llm", features=10)
    low = predictions(0.2, "llm", features=5).with_columns(pl.col("feature").str.replace("/", "/9"))
    found = criteria.predictive_validity(pl.concat([high, low]), 15, CFG)
    assert found.value is not None and found.value > 0.7
    assert found.ci is not None and found.ci[0] < 0.7
    assert found.verdict == "fail"


def test_balanced_accuracy_counts_failures_as_wrong_and_defies_a_constant_answer() -> None:
    fires = [True] * 4 + [False] * 10
    always_no = pl.DataFrame({"feature": ["base.layer01/1"] * 14, "fires": fires, "predicted": [False] * 14})
    assert criteria.balanced_accuracies(always_no)["balanced_accuracy"].item() == 0.5
    failed = always_no.with_columns(predicted=pl.Series([None, True, True, True] + [False] * 9 + [None]))
    scores = criteria.balanced_accuracies(failed)
    assert scores["balanced_accuracy"].item() == pytest.approx((3 / 4 + 9 / 10) / 2)
    assert scores["failed"].item() == 2
    one_class = always_no.filter(~pl.col("fires"))
    assert criteria.balanced_accuracies(one_class)["balanced_accuracy"].item() is None


# -- 4 ------------------------------------------------------------------------------------------------------------


def test_a_sham_equal_to_the_real_change_does_not_pass() -> None:
    effects = [2.0] * 40 + [0.1] * 60
    real, sham = contrast_rows("base.layer01", effects), contrast_rows("base.layer01", effects, "sham:a")
    found = criteria.effect(pl.concat([real, sham]), {"base.layer01": 100}, CFG, magnitudes=magnitudes(3, 3))
    assert found.verdict == "fail"
    assert "does not stand above" in found.sentence
    assert found.value == 0.4 and found.null is not None and found.null.value == 0.4
    assert found.threshold == pytest.approx(criteria.clopper_pearson(40, 100)[1])  # type: ignore[index]


def test_a_change_above_the_worse_sham_passes() -> None:
    real = contrast_rows("base.layer01", [2.0] * 40 + [0.1] * 60)
    mild = contrast_rows("base.layer01", [2.0] * 1 + [0.1] * 99, "sham:a")
    worse = contrast_rows("base.layer01", [2.0] * 20 + [0.1] * 80, "sham:b")
    found = criteria.effect(pl.concat([real, mild, worse]), {"base.layer01": 100}, CFG, magnitudes=magnitudes(2, 3))
    assert found.verdict == "pass"
    assert "at 2 of 3 layers and languages" in found.sentence
    assert found.null is not None and found.null.name.startswith("sham:b")
    assert found.per_dictionary[0]["sham_share"] == 0.2
    assert found.per_dictionary[0]["above_sham"] is True
    rows = pl.concat([real, contrast_rows("base.layer01", [2.0] * 50, "sham:b")])
    assert criteria.effect(rows, {}, CFG, magnitudes=magnitudes(3, 3)).verdict == "fail"


@pytest.mark.parametrize(
    ("above", "of", "verdict"), [(0, 3, "fail"), (1, 2, "fail"), (2, 4, "fail"), (3, 4, "pass"), (1, 1, "pass")]
)
def test_more_features_without_a_larger_shift_do_not_pass(above: int, of: int, verdict: str) -> None:
    """ORGANISM: counts, q and purity pass on a sham; only magnitude separates. Half of the places is no majority."""
    real = contrast_rows("base.layer01", [2.0] * 40 + [0.1] * 60)
    rows = pl.concat([real, contrast_rows("base.layer01", [0.1] * 100, "sham:a")])
    found = criteria.effect(rows, {}, CFG, magnitudes=magnitudes(above, of))
    assert found.verdict == verdict
    assert "so the count stands above" in found.sentence
    assert f"at {above} of {of} layer" in found.sentence
    assert ("does not pass" in found.sentence) == (verdict == "fail")
    assert found.beside["layers and languages with a sham"] == of
    assert found.beside["of them, where the cultural shift stands above every sham's"] == above


def test_one_sham_that_moves_as_far_is_enough_to_fail() -> None:
    rows = pl.concat([contrast_rows("base.layer01", [2.0] * 40), contrast_rows("base.layer01", [0.1] * 40, "sham:a")])
    sizes = magnitudes(3, 3, ("a",)) + [one for one in magnitudes(0, 3, ("b",)) if one.side != "delta"]
    assert criteria.effect(rows, {}, CFG, magnitudes=sizes).verdict == "fail"
    assert criteria.effect(rows, {}, CFG, magnitudes=magnitudes(3, 3, ("a",))).verdict == "pass"


def test_without_magnitudes_the_count_is_shown_and_not_judged() -> None:
    rows = pl.concat([contrast_rows("base.layer01", [2.0] * 40), contrast_rows("base.layer01", [0.1] * 40, "sham:a")])
    unmeasured = [one for one in magnitudes(3, 3) if one.side == "delta"]  # no sham's shift to compare with
    for sizes in ((), unmeasured):
        found = criteria.effect(rows, {}, CFG, magnitudes=sizes)
        assert found.verdict == "not measured"
        assert found.value == 1.0 and found.null is not None
        assert "size of the cultural shift was not measured" in found.sentence


def test_without_a_sham_the_count_is_shown_and_not_judged() -> None:
    found = criteria.effect(contrast_rows("base.layer01", [2.0, 0.1]), {"base.layer01": 10}, CFG)
    assert found.verdict == "not measured"
    assert found.value == 0.1
    assert NO_SHAM in found.sentence
    assert found.beside["features that count"] == 1 and found.beside["live features"] == 10


def test_an_effect_needs_size_and_significance_and_a_number() -> None:
    rows = pl.concat(
        [
            contrast_rows("base.layer01", [2.0, 0.5, -0.9, math.nan]),
            contrast_rows("base.layer01", [2.0] * 4, q=0.2).with_columns(pl.col("latent") + 10),
            contrast_rows("base.layer01", [2.0], q=math.nan).with_columns(pl.col("latent") + 20),
        ]
    )
    found = criteria.effect(rows, {"base.layer01": 100}, CFG)
    assert found.beside["features that count"] == 2


def test_a_feature_counts_once_and_pooled_rows_speak_for_languages() -> None:
    hindi = contrast_rows("base.layer01", [2.0, 2.0], language=["hi", "hi"])
    english = contrast_rows("base.layer01", [2.0, 0.0], language=["en", "en"])
    both = criteria.effect(pl.concat([hindi, english]), {}, CFG)
    assert (both.beside["features that count"], both.beside["live features"]) == (2, 2)
    pooled = contrast_rows("base.layer01", [0.0, 2.0])
    assert criteria.effect(pl.concat([hindi, english, pooled]), {}, CFG).beside["features that count"] == 1


def test_a_delta_dictionary_is_judged_against_the_shams_own_dictionary() -> None:
    assert real_twin("delta:a.layer03") == "delta.layer03"
    assert real_twin("base.layer03") == "base.layer03"
    real = contrast_rows("delta.layer03", [2.0] * 50 + [0.0] * 50, contrast="culture")
    sham = contrast_rows("delta:a.layer03", [2.0] * 50 + [0.0] * 50, "sham:a", contrast="culture")
    base = contrast_rows("base.layer03", [2.0] * 100, contrast="culture")  # culture in base is no change
    found = criteria.effect(pl.concat([real, sham, base]), {}, CFG, magnitudes=magnitudes(1, 1))
    assert found.verdict == "fail"
    assert found.beside["contrast"] == "culture"
    assert found.value == 0.5


def test_shuffled_groups_the_same_checkpoint_log_odds_and_energy_stand_beside() -> None:
    rows = pl.concat(
        [
            contrast_rows("base.layer01", [0.3, 0.2], log_odds=[2.4, -0.1]),
            contrast_rows("base.layer01", [0.0, 0.9], "shuffled"),
            contrast_rows("base.layer01", [0.0, 0.0], "same_checkpoint"),
        ]
    )
    sides = [("delta", 3.0), ("delta:a", 1.0), ("delta:b", 2.0), ("base", 90.0)]
    geometry = [{"layer": 1, "side": side, "mean_norm": norm} for side, norm in sides]
    energy = pl.DataFrame(
        [
            {"site": "delta.layer01", "side": "delta", "language": "pooled", "facet": "group", "value": "cultural",
             "energy": 0.6},
            {"site": "delta:a.layer01", "side": "delta:a", "language": "pooled", "facet": "group",
             "value": "cultural", "energy": 0.5},
            {"site": "delta.layer01", "side": "delta", "language": "en", "facet": "group", "value": "cultural",
             "energy": 9.0},
            {"site": "delta.layer01", "side": "delta", "language": "pooled", "facet": "group", "value": "control",
             "energy": 9.0},
        ]
    )  # fmt: skip
    found = criteria.effect(rows, {}, CFG, geometry, energy)
    assert found.beside["features whose odds of firing change 10-fold or more"] == 1
    assert found.beside["features that count with shuffled groups"] == 1
    assert found.beside["features that count with the same checkpoint on both sides"] == 0
    assert found.beside["norm of the change / the larger sham's, largest over layers"] == 1.5
    assert found.beside["cultural energy / the larger sham's, largest over layers"] == pytest.approx(1.2)
    row = found.per_dictionary[0]
    assert (row["norm"], row["norm_sham"], row["energy"], row["energy_sham"]) == (3.0, 2.0, 0.6, 0.5)


def test_no_contrast_between_base_and_chat() -> None:
    rows = contrast_rows("base.layer01", [2.0], contrast="culture")
    found = criteria.effect(rows, {}, CFG)
    assert found.verdict == "not measured" and found.value is None


# -- 5, 6, 7 ------------------------------------------------------------------------------------------------------


def test_coherence_needs_its_threshold_and_its_null() -> None:
    rng = np.random.default_rng(0)
    high, chance = {"base.layer01": rng.uniform(0.6, 0.9, 200)}, {"base.layer01": rng.uniform(0.4, 0.6, 200)}
    low = {"base.layer01": np.full(50, 0.55)}
    assert criteria.coherence(high, chance, CFG, high, chance).verdict == "pass"
    assert criteria.coherence(low, {}, CFG, high, chance).verdict == "fail"
    above = {"base.layer01": np.full(50, 0.8)}  # random texts do as well
    assert criteria.coherence(high, above, CFG, high, chance).verdict == "fail"
    assert criteria.coherence(high, chance, CFG, high, above).verdict == "fail"
    few = {"base.layer01": np.array([0.9, np.nan])}
    lone = criteria.coherence(few, {}, CFG, few, {})
    assert lone.verdict == "not measured"
    assert lone.beside["features without a score"] == 1


def test_the_weaker_space_decides_and_both_are_said() -> None:
    """Not circular: texts that are alike only in the space in which the feature was found are not enough."""
    rng = np.random.default_rng(1)
    high, middle = {"base.layer01": rng.uniform(0.8, 0.9, 200)}, {"base.layer01": rng.uniform(0.5, 0.6, 200)}
    chance = {"base.layer01": rng.uniform(0.45, 0.55, 200)}
    for found in (
        criteria.coherence(high, chance, CFG, middle, chance, "TF-IDF"),
        criteria.coherence(middle, chance, CFG, high, chance, "TF-IDF"),
    ):
        assert found.verdict == "fail"
        assert found.value == pytest.approx(middle["base.layer01"].mean())
        assert found.ci is not None and found.ci[0] < found.value < found.ci[1] < 0.6
        assert "0.85" in found.sentence and "0.55" in found.sentence and "TF-IDF" in found.sentence
        shown = sorted([found.beside["coherence by activations"], found.beside["coherence by texts"]])
        assert shown == pytest.approx([found.value, high["base.layer01"].mean()])
    assert found.null is not None and found.null.name.endswith("by activations")
    assert found.per_dictionary[0]["coherence_by_texts"] == pytest.approx(high["base.layer01"].mean())


def test_one_space_alone_is_shown_and_not_judged() -> None:
    high = {"base.layer01": np.full(50, 0.9)}
    found = criteria.coherence(high, {}, CFG)
    assert found.verdict == "not measured" and found.value == pytest.approx(0.9)
    assert "not judged in one space" in found.sentence


def test_human_agreement() -> None:
    assert criteria.human_agreement(None, CFG).verdict == "not measured"
    good = criteria.human_agreement(Agreement(0.85, (0.74, 0.93), 0.9, 0.95, 100, 2), CFG)
    assert good.verdict == "pass"
    wide = criteria.human_agreement(Agreement(0.85, (0.55, 0.95), 0.9, 0.95, 20, 2), CFG)
    assert wide.verdict == "fail"
    assert criteria.human_agreement(Agreement(0.9, (0.8, 1.0), None, 1.0, 20, 1), CFG).verdict == "not measured"
    undefined = criteria.human_agreement(Agreement(math.nan, None, None, 1.0, 3, 2), CFG)
    assert undefined.verdict == "not measured" and undefined.value is None
    alike = Agreement(None, None, 1.0, 1.0, 9, 2, reason="everybody gave the same answer", planted={"kept by a": 0.1})
    found = criteria.human_agreement(alike, CFG)
    assert found.verdict == "not measured" and "everybody gave the same answer" in found.sentence
    assert found.beside["kept by a"] == 0.1 and found.beside["Cohen's κ"] is None


def test_stability_needs_replicas_its_threshold_and_its_null() -> None:
    none = pl.DataFrame(schema=contrast_rows("base.layer01", [0.0]).schema)
    assert criteria.stability({}, {}, none, CFG).verdict == "not measured"
    high, random = replicas(0.9), replicas(0.3)
    found = criteria.stability(high, random, none, CFG)
    assert found.verdict == "pass" and found.value == pytest.approx(0.9)
    assert found.beside["split-half reliability of the effects"] is None
    assert criteria.stability(replicas(0.7), random, none, CFG).verdict == "fail"
    assert criteria.stability(high, high, none, CFG).verdict == "fail"


def replicas(cosine: float, names: tuple[str, ...] = ("seed1", "fold0")) -> dict[str, np.ndarray]:
    return {f"base.layer01.{name}": np.full(60, cosine) for name in names}


def test_seeds_and_folds_stand_apart() -> None:
    none = pl.DataFrame(schema=contrast_rows("base.layer01", [0.0]).schema)
    cosines = replicas(0.9, ("seed1", "seed2", "seed3")) | replicas(0.5, ("fold0", "fold1"))
    random = replicas(0.3, ("seed1", "seed2", "seed3")) | replicas(0.2, ("fold0", "fold1"))
    found = criteria.stability(cosines, random, none, CFG)
    assert found.value == pytest.approx((3 * 0.9 + 2 * 0.5) / 5) and found.verdict == "fail"
    assert found.beside["mean cosine over other seeds"] == pytest.approx(0.9)
    assert found.beside["mean cosine over folds"] == pytest.approx(0.5)
    assert found.beside["random directions in the place of other seeds"] == pytest.approx(0.3)
    assert found.beside["random directions in the place of folds"] == pytest.approx(0.2)
    assert (found.beside["other seeds, for each dictionary"], found.beside["folds, for each dictionary"]) == (3, 2)
    assert "0.90 with 3 other seeds, 0.50 with 2 folds" in found.sentence
    (row,) = found.per_dictionary
    assert (row["over_seeds"], row["over_folds"]) == (pytest.approx(0.9), pytest.approx(0.5))
    assert (row["replicas"], row["features"]) == (5, 60)
    only_seeds = criteria.stability(replicas(0.9, ("seed1",)), {}, none, CFG)
    assert only_seeds.beside["mean cosine over folds"] is None and "fold" not in only_seeds.sentence


def test_replicas_of_a_latent_are_drawn_together_and_an_unmatched_one_is_left_out() -> None:
    """The same latent in eight replicas is one feature: the interval is that of its mean, not of eight features."""
    none = pl.DataFrame(schema=contrast_rows("base.layer01", [0.0]).schema)
    one = np.random.default_rng(0).uniform(0.3, 1, 40)
    lone = criteria.stability({"base.layer01.seed1": one}, {}, none, CFG)
    eight = criteria.stability({f"base.layer01.seed{i}": one for i in range(1, 9)}, {}, none, CFG)
    assert eight.value == pytest.approx(lone.value) and eight.ci == pytest.approx(lone.ci)
    holes = one.copy()
    holes[:10] = np.nan
    found = criteria.stability({"base.layer01.seed1": one, "base.layer01.fold0": holes}, {}, none, CFG)
    assert found.value == pytest.approx(one.mean())
    assert found.beside["mean cosine over folds"] == pytest.approx(one[10:].mean())


def test_the_halves_are_those_of_real_base_vs_chat_rows() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=300)
    b = 0.6 * a + 0.8 * rng.normal(size=300)
    rows = contrast_rows("base.layer01", a.tolist(), d_av_select=b.tolist())
    null = contrast_rows("base.layer01", [9.0], "shuffled", d_av_select=[-9.0])
    culture = contrast_rows("base.layer01", [9.0], contrast="culture", d_av_select=[-9.0])
    halves = criteria.effect_halves(pl.concat([rows, null, culture]))
    r = np.corrcoef(a, b)[0, 1]
    assert halves.n == 300 and halves.r == pytest.approx(r)
    found = criteria.stability({}, {}, rows, CFG)
    assert found.beside["split-half reliability of the effects"] == pytest.approx(2 * r / (1 + r))


# -- all of them --------------------------------------------------------------------------------------------------


def findings(shams: tuple[str, ...] = ("a",)) -> Findings:
    rows = [contrast_rows("base.layer01", [2.0] * 40 + [0.1] * 60)]
    rows += [contrast_rows("base.layer01", [2.0] + [0.1] * 99, f"sham:{name}") for name in shams]
    features = pl.DataFrame({"dictionary": ["base.layer01"] * 100, "live": [True] * 100})
    return Findings(
        study="demo",
        metrics={"base.layer01": metrics()},
        features=features,
        contrasts=pl.concat(rows),
        labels=pl.DataFrame({"feature": ["base.layer01/1", "base.layer01/2"], "label": ["tea", None]}),
        coherence={"base.layer01": np.linspace(0.5, 0.9, 50), "delta:a.layer01": np.zeros(50)},
        text_coherence={"base.layer01": np.linspace(0.5, 0.8, 50), "delta:a.layer01": np.zeros(50)},
        stability={"base.layer01.seed1": np.full(50, 0.9), "delta:a.layer01.seed1": np.zeros(50)},
        names={"base": "SmolLM2", "chat": "its fine-tune"},
        shams=shams,
        magnitudes=magnitudes(2, 2, shams),
    )


def test_judge_gives_all_seven_and_survives_json() -> None:
    report = criteria.judge(findings(), CFG)
    assert [criterion.number for criterion in report.criteria] == [1, 2, 3, 4, 5, 6, 7]
    verdicts = {criterion.name: criterion.verdict for criterion in report.criteria}
    assert verdicts == {
        "reconstruction": "pass",
        "sparsity": "passes by construction",
        "predictive validity": "not measured",
        "effect": "pass",
        "coherence": "pass",
        "human agreement": "not measured",
        "stability": "pass",
    }
    assert report.criteria[6].value == pytest.approx(0.9), "a sham's replicas are no part of it"
    text = json.dumps(report.to_json(), allow_nan=False)
    assert CriteriaReport.model_validate_json(text) == report
    keys = {"number", "name", "question", "value", "ci", "threshold", "comparison", "null", "verdict", "sentence",
            "beside", "per_dictionary"}  # fmt: skip
    assert all(keys <= set(one) for one in json.loads(text)["criteria"])


def test_the_headline_says_first_whether_there_is_a_sham() -> None:
    with_sham = criteria.judge(findings(), CFG).headline
    assert "1 sham (a)" in with_sham[0]
    assert with_sham[1] == "SmolLM2 against its fine-tune: 1 dictionary, 100 live features."
    assert sum("stands above every sham's" in line for line in with_sham) == 1
    without = criteria.judge(findings(shams=()), CFG).headline
    assert without[0] == NO_SHAM
    assert sum(NO_SHAM in line for line in without) == 1


def test_the_same_findings_give_the_same_report() -> None:
    assert criteria.judge(findings(), CFG) == criteria.judge(findings(), CFG)


def test_a_verdict_needs_a_value() -> None:
    with pytest.raises(ValidationError, match="needs a value"):
        Criterion(number=1, name="x", question="x", published="x", threshold=1, comparison=">", verdict="pass",
                  sentence="x")  # fmt: skip
    broken = {"value": math.nan, "ci": (0.1, math.inf), "beside": {"a": np.float64("nan")}}
    nan = Criterion(number=1, name="x", question="x", published="x", threshold=1, comparison=">", sentence="x",
                    verdict="not measured", **broken)  # fmt: skip
    assert nan.value is None and nan.ci is None and nan.beside == {"a": None}


def test_balanced_accuracy_equals_the_interpret_rooms_own_score() -> None:
    rng = np.random.default_rng(6)
    n = 400
    frame = pl.DataFrame(
        {
            "feature": [f"base.layer01/{i}" for i in rng.integers(0, 12, n)],
            "text_id": [f"t{i}" for i in range(n)],
            "fires": rng.random(n) < 0.4,
            "predicted": pl.Series([None if r < 0.1 else bool(r < 0.5) for r in rng.random(n)], dtype=pl.Boolean),
            "score": rng.random(n),
            "predictor": ["llm"] * n,
            "wrong_label": rng.random(n) < 0.3,
        }
    )
    texts = frame.select("text_id", language=pl.lit("en"))
    theirs = score_predictions(frame, texts, seed=1)
    ours = criteria.predictive_validity(frame, 12, CFG)
    assert ours.value == pytest.approx(theirs.right.value)
    assert ours.null is not None and ours.null.value == pytest.approx(theirs.wrong.value)
    assert ours.beside["failed calls (counted wrong)"] == theirs.right.failed


# --- culture on base, on random weights, on baselines -------------------------------------------------------------


def test_culture_is_counted_on_base_and_beside_it_on_random_weights() -> None:
    def rows(dictionary: str, effects: list[float], null: str = "") -> pl.DataFrame:
        return contrast_rows(dictionary, effects, null, contrast="culture")

    base = rows("base.layer01", [2.0] * 30 + [0.1] * 70)
    base = base.with_columns(pl.when(pl.col("latent") == 0).then(None).otherwise(pl.col("q")).alias("q"))
    weights = rows("untrained.layer01", [2.0] * 10 + [0.0] * 90, "random_weights")
    pca = rows("base.layer01.pca", [2.0] * 8, "pca")
    others = [rows("delta.layer01", [2.0] * 50), rows("delta.layer01.pca", [2.0] * 50, "pca"),
              rows("base.layer01", [2.0] * 50, "shuffled"), rows("chat.layer01", [2.0] * 50)]  # fmt: skip
    on_chat = rows("base.layer01", [2.0] * 100).with_columns(side_b=pl.lit("chat"))
    own = [base, rows("base.layer02", [2.0] * 5), weights, pca, *others]
    table = pl.concat([*own, on_chat])
    live = {"base.layer01": 120, "untrained.layer01": 100, "base.layer01.pca": 8, "base.layer02": 5}
    found = {(one.null, one.layer): (one.flagged, one.live) for one in culture_counts(table, live, CFG)}
    assert found == {("", 1): (29, 120), ("", 2): (5, 5), ("random_weights", 1): (10, 100), ("pca", 1): (8, 8)}
    beside = culture_beside(table, live, CFG)
    assert beside["culture on base: features that count"] == 34 and beside["culture on base: live features"] == 125
    sentence = culture_sentence(culture_counts(table, live, CFG), CFG)
    assert sentence is not None and "34 of 125 live features of base" in sentence
    assert "on a random-weights model 10 of 100" in sentence
    assert culture_sentence(culture_counts(table.filter(pl.col("null") != "random_weights"), live, CFG), CFG) is None


def test_coherence_on_random_weights_stands_beside() -> None:
    scores = {"base.layer01": np.array([0.7, 0.8, 0.75])}
    plain = criteria.coherence(scores, {}, CFG)
    beside = criteria.coherence(scores, {}, CFG, untrained={"untrained.layer01": np.array([0.6, np.nan, 0.5])})
    assert beside.value == plain.value and beside.verdict == plain.verdict
    assert beside.beside["mean on a model of random weights"] == pytest.approx(0.55)
    assert beside.beside["features on a model of random weights"] == 2
    assert not any("random weights" in name for name in plain.beside)
