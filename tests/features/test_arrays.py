"""Contrasts as a library on plain arrays give what a study's contrasts give."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, compare_groups, compare_sides, measure_contrasts
from antar.organisms.vectors import VectorConfig, make_vectors

DATA = make_vectors(VectorConfig(n_documents=120, n_latents=12, shifted=2, cultural=2, rates=(0.1, 0.5)))
FEW = ContrastConfig(permutations=100)


def test_groups_and_sides_are_the_studys_culture_and_shift() -> None:
    texts = DATA.texts
    common = {name: texts[name].to_list() for name in ("language", "document", "half")}
    length = texts["text"].str.len_chars().to_numpy()
    groups = compare_groups(DATA.codes["base"], (texts["group"] == "cultural").to_numpy(), length=length, config=FEW,
                            **common)  # fmt: skip
    one = DictionaryId("base", 0)
    codes = {(one, side): DATA.codes[side] for side in ("base", "chat")}
    table = measure_contrasts(texts, codes, FEW)
    culture = table.filter((pl.col("contrast") == "culture") & (pl.col("side_b") == "base"))
    same = [name for name in groups.columns if name not in ("q", "q_select", "p_max")]  # those are of all sides there
    assert groups.select(same).equals(culture.select(same))
    planted = set(np.flatnonzero(DATA.truth.cultural).tolist())
    pooled = groups.filter((pl.col("language") == "pooled") & (pl.col("null") == ""))
    assert set(pooled.filter(pl.col("q") < 0.05)["latent"]) >= planted

    sides = compare_sides(DATA.codes["base"], DATA.codes["chat"], config=FEW, **common)
    strong = sides.filter((pl.col("language") == "pooled") & (pl.col("null") == "") & (pl.col("d_av").abs() > 0.5))
    assert set(strong["latent"]) == set(np.flatnonzero(DATA.truth.changed).tolist())


def test_by_default_each_text_is_a_document_of_one_language_and_all_is_estimated() -> None:
    codes = DATA.codes["base"]
    table = compare_groups(codes, (DATA.texts["group"] == "cultural").to_numpy(), config=FEW)
    assert set(table["language"]) == {"all", "pooled"}
    assert (table["documents_a"] == table["n_a"]).all() and (table["n_a"] + table["n_b"] == len(codes)).all()
    assert table["d_av_select"].is_null().all()


def test_arrays_that_do_not_fit_are_one_line() -> None:
    codes = DATA.codes["base"]
    n = len(codes)
    flags = np.arange(n) % 2 == 0
    with pytest.raises(UserError, match=f"document: expected {n} values, one for each text of the codes, found 3"):
        compare_groups(codes, flags, document=["a", "b", "c"])
    with pytest.raises(UserError, match="half: expected select and estimate, found test"):
        compare_groups(codes, flags, half=["test"] * n)
    other = SparseCodes(codes.indices_nk[:5], codes.values_nk[:5], codes.n_latents)
    with pytest.raises(UserError, match=f"codes after: expected {n} texts and 12 latents, as before, found 5 and 12"):
        compare_sides(codes, other)
    for bad, told in ((np.ones(n, dtype=bool), "in_b: expected texts in either group, found all in b"),
                      (np.arange(n) % 3, r"in_b: expected true and false \(or 1 and 0\), found"),
                      (np.zeros((n, 2), dtype=bool), "in_b: expected")):  # fmt: skip
        with pytest.raises(UserError, match=told):
            compare_groups(codes, bad)
    with pytest.raises(UserError, match="length: expected a finite number"):
        compare_groups(codes, flags, length=np.full(n, np.nan))
    with pytest.raises(UserError, match="languages with names of their own, found 'pooled'"):
        compare_groups(codes, flags, language=["pooled"] * n)


@pytest.mark.parametrize("value", [np.inf, np.nan, -1.0])
def test_a_value_that_is_no_strength_is_refused_and_named(value: float) -> None:
    x = np.ones((6, 3))
    x[4, 1] = value
    with pytest.raises(UserError, match=r"expected finite values of at least 0, found .* in text 4, latent 1"):
        compare_groups(x, np.arange(6) % 2)


def test_an_index_that_is_no_latent_is_refused() -> None:
    """Compiled loops do not look: an index out of range once ended the interpreter."""
    wild = SparseCodes(np.full((6, 2), 9, np.int32), np.ones((6, 2), np.float32), 5)
    with pytest.raises(UserError, match="codes: expected latents 0 to 4, found 9 in text 0"):
        compare_groups(wild, np.arange(6) % 2)
    twice = SparseCodes(np.full((6, 2), 1, np.int32), np.ones((6, 2), np.float32), 5)
    with pytest.raises(UserError, match="expected each latent once a text, found one twice in text 0"):
        compare_groups(twice, np.arange(6) % 2)


def test_dense_and_scipy_arrays_are_codes_too() -> None:
    codes = DATA.codes["base"]
    flags = (DATA.texts["group"] == "cultural").to_numpy()
    dense = codes.csr().toarray()
    expected = compare_groups(codes, flags, config=FEW)
    for same in (dense, sparse.csr_array(dense), sparse.coo_matrix(dense)):
        assert compare_groups(same, flags, config=FEW).equals(expected)


def test_texts_that_are_not_those_of_the_codes_are_one_line() -> None:
    codes = {(DictionaryId("base", 0), "base"): DATA.codes["base"]}
    culture = ContrastConfig(shift=False, interaction=False, permutations=20)
    for texts, told in (
        (DATA.texts.head(10), "expected 10 texts, found 240"),
        (DATA.texts.drop("half"), "found none called half"),
        (DATA.texts.with_columns(half=pl.lit("foo")), "found foo"),
        (DATA.texts.with_columns(document=pl.lit(None, pl.String)), "found 240 without one"),
    ):
        with pytest.raises(UserError, match=told):
            measure_contrasts(texts, codes, culture)
