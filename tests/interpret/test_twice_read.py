"""Texts that are read bare and in a chat template are shown once, and silent only where no reading of them fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from antar.core.sparse import SparseCodes
from antar.interpret.cases import CaseMaker
from antar.interpret.choose import word_coherence
from antar.interpret.config import InterpretConfig, KeywordConfig, PredictionConfig, ValidationConfig
from antar.interpret.controls import wrong_pairs
from antar.interpret.corpus import TextCorpus
from antar.interpret.features import Firing
from antar.interpret.keywords import KeywordModel
from antar.interpret.types import Claim, Label, ShownText
from antar.interpret.words import normalise

CFG = InterpretConfig.model_validate({"examples": 12, "top_share": 0.5, "hard_negatives": 6})


def codes_of(x: np.ndarray) -> SparseCodes:
    return SparseCodes(np.tile(np.arange(x.shape[1], dtype=np.int32), (len(x), 1)), x.astype(np.float32), x.shape[1])


def doubled(texts: pl.DataFrame) -> pl.DataFrame:
    reads = [
        texts.with_columns(text_id=pl.col("text_id") + f"#{one}", reading_of="text_id", reading=pl.lit(one))
        for one in ("bare", "chat")
    ]
    return pl.concat(reads)


@pytest.fixture(scope="module")
def twice(world: Any) -> tuple[pl.DataFrame, np.ndarray]:
    """(texts, dense codes `[2 n, latents]`). A text that fires does so in one reading, in the other, or in both."""
    dense = np.asarray(world.codes["base.layer02"].csr().todense())
    rng = np.random.default_rng(1)
    where = rng.integers(0, 3, dense.shape)
    other = dense * rng.uniform(0.5, 1.5, dense.shape).astype(np.float32)
    return doubled(world.texts), np.concatenate([dense * (where != 1), other * (where != 0)])


@pytest.fixture(scope="module")
def maker(world: Any, twice: tuple[pl.DataFrame, np.ndarray]) -> CaseMaker:
    corpus = TextCorpus.build(twice[0], 7)
    codes, decoder_nd = codes_of(twice[1]), world.decoders["base.layer02"]
    live = np.arange(codes.n_latents)
    return CaseMaker(corpus, Firing.of("base.layer02", codes, decoder_nd, live, twice[0].height, corpus.first_t), 7)


def test_every_question_shows_a_text_once_and_no_silent_text_fires_in_its_other_reading(maker, twice):
    texts, dense = twice
    of = {text_id: row % (texts.height // 2) for row, text_id in enumerate(texts["text_id"])}
    strongest = np.maximum(dense[: len(dense) // 2], dense[len(dense) // 2 :])
    row_of = {text_id: row for row, text_id in enumerate(texts["text_id"])}

    def check(latent: int, firing: tuple[ShownText, ...], silent: tuple[ShownText, ...]) -> None:
        shown = [normalise(text.text) for text in firing + silent]
        assert len(set(shown)) == len(shown) and firing and silent
        for text in firing:
            assert text.activation == strongest[of[text.text_id], latent] == dense[row_of[text.text_id], latent] > 0
        for text in silent:
            assert strongest[of[text.text_id], latent] == 0

    for latent in range(strongest.shape[1]):
        name = f"f{latent}"
        evidence = maker.llm_evidence(name, latent, CFG)
        check(latent, evidence.examples, evidence.background + evidence.hard)
        case = maker.validation(Label(name, True, "x", ("x",), 1, None, "en", (), ""), latent, ValidationConfig())
        check(latent, case.firing, case.silent)
        check(latent, case.spare_firing, case.spare_silent)
        claim = Claim(name, "x", ("x",), 1)
        predicted, asked = maker.prediction(claim, latent, PredictionConfig()), maker.saebench(claim, latent)
        for found in (predicted, asked):
            assert found is not None
            fires = [text for text, its in zip(found.texts, found.fires, strict=True) if its]
            check(latent, tuple(fires), tuple(text for text in found.texts if text not in fires))


def test_what_fires_is_what_the_stronger_codes_fire(maker, world, twice):
    """The twin: a study that reads each text once and has the stronger code of the two."""
    n = world.texts.height
    once = codes_of(np.maximum(twice[1][:n], twice[1][n:]))
    decoder_nd, live = world.decoders["base.layer02"], np.arange(once.n_latents)
    twin = CaseMaker(TextCorpus.build(world.texts, 7), Firing.of("twin", once, decoder_nd, live, n), 7)
    for latent in live:
        rows, values = maker.firing.texts_of(latent)
        expected, strengths = twin.firing.texts_of(latent)
        assert dict(zip((rows % n).tolist(), values, strict=True)) == dict(
            zip(expected.tolist(), strengths, strict=True)
        )
        fires = maker.firing.fires_any(np.array([latent]))
        assert np.array_equal(fires, np.tile(twin.firing.fires_any(np.array([latent])), 2))


def test_labels_of_features_that_share_texts_in_other_readings_are_no_wrong_labels(world):
    """Feature 0 fires on some texts bare, feature 1 on the same texts in the template: each other's label is true."""
    n = world.texts.height
    dense = np.zeros((2 * n, 3), np.float32)
    dense[:40, 0], dense[n : n + 40, 1], dense[100:140, 2] = 1, 2, 1
    first, decoder_nd = np.tile(np.arange(n), 2), np.eye(3, dtype=np.float32)
    names = {"a": "diwali", "b": "lamps", "c": "buses"}
    labels = {name: Label(name, True, word, (word,), 1, None, "en", (), "") for name, word in names.items()}

    def pairs(first_t: np.ndarray | None) -> set[tuple[str, str]]:
        firing = Firing.of("x", codes_of(dense), decoder_nd, np.arange(3), 2 * n, first_t)
        latents = dict(zip(labels, range(3), strict=True))
        return {pair for seed in range(5) for pair in wrong_pairs(list(labels), labels, latents, firing, seed)}

    assert not pairs(first) & {("a", "b"), ("b", "a")} and ("a", "c") in pairs(first)
    assert pairs(None) & {("a", "b"), ("b", "a")}


def test_words_are_counted_once_a_text(world):
    cfg = KeywordConfig()
    once, both = (TextCorpus.build(frame, 7) for frame in (world.texts, doubled(world.texts)))
    assert np.array_equal(both.length_bin_t, np.tile(once.length_bin_t, 2))
    one, two = (KeywordModel.fit(corpus, cfg, 12, 7) for corpus in (once, both))
    assert once.index.words == both.index.words
    np.testing.assert_array_equal(one.idf_v, two.idf_v)
    np.testing.assert_array_equal(one.share_lv, two.share_lv)


def test_word_coherence_does_not_rise_by_doubling(world):
    features = [f"base.layer02/{latent}" for latent in range(18)]
    n = world.texts.height
    # Examples of either reading, as the stronger was the one or the other; a word of one text alone joins nothing.
    rare = world.texts.with_columns(text=pl.col("text") + " only" + pl.int_range(pl.len()).cast(pl.String))
    moved = world.examples.with_columns(row=pl.col("row") + n * (pl.col("rank") % 2))
    assert word_coherence(features, doubled(rare), moved) == word_coherence(features, rare, world.examples)
