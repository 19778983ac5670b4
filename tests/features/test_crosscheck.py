"""The cross-check on planted codes: what is found, what is not, and that it touches no other number."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features.auroc import Strata, stratified_auroc
from antar.features.config import ContrastConfig, CrosscheckConfig, FeatureConfig
from antar.features.contrasts import measure_contrasts
from antar.features.crosscheck import (
    LEAST_DOCUMENTS,
    chosen_features,
    match_controls,
    mean_given_firing,
    measure_crosscheck,
    set_scores,
)
from antar.features.examples import crosscheck_rows, examples_frame, facet_rows
from antar.features.facts import features_frame

BASE = DictionaryId("base", 3)
L = 40
CULTURE, NAMES = range(4), range(4, 8)
"""Latents that fire on culture wherever it is found, and latents that fire on names alone."""
CFG = CrosscheckConfig(top=8, bins=4, draws=60, replicates=200)
CONTRASTS = ContrastConfig(shift=False, interaction=False, permutations=60, facets=("state",), facet_permutations=40)


def make_texts(n_check: int = 160) -> pl.DataFrame:
    """600 cultural and control texts, half of them held out, two to a document; then clues and masked copies."""
    rng = np.random.default_rng(2)
    rows = [
        {"text_id": f"t{i}", "group": ("cultural", "control")[(i // 2) % 2], "document": f"d{i // 2}", "n": 0,
         "split": "train" if (i // 4) % 2 else "heldout", "half": ("select", "estimate")[(i // 8) % 2],
         "state": None, "masked_of": None, "words": int(rng.integers(5, 15))}
        for i in range(600)
    ]  # fmt: skip
    clues = [
        {"text_id": f"c{i}", "group": "cultural", "document": f"c{i}", "split": "crosscheck", "n": i,
         "half": ("select", "estimate")[i % 2], "state": ("goa", "assam")[(i // 2) % 2], "masked_of": None,
         "words": int(rng.integers(5, 25))}
        for i in range(n_check)
    ]  # fmt: skip
    copies = [{**clue, "text_id": f"{clue['text_id']}/masked", "masked_of": clue["text_id"]} for clue in clues]
    frame = pl.DataFrame(rows + clues + copies, infer_schema_length=None)
    words = [
        " ".join(["w"] * row["words"]) + (" x" if row["masked_of"] and row["n"] % 4 == 0 else "")
        for row in frame.to_dicts()
    ]
    return frame.with_columns(text=pl.Series(words), language=pl.lit("en"), source=pl.lit("s")).drop("words", "n")


def make_codes(texts: pl.DataFrame, *, planted: bool = True, names: bool = True) -> SparseCodes:
    """Noise at a rate of 15%; CULTURE fires on 60% of cultural and cross-check texts, NAMES only on unmasked ones.
    Latent 20 fires in Goa."""
    rng = np.random.default_rng(3)
    n = texts.height
    rate = np.full((n, L), 0.15)
    cultural = (texts["group"] == "cultural").to_numpy()
    copy = texts["masked_of"].is_not_null().to_numpy()
    if planted:
        rate[np.ix_(cultural, CULTURE)] = 0.6
        if names:
            rate[np.ix_(cultural & ~copy, NAMES)] = 0.6
    rate[(texts["state"] == "goa").fill_null(False).to_numpy(), 20] = 0.9
    fired = rng.random((n, L)) < rate
    fired[:, -1] |= ~fired.any(axis=1)
    values = np.where(fired, rng.exponential(size=(n, L)) + 0.1, 0).astype(np.float32)
    counts = fired.sum(axis=1)
    return SparseCodes.of_flat(np.nonzero(fired)[1], values[fired], counts, L)


def run(texts: pl.DataFrame, codes: SparseCodes, cfg: CrosscheckConfig = CFG):
    sets = {(BASE, "base"): codes}
    contrasts = measure_contrasts(texts, sets, CONTRASTS, seed=1)
    return contrasts, measure_crosscheck(texts, sets, contrasts, {BASE: np.ones(L, bool)}, cfg, seed=1)


@pytest.fixture(scope="module")
def planted():
    texts = make_texts()
    codes = make_codes(texts)
    return texts, codes, *run(texts, codes)


def test_planted_features_are_chosen_and_stand_above_both_nulls(planted):
    _, _, _, found = planted
    (row,) = found["sets"]
    assert {one["latent"] for one in found["features"]} == {*CULTURE, *NAMES}
    assert row["ci"][0] > 0.75 and row["auroc"] > row["random"]["range"][1]
    assert row["random"]["p"] == row["shuffled"]["p"] == pytest.approx(1 / 61)
    assert row["shuffled"]["mean"] == pytest.approx(0.5, abs=0.03)
    for one in found["features"]:
        assert one["ci"][0] > 0.5 and one["fire"] > 0.45 > 0.25 > one["fire_controls"]


def test_masking_takes_away_what_names_alone_carry(planted):
    texts, _, _, found = planted
    masked = found["sets"][0]["masked"]
    assert masked["auroc_plain"] == found["sets"][0]["auroc"]
    assert masked["difference_ci"][1] < 0 and masked["ci"][0] > 0.5  # names are lost, culture stays
    for one in found["features"]:
        drop = one["auroc"] - one["auroc_masked"]
        assert drop > 0.1 if one["latent"] in NAMES else abs(drop) < 0.1
    (about,) = found["languages"]
    clues = {row["text_id"]: row["text"] for row in texts.to_dicts()}
    matched = match_controls(texts, "en", CFG.bins)
    changed = [clues[texts["text_id"][int(c)]] != texts["text"][int(m)]
               for c, m in zip(matched.clues, matched.copies, strict=True)]  # fmt: skip
    assert about["changed"] == masked["changed"] == masked["on_changed"]["texts"] == sum(changed) > 0
    assert about["copies"] == about["texts"] == len(matched.clues)


def test_nothing_planted_nothing_found():
    """Noise: no feature is chosen at q < 0.05, and with the bound lifted the AUROC lies within its nulls."""
    texts = make_texts()
    codes = make_codes(texts, planted=False)
    contrasts, found = run(texts, codes)
    assert (
        found["sets"] == [{"dictionary": "base.layer03", "side": "base", "language": "en", "null": "", "chosen": 0}]
        and not found["features"]
    )
    loose = CFG.model_copy(update={"q": 0.99})
    row = measure_crosscheck(texts, {(BASE, "base"): codes}, contrasts, {BASE: np.ones(L, bool)}, loose, 1)["sets"][0]
    assert row["chosen"] > 3
    assert row["ci"][0] < 0.5 < row["ci"][1]
    assert row["random"]["p"] > 0.05 and row["shuffled"]["p"] > 0.05


def test_features_chosen_on_the_corpus_that_do_not_carry_over_are_not_called_found():
    texts = make_texts()
    fresh = crosscheck_rows(texts)
    real, noise = make_codes(texts), make_codes(texts, planted=False)
    k = max(real.indices_nk.shape[1], noise.indices_nk.shape[1])
    wide = [
        np.pad(a, ((0, 0), (0, k - a.shape[1]))) for one in (real, noise) for a in (one.indices_nk, one.values_nk)
    ]
    mixed = SparseCodes(
        np.where(fresh[:, None], wide[2], wide[0]), np.where(fresh[:, None], wide[3], wide[1]), L
    )  # cultural texts fire them, cross-check texts do not
    _, found = run(texts, mixed)
    row = found["sets"][0]
    assert row["chosen"] >= 8 and row["ci"][0] < 0.5 and row["shuffled"]["p"] > 0.05


def test_scores_equal_a_loop(planted):
    texts, codes, _, _ = planted
    dense = codes.csr().toarray()
    own = ~crosscheck_rows(texts) & (texts["group"] == "cultural").to_numpy()
    rows, sets = np.array([0, 5, 610, 700]), [np.array([3]), np.array([0, 7, 12])]
    found = set_scores(codes, rows, mean_given_firing(codes, texts), sets)
    for i, row in enumerate(rows):
        for s, latents in enumerate(sets):
            parts = [dense[row, j] / dense[own, j][dense[own, j] > 0].mean() for j in latents]
            assert found[i, s] == pytest.approx(np.mean(parts), rel=1e-5)


def test_the_scale_of_a_latent_that_no_cultural_text_fires(planted):
    texts, _, _, _ = planted
    indices = np.where((texts["group"] == "control").to_numpy()[:, None], 5, 6).astype(np.int32)
    values = np.where(crosscheck_rows(texts)[:, None], 9.0, 2.0).astype(np.float32)
    scale = mean_given_firing(SparseCodes(indices, values, L), texts)
    assert scale[5] == scale[6] == 2.0 and np.isnan(scale[7])


def test_the_auroc_is_that_of_matched_controls(planted):
    """An independent path: bins by hand, scikit-learn's AUROC in each, weighted by the clues in it."""
    texts, codes, _, found = planted
    words = np.array([len(text.split()) for text in texts["text"]])
    clue = (texts["split"] == "crosscheck").to_numpy() & texts["masked_of"].is_null().to_numpy()
    control = ((texts["group"] == "control") & (texts["split"] != "train") & (texts["half"] == "estimate")).to_numpy()
    latents = [one["latent"] for one in found["features"]]
    score = set_scores(codes, np.arange(len(words)), mean_given_firing(codes, texts), [np.array(latents)])[:, 0]
    edges = np.quantile(words[clue], np.linspace(0, 1, 5))
    total = weight = 0
    for lo, hi in pairwise(edges):
        inside = (words >= lo) & ((words < hi) | ((hi == edges[-1]) & (words == hi)))
        a, b = inside & clue, inside & control
        if texts["document"].gather(np.flatnonzero(b)).n_unique() >= LEAST_DOCUMENTS:
            labels = [1] * a.sum() + [0] * b.sum()
            total += a.sum() * roc_auc_score(labels, np.concatenate([score[a], score[b]]))
            weight += a.sum()
    assert found["sets"][0]["auroc"] == pytest.approx(total / weight)
    assert found["languages"][0]["texts"] == weight < clue.sum()  # clues of over 14 words have no control
    assert found["languages"][0]["unmatched"] == clue.sum() - weight


