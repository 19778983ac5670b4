"""The orders of features: naive twins, the select half alone, and the seeded order under everything."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from antar.core.seeds import derive_seed
from antar.core.sparse import SparseCodes
from antar.interpret.choose import choose_order, effect_sizes, word_coherence
from antar.interpret.words import tokens

DICTIONARY = "base.layer02"


def latents_of(world: Any) -> dict[str, int]:
    return {f"{DICTIONARY}/{i}": i for i in range(world.codes[DICTIONARY].n_latents)}


def order(world: Any, how: Any, seed: int = 7, **changes: Any) -> list[str]:
    given = {"codes": world.codes[DICTIONARY], "texts": world.texts, "examples": world.examples} | changes
    return choose_order(latents_of(world), how, seed=seed, **given)


def test_live_is_the_seeded_order_and_all_the_frames(world: Any) -> None:
    names = list(latents_of(world))
    assert order(world, "live") == sorted(names, key=lambda name: derive_seed(7, "interpret", "choose", name))
    assert order(world, "live", seed=8) != order(world, "live")
    assert order(world, "all") == names


def naive_effects(dense: np.ndarray, texts: pl.DataFrame) -> np.ndarray:
    found = np.zeros(dense.shape[1])
    for latent in range(dense.shape[1]):
        effects = []
        for language in texts["language"].unique().sort():
            groups = []
            for group in ("cultural", "control"):
                keep = (
                    (texts["language"] == language) & (texts["group"] == group) & (texts["half"] == "select")
                    & (texts["split"] != "crosscheck")
                )  # fmt: skip
                groups.append(dense[keep.to_numpy(), latent].astype(float))
            a, b = groups
            if min(len(a), len(b)) < 2:
                continue
            sd = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
            effects.append((a.mean() - b.mean()) / sd if sd > 1e-9 else 0.0)
        found[latent] = abs(np.mean(effects)) if effects else 0.0
    return found


def marked(world: Any) -> pl.DataFrame:
    """A third language that has one control only, and some cross-check texts."""
    row = pl.int_range(pl.len())
    odd = (row % 50 == 3) & ((pl.col("group") == "cultural") | (row == 1003))
    return world.texts.with_columns(
        language=pl.when(odd).then(pl.lit("ta")).otherwise("language"),
        split=pl.when(row % 7 == 0).then(pl.lit("crosscheck")).otherwise("split"),
    )


def test_effects_equal_their_naive_twin(world: Any) -> None:
    codes = world.codes[DICTIONARY]
    dense = np.asarray(codes.csr().todense())
    for texts in (world.texts, marked(world)):
        assert effect_sizes(codes, texts) == pytest.approx(naive_effects(dense, texts), abs=1e-9)
    one_group = world.texts.with_columns(group=pl.lit("cultural"))
    assert (effect_sizes(codes, one_group) == 0).all()


def test_effect_order(world: Any) -> None:
    effects = effect_sizes(world.codes[DICTIONARY], world.texts)
    found = [effects[int(name.rsplit("/", 1)[1])] for name in order(world, "effect")]
    assert found == sorted(found, reverse=True)
    # What the estimate half says changes nothing.
    values = world.codes[DICTIONARY].values_nk.copy()
    values[(world.texts["half"] == "estimate").to_numpy()] *= 100
    codes = SparseCodes(world.codes[DICTIONARY].indices_nk, values, world.codes[DICTIONARY].n_latents)
    assert order(world, "effect", codes=codes) == order(world, "effect")


def test_latents_that_never_fire_or_fire_alike_have_no_effect_and_stand_in_the_seeded_order(world: Any) -> None:
    codes = world.codes[DICTIONARY]
    n = len(world.texts)
    constant = SparseCodes(np.zeros((n, 1), np.int32), np.full((n, 1), 0.1, np.float32), codes.n_latents)
    assert (effect_sizes(constant, world.texts) == 0).all()
    assert order(world, "effect", codes=constant) == order(world, "live")


def test_coherence_equals_its_naive_twin(world: Any) -> None:
    texts = marked(world)
    # One text stands twice among a feature's examples.
    column = texts["text"].to_list()
    first, second = world.examples.filter((pl.col("pool") == "select") & (pl.col("latent") == 3))["row"].to_list()[:2]
    column[second] = column[first].upper()
    texts = texts.with_columns(text=pl.Series(column))
    names = list(latents_of(world))
    found = word_coherence(names, texts, world.examples)
    keep = ((texts["half"] == "select") & (texts["split"] != "crosscheck")).to_numpy()
    rows = np.flatnonzero(keep)
    vectors = TfidfVectorizer(analyzer=tokens, sublinear_tf=True, min_df=2).fit_transform([column[i] for i in rows])
    dense = dict(zip(rows.tolist(), np.asarray(vectors.todense()), strict=True))
    for name in names:
        its = world.examples.filter((pl.col("pool") == "select") & (pl.col("feature") == name))["row"].to_list()
        distinct = {column[row].casefold(): row for row in its if keep[row]}.values()
        cosines = [float(dense[i] @ dense[j]) for i, j in combinations(distinct, 2)]
        assert found[name] == pytest.approx(np.mean(cosines), abs=1e-9)


def test_coherence_order_puts_themes_before_noise(world: Any) -> None:
    latents = latents_of(world)
    found = [latents[name] for name in order(world, "coherence")]
    assert set(found[:12]) == set(range(12))
    assert set(order(world, "coherence", examples=world.examples.clear())) == set(latents)
    assert order(world, "coherence", examples=world.examples.clear()) == order(world, "live")
    numbers = world.texts.with_columns(text=pl.format("{}", pl.int_range(pl.len())))
    assert order(world, "coherence", texts=numbers) == order(world, "live")
