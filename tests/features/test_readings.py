"""Texts that are read twice: of a text's readings only the stronger is shown, and doubling proves nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, measure_contrasts
from antar.features.coherence import Space, coherence_null, measure_coherence
from antar.features.examples import examples_frame
from antar.features.readings import first_readings, is_first_reading, stronger_readings

ONE = DictionaryId("base", 3)


def texts_of(n: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    cultural = rng.random(n // 2).repeat(2) < 0.5  # two texts a document
    return pl.DataFrame({
        "text_id": [f"t{i}" for i in range(n)], "text": ["a" * int(m) for m in rng.integers(20, 60, n)],
        "group": np.where(cultural, "cultural", "control"), "language": ["en"] * n, "source": ["made"] * n,
        "document": [f"d{i // 2}" for i in range(n)], "split": ["heldout"] * n,
        "half": np.where(rng.random(n // 2).repeat(2) < 0.5, "select", "estimate"),
    })  # fmt: skip


def doubled(texts: pl.DataFrame) -> pl.DataFrame:
    """As the corpus stage doubles it."""
    reads = [
        texts.with_columns(text_id=pl.col("text_id") + f"#{one}", reading_of="text_id", reading=pl.lit(one))
        for one in ("bare", "chat")
    ]
    return pl.concat(reads)


def codes_of(x: np.ndarray) -> SparseCodes:
    return SparseCodes(np.tile(np.arange(x.shape[1], dtype=np.int32), (len(x), 1)), x.astype(np.float32), x.shape[1])


def test_first_readings_name_the_text_whatever_the_order():
    texts = doubled(texts_of(6))
    assert first_readings(texts).tolist() == [0, 1, 2, 3, 4, 5] * 2
    mixed = texts[[7, 3, 1, 9, 0, 6]]
    assert first_readings(mixed).tolist() == [0, 1, 0, 1, 4, 4]
    assert is_first_reading(mixed).tolist() == [True, True, False, False, True, False]
    assert first_readings(texts_of(6)).tolist() == list(range(6))  # read once


def test_the_stronger_reading_alone_is_left_and_the_earlier_of_two_equals():
    rng = np.random.default_rng(0)
    first = np.tile(np.arange(30), 2)[rng.permutation(60)]
    first = np.array([np.flatnonzero(first == one)[0] for one in first])
    indices = np.argsort(rng.random((60, 9)), axis=1)[:, :4].astype(np.int32)
    codes = SparseCodes(indices, rng.integers(0, 3, (60, 4)).astype(np.float32), 9)  # many ties and zeros
    dense = np.asarray(codes.csr().todense())
    expected = np.zeros_like(dense)
    for text in np.unique(first):
        its = np.flatnonzero(first == text)
        for latent in range(9):
            row = its[np.argmax(dense[its, latent])]
            expected[row, latent] = dense[row, latent]
    found = stronger_readings(codes, first)
    assert np.array_equal(np.asarray(found.csr().todense()), expected)
    assert (expected > 0).sum() < (dense > 0).sum()
    assert np.array_equal(np.asarray(codes.csr().todense()), dense)  # the codes themselves stay
    assert stronger_readings(codes, np.arange(60)) is codes


def test_a_feature_that_fires_on_both_readings_shows_the_text_once():
    once = texts_of(80)
    x = np.random.default_rng(1).random((80, 5)) + 0.1
    more = np.random.default_rng(2).random((80, 5)) < 0.5
    texts, codes = doubled(once), codes_of(np.concatenate([x, np.where(more, x + 1, x / 2)]))
    for n in (5, 100):
        found = examples_frame(ONE, codes, texts, n)
        text = texts["reading_of"].gather(found["row"])
        assert not found.with_columns(text=text).select("feature", "pool", "text").is_duplicated().any()
        # What is shown is what a study would show whose texts each had their stronger code.
        twin = examples_frame(ONE, codes_of(np.where(more, x + 1, x)), once, n)
        assert found.select("feature", "rank", "activation", "pool").equals(
            twin.select("feature", "rank", "activation", "pool")
        )
        assert text.to_list() == twin["text_id"].to_list()
        chat = (texts["reading"].gather(found["row"]) == "chat").to_numpy()
        assert np.array_equal(chat, more[found["row"].to_numpy() % 80, found["latent"].to_numpy()])


def space_of(texts: pl.DataFrame, acts_nd: np.ndarray, by_reading: bool = True) -> Space:
    """As the measure stage makes it."""
    language = (texts["language"] + ", " + texts["reading"]) if by_reading else texts["language"]
    return Space(acts_nd, language.to_numpy(), texts["document"].to_numpy(), first_readings(texts))


def test_coherence_does_not_rise_by_doubling_nor_by_the_template():
    once, rng = texts_of(600), np.random.default_rng(3)
    texts = doubled(once)
    acts_nd = rng.normal(size=(600, 8)).astype(np.float32)
    moved_nd = (
        acts_nd + 0.1 * rng.normal(size=acts_nd.shape) + np.array([6] + [0] * 7)
    )  # the template moves all texts
    space = space_of(texts, np.concatenate([acts_nd, moved_nd]).astype(np.float32))
    # Features of nothing, 12 texts each, in one reading or in both, as examples have them: each text once.
    latents = np.repeat(np.arange(60), 12)
    drawn = np.concatenate([rng.choice(600, 12, replace=False) for _ in range(60)])
    for rows in (drawn + 600, drawn + 600 * rng.integers(0, 2, len(drawn))):
        assert abs(measure_coherence(space, latents, rows)["coherence"].mean() - 0.5) < 0.03  # pyright: ignore
        assert abs(coherence_null(space, latents, rows)["coherence"].mean() - 0.5) < 0.03  # pyright: ignore
    # Without the reading as a stratum, a feature of the template alone would pass for a theme.
    naive = measure_coherence(space_of(texts, space.acts_nd, by_reading=False), latents, drawn + 600)
    assert naive["coherence"].mean() > 0.65  # pyright: ignore
    # A theme is as coherent as in a study that reads its texts once.
    theme = np.arange(0, 200, 2)
    acts_nd[theme, 1] += 2
    moved_nd[theme, 1] += 2
    rows = np.concatenate([rng.choice(theme, 12, replace=False) for _ in range(60)])
    alone = Space(acts_nd, once["language"].to_numpy(), once["document"].to_numpy())
    single = measure_coherence(alone, latents, rows)["coherence"].mean()
    twice = space_of(texts, np.concatenate([acts_nd, moved_nd]).astype(np.float32))
    both = measure_coherence(twice, latents, rows)["coherence"].mean()
    assert single > 0.6 and abs(both - single) < 0.03  # pyright: ignore


def test_no_other_reading_of_an_example_is_a_reference():
    """Six texts, of which the examples are two: their other readings must not be compared with themselves."""
    texts = doubled(texts_of(6).with_columns(document="text_id"))
    vectors = np.eye(6, dtype=np.float32)
    vectors[3] = vectors[0]  # the examples are one point in a space of words, where readings are equal
    both = np.concatenate([vectors, vectors])
    rows, latents = np.array([0, 9]), np.array([0, 0])  # bare and chat
    found = measure_coherence(space_of(texts, both, by_reading=False), latents, rows)
    assert found["coherence"].to_list() == [1.0]
    language, document = texts["language"].to_numpy(), texts["document"].to_numpy()
    assert measure_coherence(Space(both, language, document), latents, rows)["coherence"][0] < 1.0


@pytest.fixture(scope="module")
def tables() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(texts read twice, contrasts of them, contrasts of the same texts read once). Latent 0: culture; 1: fires in
    the template alone; 2: culture, in the template alone; the rest nothing."""
    once, rng = texts_of(400, 5), np.random.default_rng(6)
    x = (rng.random((400, 12)) < 0.4) * rng.lognormal(size=(400, 12))
    cultural = (once["group"] == "cultural").to_numpy()
    x[:, 0] += 2 * cultural
    chat = x.copy()
    chat[:, 1] += 3
    chat[:, 2] += 3 * cultural
    config = ContrastConfig(shift=False, interaction=False, permutations=200, facet_permutations=60)
    both = config.model_copy(update={"facets": ("reading",), "within": "reading"})
    texts = doubled(once)
    table = measure_contrasts(texts, {(ONE, "base"): codes_of(np.concatenate([x, chat]))}, both, 1)
    return texts, table, measure_contrasts(once, {(ONE, "base"): codes_of(x)}, config, 1)