def test_controls_are_unseen_of_the_estimate_half_and_in_one_bin(planted):
    texts, _, _, _ = planted
    matched = match_controls(texts, "en", 4)
    controls = texts[matched.controls]
    assert set(controls["group"]) == {"control"} and set(controls["half"]) == {"estimate"}
    assert "train" not in set(controls["split"]) and len(set(matched.controls.tolist())) == len(matched.controls)
    assert set(matched.strata.of_a.tolist()) == set(matched.strata.of_b.tolist())
    assert texts[matched.clues]["masked_of"].null_count() == len(matched.clues)
    assert texts["masked_of"].gather(matched.copies).to_list() == texts["text_id"].gather(matched.clues).to_list()
    nothing = match_controls(texts, "hi", 4)
    assert len(nothing.clues) == len(nothing.controls) == nothing.unmatched == 0


def test_selection_uses_the_select_half_and_its_sign(planted):
    _, _, contrasts, _ = planted
    chosen = chosen_features(contrasts, BASE, "base", "en", CFG.model_copy(update={"top": 3}))
    by_hand = contrasts.filter(
        (pl.col("contrast") == "culture") & (pl.col("null") == "") & (pl.col("language") == "en")
    )
    passing = [row for row in by_hand.to_dicts() if row["q_select"] < 0.05 and row["d_av_select"] > 0]
    expected = sorted(passing, key=lambda row: -row["d_av_select"])[:3]
    assert chosen["latent"].to_list() == [row["latent"] for row in expected]


