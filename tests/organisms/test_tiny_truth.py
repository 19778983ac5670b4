"""The flagging rule against naive loops, planted energies, and nothing at all."""

from __future__ import annotations

import math
import statistics

import numpy as np
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.organisms.config import TruthRule
from antar.organisms.truth import (
    Evidence,
    SideFindings,
    concept_energy,
    concept_evidence,
    energy_thresholds,
    flag_concepts,
    relative_energy,
    score_truth,
)

RULE = TruthRule()
PLAIN = TruthRule(outliers=0)  # with eight concepts whose drifts have nothing in common, the largest is no outlier
CONCEPTS = [f"c{i:02d}" for i in range(8)]
LISTED = ["c01", "c05"]
GOOD = Evidence("delta.layer01/3", purity=0.9, d=1.4, q=0.001)


def make_texts(per_concept: int = 20) -> pl.DataFrame:
    rows = [(language, concept) for language in ("en", "hi") for concept in CONCEPTS for _ in range(per_concept)]
    rows += [(language, None) for language in ("en", "hi") for _ in range(per_concept * 4)]
    return pl.DataFrame(rows, schema={"language": pl.String, "concept": pl.String}, orient="row")


def planted_delta(
    texts: pl.DataFrame, listed: list[str], strength: float, seed: int, drift: float = 1.0
) -> np.ndarray:
    """Noise, a shift common to all texts, a drift of its own for each concept, a larger one for each listed."""
    rng = np.random.default_rng(seed)
    delta = 0.02 * rng.normal(size=(len(texts), 16)) + drift * rng.normal(size=16)
    concept = texts["concept"].to_numpy()
    for name in CONCEPTS:
        direction = rng.normal(size=16)
        length = strength if name in listed else 0.2
        delta[concept == name] += length * direction / np.linalg.norm(direction)
    return delta.astype(np.float32)


def naive_energy(delta: np.ndarray, texts: pl.DataFrame) -> dict[str, float]:
    """The definition, word for word, with the centring that cancels."""
    language, concept = texts["language"].to_list(), texts["concept"].to_list()
    found: dict[str, list[float]] = {}
    for tongue in ("en", "hi"):
        rows = [i for i in range(len(delta)) if language[i] == tongue]
        controls = np.mean([delta[i].astype(float) for i in rows if concept[i] is None], axis=0)
        centred = {i: delta[i].astype(float) - controls for i in rows}
        means = {name: np.mean([centred[i] for i in rows if concept[i] == name], axis=0) for name in CONCEPTS}
        for name in CONCEPTS:
            others = [means[other] for other in CONCEPTS if other != name]
            centre = [statistics.median(mean[j] for mean in others) for j in range(delta.shape[1])]
            found.setdefault(name, []).append(math.dist(means[name], centre))
    return {name: sum(values) / len(values) for name, values in found.items()}


def test_energy_equals_its_definition():
    texts = make_texts()
    delta = planted_delta(texts, LISTED, 1.0, seed=0)
    assert concept_energy(delta, texts) == pytest.approx(naive_energy(delta, texts), rel=1e-6)


def test_energy_forgets_what_all_texts_of_a_language_share():
    texts = make_texts()
    delta = planted_delta(texts, LISTED, 1.0, seed=0)
    moved = delta + np.where(texts["language"].to_numpy() == "hi", 3.0, -1.0)[:, None]
    assert concept_energy(moved, texts) == pytest.approx(concept_energy(delta, texts), rel=1e-4)


def test_energy_is_blind_to_row_order_and_to_controls():
    texts = make_texts()
    delta = planted_delta(texts, LISTED, 1.0, seed=0)
    order = np.random.default_rng(1).permutation(len(texts))
    assert concept_energy(delta[order], texts[order]) == pytest.approx(concept_energy(delta, texts))
    controls = texts["concept"].is_null().to_numpy()
    louder = np.where(controls[:, None], 100 * delta, delta)
    assert concept_energy(louder, texts) == pytest.approx(concept_energy(delta, texts))


def test_what_some_concepts_did_is_not_in_the_energy_of_the_others():
    texts = make_texts()
    quiet = concept_energy(planted_delta(texts, [], 0.0, seed=0), texts)
    loud = concept_energy(planted_delta(texts, LISTED, 50.0, seed=0), texts)
    unlisted = [name for name in CONCEPTS if name not in LISTED]
    assert min(loud[name] for name in LISTED) > 40
    assert max(loud[name] for name in unlisted) < 2 * max(quiet.values())