def test_the_facet_reading_finds_what_fires_in_the_template(tables):
    facet = tables[1].filter((pl.col("contrast") == "facet") & (pl.col("null") == "") & (pl.col("language") == "en"))
    chat = facet.filter(pl.col("value") == "chat")
    assert set(facet["value"]) == {"bare", "chat"}
    assert (chat["n_a"] == chat["n_b"]).all() and (chat["documents_a"] == chat["documents_b"]).all()
    flagged = chat.filter((pl.col("q") < 0.05) & (pl.col("d_av") > 0.8))["latent"].to_list()
    assert flagged == [1, 2]  # 2 rises in the template on cultural texts, which a facet compares
    shuffled = tables[1].filter((pl.col("contrast") == "facet") & (pl.col("null") == "shuffled"))
    assert shuffled.height > 0 and (shuffled["q"] > 0.05).all()


def test_within_a_reading_texts_are_compared_with_texts_of_that_reading(tables):
    culture = (
        tables[1]
        .filter((pl.col("contrast") == "culture") & (pl.col("null") == "") & (pl.col("language") == "en"))
        .sort("latent")
    )
    assert culture["d_within"].null_count() == 0
    assert culture["d_within"][0] > 0.8 and abs(culture["d_within"][1]) < 0.3


def test_reading_texts_twice_makes_no_effect_surer(tables):
    """Codes of latents 3 to 11 are the same in both readings: the documents are as many as before."""
    keys = (pl.col("contrast") == "culture") & (pl.col("null") == "") & (pl.col("language") == "en")
    twice, once = (table.filter(keys & (pl.col("latent") > 2)).sort("latent") for table in tables[1:])
    assert (twice["n_a"] == 2 * once["n_a"]).all() and (twice["documents_a"] == once["documents_a"]).all()
    for name in ("d_av", "d_lo", "d_hi", "auroc"):
        np.testing.assert_allclose(twice[name], once[name], atol=0.02)
    assert abs(twice["p"] - once["p"]).max() < 0.25 and twice["p"].min() > 0.01  # pyright: ignore


def test_few_counts_texts_and_not_readings():
    once = texts_of(100, 7)  # about 25 texts a group and half
    x = np.random.default_rng(8).random((100, 3))
    config = ContrastConfig(shift=False, interaction=False, permutations=20, facet_permutations=20, warn_under=30)
    codes = {(ONE, "base"): codes_of(np.concatenate([x, x]))}
    table = measure_contrasts(doubled(once), codes, config, 1)
    assert (table["n_a"].min() > 30) and table["few"].all()  # pyright: ignore
    facet = measure_contrasts(doubled(once), codes, config.model_copy(update={"facets": ("reading",)}), 1)
    facet = facet.filter(pl.col("contrast") == "facet")
    assert (facet["few"] == (facet["n_a"] < 30)).all()
