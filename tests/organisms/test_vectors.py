"""The synthetic activations are what their truth says: closed forms against large samples."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from antar.core.errors import UserError
from antar.organisms.vectors import (
    GROUPS,
    LANGUAGES,
    SIDES,
    VectorConfig,
    Vectors,
    make_vectors,
    population_auroc,
    population_log_odds,
)

BIG = VectorConfig(
    seed=3, n_documents=20_000, texts_per_document=2, n_latents=28, shifted=2, appearing=2, vanishing=2, cultural=2,
    rising=2, cultural_rising=2, rates=(0.1, 0.5), length_effect=0.7, length_shift=0.8, hindi=(0.3, 0.7),
)  # fmt: skip


@pytest.fixture(scope="module")
def big() -> Vectors:
    return make_vectors(BIG)


def dense(data: Vectors, side: str) -> np.ndarray:
    return data.codes[side].csr().toarray().astype(np.float64)


def where(data: Vectors, group: str, language: str) -> np.ndarray:
    return data.texts.select((pl.col("group") == group) & (pl.col("language") == language)).to_series().to_numpy()


def test_population_rates_means_and_variances_are_those_of_a_large_sample(big: Vectors) -> None:
    truth = big.truth
    for s, side in enumerate(SIDES):
        x = dense(big, side)
        for g, group in enumerate(GROUPS):
            for k, language in enumerate(LANGUAGES):
                rows = x[where(big, group, language)]
                at = (s, g, k)
                se = np.sqrt(truth.variance[at] / (len(rows) / 2)) + 1e-9  # two texts a document at the very least
                assert np.all(np.abs(rows.mean(axis=0) - truth.mean[at]) < 5 * se), at
                assert (rows > 0).mean(axis=0) == pytest.approx(truth.rate[at], abs=0.025), at
                assert rows.var(axis=0) == pytest.approx(truth.variance[at], rel=0.25, abs=0.01), at


def test_planted_features_have_the_d_that_was_asked_for(big: Vectors) -> None:
    truth = big.truth
    for weights in ({"en": 1.0}, {"hi": 1.0}, {"en": 2.0, "hi": 5.0}):
        shift = truth.shift_d(weights)
        signs = np.select([truth.kind == "vanishing", truth.changed], [-1.0, 1.0], 0.0)
        rare = truth.rising
        assert shift[~rare] == pytest.approx(0.8 * signs[~rare])
        assert truth.culture_d(weights)[truth.cultural & ~rare] == pytest.approx(0.8)
        assert ((shift[truth.kind == "rising"] > 0.25) & (shift[truth.kind == "rising"] < 0.4)).all()
    sample = dense(big, "chat")[where(big, "cultural", "en")], dense(big, "base")[where(big, "cultural", "en")]
    d = (sample[0].mean(0) - sample[1].mean(0)) / np.sqrt((sample[0].var(0) + sample[1].var(0)) / 2)
    assert d == pytest.approx(truth.shift_d({"en": 1.0}), abs=0.06)


def test_kinds_do_what_they_say(big: Vectors) -> None:
    base, chat, kind = dense(big, "base"), dense(big, "chat"), big.truth.kind
    assert {name: int((kind == name).sum()) for name in ("shifted", "appearing", "vanishing")} == {
        "shifted": 2, "appearing": 2, "vanishing": 2,
    }  # fmt: skip
    assert not base[:, kind == "appearing"].any() and chat[:, kind == "appearing"].any()
    assert not chat[:, kind == "vanishing"].any() and base[:, kind == "vanishing"].any()
    fires = (base[:, kind == "shifted"] > 0).mean(), (chat[:, kind == "shifted"] > 0).mean()
    assert fires[0] == pytest.approx(fires[1], abs=0.01)
    control = where(big, "control", "en") | where(big, "control", "hi")
    assert not base[control][:, big.truth.cultural & ~big.truth.rising].any()
    rates = [(base[rows][:, big.truth.cultural & big.truth.rising] > 0).mean() for rows in (control, ~control)]
    assert rates == pytest.approx([0.01, 0.10], abs=0.005)
    assert (base[:, kind == "rising"] > 0).mean() == pytest.approx(0.01, abs=0.003)
    assert (chat[:, kind == "rising"] > 0).mean() == pytest.approx(0.10, abs=0.01)


def test_population_auroc_and_log_odds_are_those_of_a_large_sample(big: Vectors) -> None:
    a, b = (dense(big, side)[where(big, "cultural", "en")] for side in SIDES)
    rate_a, rate_b, factor = big.truth.shift_rates("en")
    auroc, odds = population_auroc(rate_a, rate_b, factor), population_log_odds(rate_a, rate_b)
    for latent in range(a.shape[1]):
        u = stats.mannwhitneyu(b[:, latent], a[:, latent]).statistic / len(a) / len(b)
        assert u == pytest.approx(auroc[latent], abs=0.02)
        if np.isfinite(odds[latent]):
            p, q = (a[:, latent] > 0).mean(), (b[:, latent] > 0).mean()
            assert np.log(q / (1 - q) / p * (1 - p)) == pytest.approx(odds[latent], abs=0.4)


def test_without_a_confound_unplanted_features_have_no_cultural_difference() -> None:
    truth = make_vectors(VectorConfig(n_documents=8, length_effect=0.7, hindi=(0.2, 0.8))).truth
    assert truth.culture_d({"en": 1.0}) == pytest.approx(0.0)
    assert truth.culture_d({"hi": 1.0}) == pytest.approx(0.0)
    confounded = make_vectors(VectorConfig(n_documents=8, length_effect=0.7, length_shift=1.0)).truth
    assert (confounded.culture_d({"en": 1.0}) > 0.05).all()


def test_a_change_on_cultural_texts_leaves_controls_alone() -> None:
    truth = make_vectors(VectorConfig(n_documents=8, shifted=2, appearing=1, change_on="cultural")).truth
    assert truth.shift_d({"en": 1.0}, group="control") == pytest.approx(0.0)
    assert truth.shift_d({"en": 1.0})[truth.changed] == pytest.approx(0.8)


def test_texts_of_a_document_and_sides_of_a_text_are_alike(big: Vectors) -> None:
    base, chat = dense(big, "base"), dense(big, "chat")
    latent = int(np.flatnonzero((big.truth.kind == "unchanged") & ~big.truth.cultural)[0])
    first, second = base[0::2, latent] > 0, base[1::2, latent] > 0
    same_text = np.corrcoef(base[:, latent] > 0, chat[:, latent] > 0)[0, 1]
    same_document = np.corrcoef(first, second)[0, 1]
    strangers = np.corrcoef(first, np.roll(second, 7))[0, 1]
    assert same_text > same_document + 0.1 > strangers + 0.2
    assert big.texts["document"].n_unique() == BIG.n_documents
    assert big.texts.group_by("document").agg(pl.col("half", "split", "group", "language").n_unique()).drop(
        "document"
    ).max().row(0) == (1, 1, 1, 1)


def test_confounds_are_there_when_asked_for(big: Vectors) -> None:
    by_group = big.texts.group_by("group").agg(
        (pl.col("language") == "hi").mean().alias("hindi"), pl.col("text").str.len_chars().mean().alias("length")
    )
    values = {row["group"]: row for row in by_group.iter_rows(named=True)}
    assert values["control"]["hindi"] == pytest.approx(0.3, abs=0.02)
    assert values["cultural"]["hindi"] == pytest.approx(0.7, abs=0.02)
    assert values["cultural"]["length"] > 1.2 * values["control"]["length"]


def test_activations_are_codes_times_decoder_plus_noise() -> None:
    data = make_vectors(VectorConfig(n_documents=50, noise=0.0, train_share=0.5))
    for side, acts_nd in (("base", data.base_nd), ("chat", data.chat_nd)):
        assert acts_nd == pytest.approx(dense(data, side) @ data.decoder_nd, abs=1e-4)
        assert acts_nd.dtype == np.float32
    assert np.linalg.norm(data.decoder_nd, axis=1) == pytest.approx(np.ones(96), abs=1e-5)
    assert set(data.texts["split"]) == {"train", "heldout"}
    for codes in data.codes.values():
        assert all(len(set(row)) == len(row) for row in codes.indices_nk.tolist())


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    one, two, other = (make_vectors(VectorConfig(n_documents=20, seed=seed)) for seed in (1, 1, 2))
    assert one.texts.equals(two.texts) and np.array_equal(one.chat_nd, two.chat_nd)
    assert not np.array_equal(one.chat_nd, other.chat_nd)


def test_more_planted_features_than_there_are_is_an_error() -> None:
    with pytest.raises(UserError, match="at most 8 planted"):
        make_vectors(VectorConfig(n_latents=8, shifted=5, cultural=4))