def test_other_contrasts_do_not_see_the_crosscheck(planted):
    texts, codes, contrasts, _ = planted
    alone = ~crosscheck_rows(texts)
    own = texts.filter(pl.Series(alone))
    only = measure_contrasts(
        own, {(BASE, "base"): codes.rows(alone)}, CONTRASTS.model_copy(update={"facets": ()}), seed=1
    )
    assert contrasts.filter(pl.col("contrast") == "culture").equals(only)
    features = features_frame(BASE, codes, texts, config=FeatureConfig(live_on="all"))
    assert features.equals(features_frame(BASE, codes.rows(alone), own, config=FeatureConfig(live_on="all")))
    examples = examples_frame(BASE, codes, texts, 10)
    assert set(texts["split"].gather(examples["row"])) <= {"train", "heldout"}


def test_a_facet_of_the_crosscheck_alone_is_measured_there_without_copies(planted):
    texts, _, contrasts, found = planted
    rows = facet_rows(texts, "state")
    assert set(texts["split"].filter(pl.Series(rows))) == {"crosscheck"} and rows.sum() == 160
    of_goa = (pl.col("value") == "goa") & (pl.col("latent") == 20) & (pl.col("language") == "en")
    goa = contrasts.filter((pl.col("contrast") == "facet") & (pl.col("null") == "") & of_goa).row(0, named=True)
    assert (goa["n_a"], goa["n_b"]) == (80, 80) and goa["d_av"] > 0.7 and goa["q"] < 0.05
    assert all(one["facet"] == "state" for one in found["enriched"])
    both = texts.with_columns(state=pl.when(pl.col("text_id") == "t0").then(pl.lit("goa")).otherwise("state"))
    assert set(both["split"].filter(pl.Series(facet_rows(both, "state")))) == {"heldout"}


