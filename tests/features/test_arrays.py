"""Contrasts as a library on plain arrays give what a study's contrasts give."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

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
    with pytest.raises(UserError, match="culture: expected held-out cultural texts and controls"):
        compare_groups(codes, np.ones(n, dtype=bool))
