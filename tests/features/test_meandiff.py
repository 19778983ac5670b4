"""The mean difference vector against a naive twin, on planted and on no differences; the best features beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, measure_contrasts
from antar.features import meandiff as meandiff_module
from antar.features.beyond import SCHEMA, best_features, beyond_baselines
from antar.features.meandiff import culture_designs, mean_difference, mean_difference_effects, project

D = 12
CONFIG = ContrastConfig(permutations=20, interaction=False, shift=False, length_bins=2)
DELTA, SHAM = DictionaryId("delta", 3), DictionaryId("delta:a", 3)


def make_texts(seed: int, n: int = 600) -> pl.DataFrame:
    """Documents of two texts of one group; English has more cultural texts than Hindi."""
    rng = np.random.default_rng(seed)
    unit = np.arange(n) // 2
    hindi = rng.random(unit.max() + 1)[unit] < 0.4
    cultural = rng.random(unit.max() + 1)[unit] < np.where(hindi, 0.35, 0.6)
    return pl.DataFrame(
        {
            "text": ["x" * int(m) for m in rng.integers(20, 60, n)],
            "group": np.where(cultural, "cultural", "control"),
            "language": np.where(hindi, "hi", "en"),
            "document": [f"d{one}" for one in unit],
            "split": np.where(rng.random(unit.max() + 1)[unit] < 0.9, "heldout", "train"),
            "half": np.where(rng.random(unit.max() + 1)[unit] < 0.5, "estimate", "select"),
        }
    )


def make_delta(texts: pl.DataFrame, seed: int, shift: float = 0.0, clustered: float = 0.5) -> np.ndarray:
    """Gaussian differences, alike within a document; cultural texts move by `shift` along one direction."""
    rng = np.random.default_rng(seed)
    documents = texts["document"].rank("dense").to_numpy().astype(int)
    shared = rng.normal(size=(documents.max() + 1, D))[documents]
    own = rng.normal(size=(texts.height, D))
    direction = np.ones(D) / np.sqrt(D)
    moved = shift * (texts["group"] == "cultural").to_numpy()[:, None] * direction
    language = np.where((texts["language"] == "hi").to_numpy()[:, None], 3.0, 0.0)  # no difference of groups
    return np.sqrt(clustered) * shared + np.sqrt(1 - clustered) * own + moved + language


def effects(texts: pl.DataFrame, delta_nd: np.ndarray, **options: Any) -> dict[tuple[str, str], dict[str, Any]]:
    table = mean_difference_effects(delta_nd, culture_designs(texts, CONFIG, 1), **options)
    return {(row["language"], row["null"]): row for row in table.to_dicts()}


def rows_of(texts: pl.DataFrame, half: str, group: str, language: str) -> np.ndarray:
    used = (texts["split"] == "heldout").to_numpy()
    chosen = [(texts[name] == value).to_numpy() for name, value in
              (("half", half), ("group", group), ("language", language))]  # fmt: skip
    return np.flatnonzero(np.logical_and.reduce([used, *chosen]))


def unit_sums(values: np.ndarray, names: np.ndarray) -> np.ndarray:
    return np.array([values[names == one].sum() for one in np.unique(names)])


def naive_freedom(sums: np.ndarray, typical: float) -> float:
    excess = (np.sum(sums**4) + typical**2) / (np.sum(sums**2) + typical) ** 2 - 1 / len(sums)
    return min(max(2 / excess, 1), len(sums) - 1) if excess > 0 else len(sums) - 1


def naive(texts: pl.DataFrame, delta_nd: np.ndarray, language: str) -> dict[str, float]:
    """One language, text by text and document by document."""
    means = {
        (half, group): sum(delta_nd[row] for row in rows_of(texts, half, group, language))
        / len(rows_of(texts, half, group, language))
        for half in ("select", "estimate")
        for group in ("control", "cultural")
    }
    vector = means["select", "cultural"] - means["select", "control"]
    heldout = means["estimate", "cultural"] - means["estimate", "control"]
    norm = float(np.sqrt((vector**2).sum()))
    unit = vector / norm
    along = float(heldout @ unit)
    scores = {
        group: delta_nd[rows_of(texts, "estimate", group, language)] @ unit for group in ("control", "cultural")
    }
    a, b = scores["control"], scores["cultural"]
    sd = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    d = (b.mean() - a.mean()) / sd
    documents = texts["document"].to_numpy()
    parts = []
    own = {group: documents[rows_of(texts, "estimate", group, language)] for group in ("control", "cultural")}
    centred = [s for group, x in (("control", a), ("cultural", b))
               for s in unit_sums(x - x.mean(), own[group])]  # fmt: skip
    typical = np.mean(np.square(centred))  # every text has a score, so every document counts
    for sign, group, x in ((-1, "control", a), (1, "cultural", b)):
        influence = sign * (x - x.mean()) / sd - d / (4 * sd**2) * ((x - x.mean()) ** 2 - x.var())
        names = documents[rows_of(texts, "estimate", group, language)]
        sums = [influence[names == one].sum() for one in np.unique(names)]
        g = len(sums)
        variance = sum(s * s for s in sums) / len(x) ** 2 * g / (g - 1) + typical / (sd * len(x)) ** 2
        parts.append((variance, naive_freedom(unit_sums(x, own[group]), typical)))
    variance = sum(v for v, _ in parts)
    freedom = variance**2 / sum(v * v / f for v, f in parts)
    half_width = float(stats.t.ppf(0.975, freedom)) * np.sqrt(variance)
    auroc = float(stats.mannwhitneyu(b, a).statistic) / (len(a) * len(b))
    return {"norm": norm, "share": along**2 / float((heldout**2).sum()), "d_av": float(d), "d_lo": d - half_width,
            "d_hi": d + half_width, "auroc": auroc, "n_a": len(a), "n_b": len(b)}  # fmt: skip


def test_a_language_equals_the_naive_twin(monkeypatch) -> None:
    monkeypatch.setattr(meandiff_module, "CHUNK_ROWS", 17)  # several chunks, the last one short
    texts = make_texts(1)
    delta_nd = make_delta(texts, 2, 0.8)
    found = effects(texts, delta_nd)
    for language in ("en", "hi"):
        row = found[language, ""]
        for name, value in naive(texts, delta_nd, language).items():
            assert row[name] == pytest.approx(value, rel=1e-9), (language, name)
        assert row["share"] == pytest.approx(row["cosine"] ** 2)


def test_pooled_is_one_vector_with_languages_as_strata() -> None:
    texts = make_texts(3)
    delta_nd = make_delta(texts, 4, 0.8)
    parts = {}
    for language in ("en", "hi"):
        a, b = (rows_of(texts, "select", group, language) for group in ("control", "cultural"))
        parts[language] = (len(a) * len(b) / (len(a) + len(b)), delta_nd[b].mean(0) - delta_nd[a].mean(0))
    total = sum(weight for weight, _ in parts.values())
    pooled = sum(weight * vector for weight, vector in parts.values()) / total
    np.testing.assert_allclose(mean_difference(delta_nd, culture_designs(texts, CONFIG, 1)["select"]).pooled, pooled)
    unit = pooled / np.linalg.norm(pooled)
    weights, gaps, variances, aurocs = [], [], [], []
    for language in ("en", "hi"):
        a, b = (delta_nd[rows_of(texts, "estimate", group, language)] @ unit for group in ("control", "cultural"))
        weights.append(len(a) * len(b) / (len(a) + len(b)))
        gaps.append(b.mean() - a.mean())
        variances.append((a.var(ddof=1) + b.var(ddof=1)) / 2)
        aurocs.append(stats.mannwhitneyu(b, a).statistic / (len(a) * len(b)))
    row = effects(texts, delta_nd)["pooled", ""]
    shares = np.array(weights) / sum(weights)
    assert row["d_av"] == pytest.approx(shares @ gaps / np.sqrt(shares @ variances))
    assert row["auroc"] == pytest.approx(float(shares @ aurocs))
    # The languages differ by 3 along every coordinate and unequally in group: without strata that would be an effect.
    assert abs(effects(texts, make_delta(texts, 4, 0.0))["pooled", ""]["d_av"]) < 0.3


def test_a_planted_difference_is_found_and_shuffled_groups_have_none() -> None:
    texts = make_texts(5, 2000)
    found = effects(texts, make_delta(texts, 6, 1.0))
    pooled, shuffled = found["pooled", ""], found["pooled", "shuffled"]
    assert pooled["cosine"] > 0.9 and pooled["norm"] == pytest.approx(1.0, abs=0.2)
    assert pooled["d_lo"] < 1.0 < pooled["d_hi"] + 0.1  # sd is 1 along any direction, so d is the shift
    assert 0.7 < pooled["auroc"] < 0.82  # Φ(1/√2) = 0.76
    assert shuffled["d_lo"] < 0 < shuffled["d_hi"] and shuffled["norm"] < 0.4
    assert (shuffled["n_a"], shuffled["n_b"]) == (pooled["n_a"], pooled["n_b"])
    assert ("pooled", "shuffled") not in effects(texts, make_delta(texts, 6, 1.0), shuffled=False)


def test_where_nothing_differs_the_interval_holds_zero_and_the_halves_are_kept_apart() -> None:
    """On the half that it was taken from, a mean difference always separates: that is why there are two."""
    held, on_its_own, heldout = 0, [], []
    runs = 80
    for seed in range(runs):
        texts = make_texts(100 + seed, 300)
        delta_nd = make_delta(texts, 500 + seed)
        halves = culture_designs(texts, CONFIG, seed)
        (row,) = mean_difference_effects(delta_nd, halves, shuffled=False).filter(language="pooled").to_dicts()
        held += row["d_lo"] <= 0 <= row["d_hi"]
        heldout.append(row["d_av"])
        same = {"select": halves["estimate"], "estimate": halves["estimate"]}
        (again,) = mean_difference_effects(delta_nd, same, shuffled=False).filter(language="pooled").to_dicts()
        on_its_own.append(again["d_av"])
    assert held >= stats.binom.ppf(0.001, runs, 0.95)
    assert abs(np.mean(heldout)) < 4 * np.std(heldout) / np.sqrt(runs) and np.std(heldout) > 0
    assert min(on_its_own) > 0 and np.mean(on_its_own) > 0.3


def test_documents_are_what_varies() -> None:
    texts = make_texts(7, 1000)
    delta_nd = make_delta(texts, 8, 0.5, clustered=0.95)
    wide = effects(texts, delta_nd)["en", ""]
    alone = texts.with_columns(document=pl.int_range(pl.len()).cast(pl.String))
    narrow = effects(alone, delta_nd)["en", ""]
    assert wide["d_av"] == pytest.approx(narrow["d_av"])
    ratio = (wide["d_hi"] - wide["d_lo"]) / (narrow["d_hi"] - narrow["d_lo"])
    assert 1.2 < ratio < 1.55  # two texts a document that are nearly one: √1.95 = 1.40


def test_nothing_and_jitter_have_no_effect() -> None:
    texts = make_texts(9)
    for row in effects(texts, np.zeros((texts.height, D), np.float32)).values():
        assert (row["norm"], row["d_av"], row["share"], row["cosine"]) == (0, 0, None, None) and row["auroc"] == 0.5
    jitter_nd = 1e-7 * make_delta(texts, 10, 2.0)
    assert effects(texts, jitter_nd, sd_floor=1e-6)["pooled", ""]["d_av"] == 0
    assert effects(texts, jitter_nd)["pooled", ""]["d_av"] > 1


def test_a_language_without_one_group_is_left_out() -> None:
    texts = make_texts(11).filter((pl.col("language") == "en") | (pl.col("group") == "cultural"))
    found = effects(texts, make_delta(texts, 12, 0.5))
    assert {language for language, _ in found} == {"en", "pooled"}
    assert found["pooled", ""]["d_av"] == pytest.approx(found["en", ""]["d_av"])
    halves = culture_designs(texts, CONFIG, 1)
    with pytest.raises(UserError, match="same languages in both halves"):
        mean_difference_effects(make_delta(texts, 12), {**halves, "select": halves["select"][:1]})
    none = texts.filter(pl.col("group") == "cultural")
    assert mean_difference_effects(make_delta(none, 1), culture_designs(none, CONFIG, 1)).is_empty()
    assert project(np.ones((3, D)), np.array([], int), np.ones(D)).shape == (0,)


# --- the best features beside it -------------------------------------------------------------------------------


def codes_of(x: np.ndarray) -> SparseCodes:
    indices = np.tile(np.arange(x.shape[1], dtype=np.int32), (len(x), 1))
    return SparseCodes(indices, x.astype(np.float32), x.shape[1])


def dense_codes(texts: pl.DataFrame, seed: int, shifts: dict[int, float], latents: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(size=(texts.height, latents)) + 4)
    for latent, shift in shifts.items():
        x[:, latent] += shift * (texts["group"] == "cultural").to_numpy()
    return np.maximum(x, 0.01)


def table_of(texts: pl.DataFrame, dense: dict[DictionaryId, np.ndarray], delta_nd: np.ndarray) -> pl.DataFrame:
    codes = {(one, one.trained_on): codes_of(x) for one, x in dense.items()}
    contrasts = measure_contrasts(texts, codes, CONFIG, 2)
    lens = mean_difference_effects(delta_nd, culture_designs(texts, CONFIG, 1))
    lens = lens.with_columns(side=pl.lit("delta"), layer=pl.lit(3, pl.Int64))
    sham = mean_difference_effects(make_delta(texts, 7, 1.0), culture_designs(texts, CONFIG, 1), shuffled=False)
    sham = sham.with_columns(side=pl.lit("delta:a"), layer=pl.lit(3, pl.Int64), null=pl.lit("sham:a"))
    return beyond_baselines(pl.concat([lens, sham.select(lens.columns)]), contrasts)


def test_the_best_feature_is_held_against_the_largest_baseline() -> None:
    texts = make_texts(20, 1600)
    dense = {
        DELTA: dense_codes(texts, 1, {4: 0.5, 7: -1.5}),
        DictionaryId("delta", 3, "pca"): dense_codes(texts, 2, {1: 0.6}),
        DictionaryId("delta", 3, "neurons"): dense_codes(texts, 3, {2: 0.2}),
        DictionaryId("base", 3): dense_codes(texts, 4, {0: 3.0}),
        SHAM: dense_codes(texts, 5, {}),
    }
    table = table_of(texts, dense, make_delta(texts, 6, 0.4))
    assert table.schema == pl.Schema(SCHEMA) and set(table["side"]) == {"delta", "delta:a"}
    real = {row["method"]: row for row in table.filter(language="pooled", null="", side="delta").to_dicts()}
    assert set(real) == {"topk", "pca", "neurons", "mean_difference"}  # no random dictionary was there
    best = real["topk"]
    assert best["feature"] == "delta.layer03/7" and best["candidates"] == 20
    assert best["d_av"] > 1.2 and best["d_lo"] < best["d_av"] < best["d_hi"] and best["auroc"] > 0.8
    assert real["pca"]["feature"] == "delta.layer03.pca/1"
    assert best["best_baseline"] == "pca" and best["stands"] == "above"
    assert best["beyond"] == pytest.approx(best["d_av"] - real["pca"]["d_av"])
    assert all(real[name]["beyond"] is None for name in ("pca", "neurons", "mean_difference"))
    assert real["mean_difference"]["norm"] > 0 and best["norm"] is None
    # The sham has no baselines but its own mean difference, which is larger here than any of its features.
    (sham,) = table.filter(language="pooled", null="sham:a", method="topk").to_dicts()
    assert (sham["best_baseline"], sham["stands"]) == ("mean_difference", "below") and sham["beyond"] < 0
    # Shuffled groups are held against shuffled groups.
    (shuffled,) = table.filter(language="pooled", null="shuffled", method="topk").to_dicts()
    assert shuffled["best_baseline"] == "mean_difference" and shuffled["stands"] == "not apart"


def test_the_best_of_many_owes_nothing_to_having_been_chosen() -> None:
    chosen, measured = [], []
    for seed in range(25):
        texts = make_texts(40 + seed, 200)
        codes = {(DELTA, "delta"): codes_of(dense_codes(texts, seed, {}, 60))}
        rows = best_features(measure_contrasts(texts, codes, CONFIG, seed)).filter(language="pooled", null="")
        chosen += rows["d_av_select"].to_list()
        measured += rows["d_av"].to_list()
    assert len(chosen) == 25 and min(chosen) > 0.2 and np.mean(chosen) > 0.4
    assert abs(np.mean(measured)) < 4 * np.std(measured) / 5
