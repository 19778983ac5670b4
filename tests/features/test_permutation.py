"""Calibration of the p-values: uniform under the null (also in the pooled tail, with rare features and clustered
documents), small for planted effects, and not fooled by length or by language."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy import stats

from antar.core.jit import have_numba
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, cells, measure_contrasts, permutation
from antar.features.cells import order_by_latent, sum_over_units

ONE = DictionaryId("base", 2)
CULTURE = ContrastConfig(shift=False, interaction=False, permutations=200, nulls=())
SHIFT = ContrastConfig(culture=False, interaction=False, permutations=200, nulls=())


def texts_of(group: np.ndarray, document: np.ndarray, length: np.ndarray, language: np.ndarray) -> pl.DataFrame:
    """All in the estimation half."""
    n = len(group)
    return pl.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(n)],
            "text": ["क" * int(characters) for characters in length],
            "group": np.where(group, "cultural", "control"),
            "language": language,
            "source": ["made"] * n,
            "document": [f"d{i}" for i in document],
            "split": ["heldout"] * n,
            "half": ["estimate"] * n,
        }
    )


def sparse_of(x: np.ndarray) -> SparseCodes:
    """Dense non-negative values as codes."""
    indices = np.tile(np.arange(x.shape[1], dtype=np.int32), (len(x), 1))
    return SparseCodes(indices, x.astype(np.float32), x.shape[1])


def values_of(rng: np.random.Generator, n: int, rates: np.ndarray, document: np.ndarray, tied: float) -> np.ndarray:
    """Log-normal strengths; with share `tied` of the texts, whether a feature fires is decided by the document."""
    own, shared = rng.random((n, len(rates))), rng.random((document.max() + 1, len(rates)))[document]
    fires = np.where(rng.random((n, 1)) < tied, shared, own) < rates
    strength = rng.lognormal(size=(document.max() + 1, len(rates)))[document] * rng.lognormal(0, 0.5, (n, len(rates)))
    return fires * strength


def culture_p(seed: int, n_documents: int, per_document: int, tied: float, n_latents: int = 150) -> np.ndarray:
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(n_documents), per_document)
    group = (rng.random(n_documents) < 0.3)[document]
    x = values_of(rng, len(document), rng.uniform(0.01, 0.6, n_latents), document, tied)
    texts = texts_of(group, document, rng.integers(20, 90, len(document)), np.full(len(document), "en"))
    table = measure_contrasts(texts, {(ONE, "base"): sparse_of(x)}, CULTURE, seed)
    return table.filter(pl.col("language") == "en")["p"].to_numpy()


def test_p_of_culture_is_calibrated_under_the_null_into_the_pooled_tail() -> None:
    p = np.concatenate([culture_p(seed, 250, 1, 0.0) for seed in range(12)])
    for level in (0.2, 0.05, 0.01, 0.002):  # 200 shuffles alone could not say 0.002
        expected = level * len(p)
        assert np.sum(p <= level) < expected + 4 * np.sqrt(expected), level
    assert np.mean(p <= 0.05) > 0.03  # and not by never rejecting


def test_clustered_documents_need_clusters_and_have_them() -> None:
    """Sixteen texts of a document that fire together: a t-test of texts is wrong, the permutation is not."""
    p = np.concatenate([culture_p(100 + seed, 60, 16, 0.9) for seed in range(8)])
    expected = 0.05 * len(p)
    assert np.sum(p <= 0.05) < expected + 4 * np.sqrt(expected)
    rng = np.random.default_rng(100)
    document = np.repeat(np.arange(60), 16)
    group = (rng.random(60) < 0.3)[document]
    x = values_of(rng, len(document), rng.uniform(0.01, 0.6, 150), document, 0.9)
    naive = stats.ttest_ind(x[group], x[~group], equal_var=False).pvalue
    assert np.nanmean(naive <= 0.05) > 0.3


def test_p_of_shift_is_calibrated_with_clustered_documents() -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        document = np.repeat(np.arange(60), 6)
        rates = rng.uniform(0.02, 0.6, 150)
        before, after = (values_of(rng, len(document), rates, document, 0.9) for _ in range(2))
        texts = texts_of(np.ones(360, bool), document, np.full(360, 30), np.full(360, "hi"))
        codes = {(ONE, "base"): sparse_of(before), (ONE, "chat"): sparse_of(after)}
        found.append(measure_contrasts(texts, codes, SHIFT, seed).filter(pl.col("language") == "hi")["p"].to_numpy())
    p = np.concatenate(found)
    for level in (0.05, 0.01, 0.002):
        expected = level * len(p)
        assert np.sum(p <= level) < expected + 4 * np.sqrt(expected), level
    assert np.mean(p <= 0.05) > 0.03
    naive = stats.ttest_rel(before, after).pvalue
    assert np.nanmean(naive <= 0.05) > 0.15


def test_bh_over_facets_of_nothing_finds_nothing_and_a_lone_planted_one_is_found() -> None:
    rng = np.random.default_rng(3)
    n, n_latents = 1200, 80
    value = np.array(["होली", "Diwali", "Onam", "Bihu", "Eid", "Pongal", "Lohri", "Navroz"])[rng.integers(0, 8, n)]
    x = values_of(rng, n, rng.uniform(0.01, 0.3, n_latents), np.arange(n), 0.0)
    texts = texts_of(np.ones(n, bool), np.arange(n), rng.integers(20, 90, n), rng.choice(["en", "hi"], n))
    texts = texts.with_columns(festival=pl.Series(value))
    config = ContrastConfig(shift=False, culture=False, interaction=False, facets=("festival",))
    table = measure_contrasts(texts, {(ONE, "base"): sparse_of(x)}, config)
    assert table.filter(pl.col("q") < 0.05).height == 0
    holi = (value == "होली") & (texts["language"] == "hi").to_numpy()
    x[holi, 7] = rng.lognormal(1, 0.3, holi.sum())
    table = measure_contrasts(texts, {(ONE, "base"): sparse_of(x)}, config)
    found = table.filter((pl.col("q") < 0.05) & (pl.col("null") == "") & (pl.col("d_av") > 0.8))
    assert set(found["latent"]) == {7} and set(found["value"]) == {"होली"}
    assert found.filter(pl.col("language") == "hi").height == 1
    assert table.filter((pl.col("q") < 0.05) & (pl.col("null") == "shuffled")).height == 0


def test_what_length_alone_explains_is_no_evidence() -> None:
    rng = np.random.default_rng(4)
    n = 1500
    length = rng.integers(20, 220, n)
    group = rng.random(n) < (length / 240)  # cultural texts are longer
    x = (rng.random((n, 40)) < (length / 300)[:, None]) * rng.lognormal(size=(n, 40))  # features fire on long texts
    texts = texts_of(group, np.arange(n), length, np.full(n, "en"))
    codes = {(ONE, "base"): sparse_of(x)}
    matched, naive = (
        measure_contrasts(texts, codes, CULTURE.model_copy(update={"length_bins": bins}))
        .filter(pl.col("language") == "en")["p"]
        .to_numpy()
        for bins in (12, 1)
    )
    assert np.mean(naive < 0.05) > 0.9
    assert np.mean(matched < 0.05) < 0.25


def test_groups_of_wholly_different_length_cannot_be_told_apart() -> None:
    n = 200
    group = np.arange(n) < 100
    texts = texts_of(group, np.arange(n), np.where(group, 500, 20), np.full(n, "en"))
    x = np.random.default_rng(5).random((n, 3)) + group[:, None]
    table = measure_contrasts(texts, {(ONE, "base"): sparse_of(x)}, CULTURE.model_copy(update={"length_bins": 2}))
    assert (table["p"] == 1).all() and (table["matched"] == 0).all() and (table["d_av"] > 1).all()


def test_the_shuffles_do_not_depend_on_what_else_is_measured() -> None:
    rng = np.random.default_rng(6)
    n = 300
    texts = texts_of(rng.random(n) < 0.5, np.arange(n), rng.integers(20, 90, n), rng.choice(["en", "hi"], n))
    x = values_of(rng, n, np.full(20, 0.3), np.arange(n), 0.0)
    other = values_of(rng, n, np.full(20, 0.3), np.arange(n), 0.0)
    alone = measure_contrasts(texts, {(ONE, "base"): sparse_of(x)}, CULTURE, 9)
    two = {(DictionaryId("base", 1), "base"): sparse_of(other), (ONE, "base"): sparse_of(x)}
    together = measure_contrasts(texts, two, CULTURE, 9).filter(pl.col("dictionary") == str(ONE))
    shared = ("q", "q_select", "p_max")  # these are about all tests of a family
    assert alone.drop(shared).equals(together.drop(shared))


needs_numba = pytest.mark.skipif(not have_numba(), reason="Numba is not installed")


@needs_numba
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), tied=st.booleans())
def test_compiled_sums_under_shuffles_equal_sparse_products(seed: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(20), rng.integers(1, 4, 20)) if tied else np.arange(40)
    n_units = unit.max() + 1
    sizes = np.bincount(unit).astype(np.float64)
    x = (rng.random((len(unit), 6)) < 0.4) * rng.normal(3, 1, (len(unit), 6))
    latent, row = np.nonzero(x.T)
    columns = {"s1": x[row, latent], "a": rng.random(len(row)), "b": rng.random(len(row))}
    its_cells = sum_over_units(latent, unit[row], columns, 6, n_units)
    member = (rng.random((n_units, 30)) < 0.5).astype(np.uint8)
    member[:2], member[2:4] = 0, 1  # two units on either side
    counts = (sizes @ member, member.sum(axis=0).astype(float), sizes**2 @ member)
    for compiled, twin in zip(
        permutation._compiled_groups(its_cells, sizes, member, *counts),
        permutation._scipy_groups(its_cells, sizes, member, *counts),
        strict=True,
    ):
        assert compiled == pytest.approx(twin, rel=1e-9, abs=1e-12)
    signs = rng.choice([-1, 1], (n_units, 30)).astype(np.int8)
    for compiled, twin in zip(
        permutation._compiled_changes(its_cells, sizes, signs),
        permutation._scipy_changes(its_cells, sizes, signs),
        strict=True,
    ):
        assert compiled == pytest.approx(twin, rel=1e-9, abs=1e-12)


def test_compiled_order_is_lexsorts() -> None:
    rng = np.random.default_rng(0)
    latent, value = rng.integers(0, 7, 300), rng.integers(-3, 3, 300) / 2
    for its in (latent, np.sort(latent)):
        assert order_by_latent(its, value).tolist() == np.lexsort((value, its)).tolist()
    assert order_by_latent(latent[:0], value[:0]).tolist() == []


def test_without_numba_the_table_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    n = 200
    texts = texts_of(rng.random(n) < 0.5, np.arange(n) // 2, rng.integers(20, 90, n), rng.choice(["en", "hi"], n))
    codes = {
        (ONE, side): sparse_of(values_of(rng, n, np.full(12, 0.3), np.arange(n), 0.0)) for side in ("base", "chat")
    }
    every = ContrastConfig(permutations=100)
    compiled = measure_contrasts(texts, codes, every, 9)
    monkeypatch.setattr(permutation, "have_numba", lambda: False)
    monkeypatch.setattr(cells, "have_numba", lambda: False)
    plain = measure_contrasts(texts, codes, every, 9)
    assert_frame_equal(compiled, plain, rel_tol=1e-5, abs_tol=1e-6)