def test_enriched_values_are_those_of_chosen_features(planted):
    texts, codes, _, _ = planted
    # Latent 20 is chosen when culture is what fires it: give it the culture of the corpus too.
    dense = codes.csr().toarray()
    rng = np.random.default_rng(0)
    cultural = (texts["group"] == "cultural").to_numpy() & ~crosscheck_rows(texts)
    dense[:, 20] = np.where(cultural & (rng.random(len(dense)) < 0.7), 1.0, dense[:, 20])
    fired = dense > 0
    again = SparseCodes.of_flat(np.nonzero(fired)[1], dense[fired], fired.sum(axis=1), L)
    _, found = run(texts, again)
    goa = [one for one in found["enriched"] if one["feature"] == "base.layer03/20"]
    assert [one["value"] for one in goa] == ["goa"] and goa[0]["few"] is False and goa[0]["n_b"] == 80


def test_the_same_seed_gives_the_same_numbers_and_intervals_cover(planted):
    texts, codes, contrasts, found = planted
    again = measure_crosscheck(texts, {(BASE, "base"): codes}, contrasts, {BASE: np.ones(L, bool)}, CFG, 1)
    assert again == found


def test_intervals_by_document_cover_where_those_by_text_fail():
    """Four near-equal texts a document: 200 data sets, and the share of intervals that hold the true AUROC."""
    from antar.features.auroc import weighted_auroc

    rng = np.random.default_rng(8)
    n, size = 60, 4
    held = {"documents": 0, "texts": 0}
    true = 0.6382  # Φ(0.5 / √2): normal scores half a standard deviation apart
    for _ in range(200):
        a, b = (np.repeat(rng.normal(shift, 0.95, n), size) + rng.normal(0, 0.31, n * size) for shift in (0.5, 0.0))
        one = Strata(np.zeros(n * size, int), np.zeros(n * size, int))
        assert np.isfinite(stratified_auroc(a, b, one))
        for unit in held:
            units = n if unit == "documents" else n * size
            draws = [
                np.repeat(rng.multinomial(units, np.full(units, 1 / units), size=200), n * size // units, axis=1)
                for _ in range(2)
            ]
            lo, hi = np.quantile(weighted_auroc(a, b, one, *(draw.astype(float) for draw in draws)), [0.025, 0.975])
            held[unit] += lo <= true <= hi
    assert held["documents"] >= 180 and held["texts"] < 160