def test_a_delta_of_another_length_is_a_users_error():
    with pytest.raises(UserError, match="expected a delta for each of"):
        concept_energy(np.zeros((3, 4), np.float32), make_texts())


def test_layers_weigh_the_same_however_large_their_numbers_are():
    texts = make_texts()
    rng = np.random.default_rng(0)
    base = {layer: rng.normal(size=(len(texts), 16)).astype(np.float32) for layer in (1, 2)}
    deltas = {layer: planted_delta(texts, LISTED, 1.0, seed=layer) for layer in (1, 2)}
    plain = relative_energy(deltas, base, texts)
    scaled = relative_energy({1: deltas[1], 2: 1000 * deltas[2]}, {1: base[1], 2: 1000 * base[2]}, texts)
    assert scaled == pytest.approx(plain, rel=1e-5)
    norms = {layer: np.linalg.norm(base[layer], axis=1).mean() for layer in base}
    by_hand = {
        name: float(np.mean([naive_energy(deltas[layer], texts)[name] / norms[layer] for layer in base]))
        for name in CONCEPTS
    }
    assert plain == pytest.approx(by_hand, rel=1e-5)


def findings(strength: float, seed: int, evidence: bool = True) -> SideFindings:
    texts = make_texts()
    base = {1: np.random.default_rng(9).normal(size=(len(texts), 16)).astype(np.float32)}
    energies = relative_energy({1: planted_delta(texts, LISTED, strength, seed)}, base, texts)
    return SideFindings(energies, {name: [GOOD] for name in CONCEPTS} if evidence else {})


def test_planted_energies_are_found_and_shams_are_not():
    chat, sham_a, sham_b = findings(1.0, 1), findings(0.0, 2), findings(0.0, 3)
    report = score_truth(LISTED, chat, sham_a, sham_b, findings(0.0, 2), PLAIN)
    assert report["flagged"] == LISTED
    assert (report["precision"], report["recall"], report["flagged_on_null"]) == (1.0, 1.0, 0)
    # Features alone flag everything, sham included: the reason for the energy gate.
    assert report["no_energy_gate"]["precision"] == len(LISTED) / len(CONCEPTS)
    assert report["no_energy_gate"]["flagged_on_null"] == len(CONCEPTS)
    assert report["no_dictionary"]["recall"] == 1.0
    largest = 1.25 * max(sham_a.energies.values())
    assert report["thresholds"]["energy"] == pytest.approx(largest)
    assert report["thresholds"]["energy_of"] == pytest.approx(dict.fromkeys(CONCEPTS, largest))


def test_a_concept_that_drifts_by_itself_hides_no_other_and_must_beat_its_own_drift():
    sham = {"majuli": 0.11, "holi": 0.06, "diya": 0.05}
    rule = RULE.model_copy(update={"outliers": 1})
    assert energy_thresholds(sham, rule) == pytest.approx({"majuli": 0.1375, "holi": 0.075, "diya": 0.075})
    assert energy_thresholds(sham, rule.model_copy(update={"outliers": 0})) == pytest.approx(
        dict.fromkeys(sham, 0.1375)
    )
    chat = SideFindings({"majuli": 0.12, "holi": 0.08, "diya": 0.07}, {name: [GOOD] for name in sham})
    assert flag_concepts(chat, SideFindings(sham), rule) == ["holi"]
    assert energy_thresholds({"holi": 0.1}, rule) == pytest.approx({"holi": 0.125})  # alone, it is its own outlier


def test_energy_without_a_feature_is_not_flagged():
    chat, sham = findings(1.0, 1, evidence=False), findings(0.0, 2)
    report = score_truth(LISTED, chat, sham, None, None, PLAIN)
    assert report["flagged"] == []
    assert report["precision"] is None
    assert report["recall"] == 0.0
    assert report["missed"] == LISTED
    assert report["flagged_on_null"] is None
    assert report["no_dictionary"]["flagged"] == LISTED


@pytest.mark.parametrize(
    "weak",
    [
        Evidence("f", purity=0.79, d=1.4, q=0.001),
        Evidence("f", purity=0.9, d=0.8, q=0.001),
        Evidence("f", purity=0.9, d=1.4, q=0.05),
    ],
)
def test_each_threshold_of_the_rule_counts(weak: Evidence):
    side = SideFindings({"holi": 1.0}, {"holi": [weak]})
    sham = SideFindings({"holi": 0.1})
    assert flag_concepts(side, sham, RULE) == []
    assert flag_concepts(SideFindings({"holi": 1.0}, {"holi": [weak, GOOD]}), sham, RULE) == ["holi"]


@pytest.mark.parametrize("jitter", [0.0, 1e-7])
def test_the_same_checkpoint_flags_nothing_even_against_a_silent_sham(jitter: float):
    texts = make_texts()
    rng = np.random.default_rng(4)
    base = {1: rng.normal(size=(len(texts), 16)).astype(np.float32)}
    delta = (jitter * rng.normal(size=(len(texts), 16))).astype(np.float32)
    same = SideFindings(relative_energy({1: delta}, base, texts), {name: [GOOD] for name in CONCEPTS})
    silent = SideFindings(dict.fromkeys(CONCEPTS, 0.0))
    assert set(energy_thresholds(silent.energies, RULE).values()) == {RULE.energy_floor}
    assert flag_concepts(same, silent, RULE) == []
    assert all(math.isfinite(energy) for energy in same.energies.values())


def contrast(feature: str, value: str, d: float, p: float | None, **other: str) -> dict[str, object]:
    row = {"contrast": "facet", "facet": "concept", "null": "", "language": "en", "dictionary": "delta.layer01"}
    return {**row, "feature": feature, "value": value, "d_av_select": d, "p_select": p, **other}


def example(feature: str, rows: range, pool: str = "select") -> list[dict[str, object]]:
    return [
        {"feature": feature, "dictionary": feature.split("/")[0], "rank": rank, "row": row, "pool": pool}
        for rank, row in enumerate(rows)
    ]


def test_evidence_is_what_passes_purity_and_effect_on_the_selection_half():
    texts = make_texts()  # rows 0-19 are c00 in English, 20-39 c01, ...
    contrasts = pl.DataFrame(
        [
            contrast("delta.layer01/0", "c00", 2.0, 1e-6),
            contrast("delta.layer01/0", "c01", 2.0, 1e-6),  # large, but the examples are of c00
            contrast("delta.layer01/1", "c01", -1.1, 1e-6),
            contrast("delta.layer01/2", "c02", 0.7, 1e-6),  # too small
            contrast("delta.layer01/3", "c03", 1.5, 0.2),  # not sure
            contrast("delta.layer01/4", "c04", 1.5, 1e-6),  # mixed examples
            contrast("delta.layer01/5", "c05", 1.5, 1e-6),  # too few examples
            contrast("delta.layer01/6", "c06", 1.5, 1e-6, language="pooled"),
            contrast("delta.layer01/6", "c06", 1.5, 1e-6, null="shuffled"),
            contrast("delta.layer01/6", "c06", 1.5, 1e-6, dictionary="base.layer01"),
            contrast("delta.layer01/7", "c07", 1.5, None),
        ]
    )
    examples = pl.DataFrame(
        example("delta.layer01/0", range(20))
        + example("delta.layer01/0", range(20, 40), pool="estimate")
        + example("delta.layer01/1", range(18, 38))
        + example("delta.layer01/2", range(40, 60))
        + example("delta.layer01/3", range(60, 80))
        + example("delta.layer01/4", range(90, 110))
        + example("delta.layer01/5", range(100, 105))
        + example("delta.layer01/6", range(120, 140))
        + example("delta.layer01/7", range(140, 160))
    )
    found = concept_evidence(contrasts, examples, texts, ["delta.layer01"], RULE)
    assert {name: [evidence.feature for evidence in each] for name, each in found.items()} == {
        "c00": ["delta.layer01/0"],
        "c01": ["delta.layer01/1"],
    }
    (first,) = found["c01"]
    assert first.purity == pytest.approx(18 / 20)
    assert first.d == -1.1
    # Six real p values of 1e-6 and one of 0.2 (the null p is not a test): BH gives 7/6 of 1e-6 to each of the six.
    assert first.q == pytest.approx(1e-6 * 7 / 6)


def test_no_contrasts_are_no_evidence():
    contrasts = pl.DataFrame([contrast("delta.layer01/0", "c00", 2.0, 1e-6)])
    examples = pl.DataFrame(example("delta.layer01/0", range(20)))
    assert concept_evidence(contrasts, examples, make_texts(), ["delta:a.layer01"], RULE) == {}
