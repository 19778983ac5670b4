"""Coherence, matching, stability and energy against naive twins and known truth."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.features.coherence import Space, _references, coherence_null, measure_coherence
from antar.features.energy import shift_energy, with_energy
from antar.features.matching import match, match_random
from antar.features.stability import effect_reliability, measure_stability, split_half_reliability


def space_of(seed: int, n: int = 120, d: int = 6) -> Space:
    rng = np.random.default_rng(seed)
    language = np.where(rng.random(n) < 0.5, "en", "hi")
    acts = rng.normal(size=(n, d)) + np.where(language == "hi", 3.0, 0.0)[:, None]
    return Space(acts.astype(np.float32), language, np.array([f"d{i // 2}" for i in range(n)]))


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def naive_coherence(space: Space, rows: list[int], drawn: dict[str, np.ndarray]) -> float:
    per_pair: list[float] = []
    for i in rows:
        for j in rows:
            if space.document[i] == space.document[j]:
                continue
            near = cosine(space.acts_nd[i], space.acts_nd[j])
            scores = [
                float(near > cosine(space.acts_nd[i], space.acts_nd[r]))
                for r in drawn[space.language[j]].tolist()
                if r not in rows and space.document[r] != space.document[i]
            ]
            per_pair.append(float(np.mean(scores)))
    return float(np.mean(per_pair))


def test_coherence_equals_a_loop_over_pairs_and_random_texts() -> None:
    space = space_of(1)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.choice(120, 7, replace=False) for _ in range(4)])
    latents = np.repeat([2, 3, 8, 9], 7)
    found = measure_coherence(space, latents, rows, references=25, seed=5)
    drawn = _references(space, 25, 5)
    expected = [naive_coherence(space, rows[latents == one].tolist(), drawn) for one in (2, 3, 8, 9)]
    assert found["latent"].to_list() == [2, 3, 8, 9] and found["n_examples"].to_list() == [7] * 4
    assert np.allclose(found["coherence"], expected, atol=1e-6)


def test_coherent_features_are_found_and_their_null_is_a_half() -> None:
    space = space_of(2, n=600)
    acts = space.acts_nd.copy()
    topic = np.arange(0, 200, 2)  # one text a document
    acts[topic] += np.array([0, 0, 0, 0, 0, 6], np.float32)
    space = Space(acts, space.language, space.document)
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.choice(topic, 15, replace=False) for _ in range(40)])
    latents = np.repeat(np.arange(40), 15)
    assert measure_coherence(space, latents, rows)["coherence"].min() > 0.75  # pyright: ignore
    null = coherence_null(space, latents, rows)["coherence"]
    assert abs(null.mean() - 0.5) < 0.02  # pyright: ignore


def test_texts_of_one_language_are_not_coherent_for_that_reason() -> None:
    space = space_of(3, n=600)  # the languages lie far apart
    hindi = np.flatnonzero(space.language == "hi")
    rng = np.random.default_rng(2)
    rows = np.concatenate([rng.choice(hindi, 12, replace=False) for _ in range(50)])
    found = measure_coherence(space, np.repeat(np.arange(50), 12), rows)["coherence"]
    assert abs(found.mean() - 0.5) < 0.03  # pyright: ignore


def test_one_example_one_document_and_zero_activations_do_not_crash() -> None:
    space = space_of(4)
    found = measure_coherence(space, np.array([0, 1, 1]), np.array([5, 8, 9]))  # 8 and 9 share a document
    assert found["coherence"].to_list() == [None, None] and found["n_pairs"].to_list() == [0, 0]
    zero = Space(np.zeros_like(space.acts_nd), space.language, space.document)
    assert measure_coherence(zero, np.array([0, 0, 0]), np.array([1, 5, 9]))["coherence"].to_list() == [0.5]
    assert measure_coherence(space, np.empty(0, np.int64), np.empty(0, np.int64)).height == 0


def test_matching_equals_the_best_of_all_permutations() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
        best = max(sum(cosine(a[i], b[j]) for i, j in enumerate(chosen)) for chosen in permutations(range(5), 4))
        assert match(a, b).cosine.sum() == pytest.approx(best, abs=1e-5)


def test_matching_undoes_a_permutation_and_beats_random_directions() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(60, 16))
    order = rng.permutation(60)
    found = match(a, 3 * a[order] + 0.05 * rng.normal(size=a.shape))
    assert np.array_equal(order[found.b], found.a) and found.cosine.min() > 0.99
    random = match_random(a, 60, seed=3).cosine
    assert 0.2 < random.mean() < 0.7  # in 16 dimensions the best of 60 random cosines is far above 0
    with pytest.raises(UserError, match="one width"):
        match(a, a[:, :8])


def test_stability_keeps_dead_rows_out_and_reports_each_latent() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(40, 12))
    live = np.arange(40) < 30
    replicas = [np.vstack([a[:30][rng.permutation(30)], rng.normal(size=(10, 12))]) for _ in range(2)]
    found = measure_stability(a, replicas, live, [live, live])
    assert found.mean == pytest.approx(1, abs=1e-5) and len(found.cosines) == 60
    assert np.isnan(found.by_latent[30:]).all() and np.allclose(found.by_latent[:30], 1, atol=1e-5)
    assert found.null_mean < 0.8
    assert np.isnan(measure_stability(a, []).mean)


def test_split_half_reliability_recovers_the_known_reliability() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=20_000)
    halves = [truth + rng.normal(size=truth.size) for _ in range(2)]  # r = 1/2, of the whole 2/3
    found = split_half_reliability(*halves)
    assert found.r == pytest.approx(np.corrcoef(*halves)[0, 1])
    assert found.value == pytest.approx(2 / 3, abs=0.02) and found.lo < 2 / 3 < found.hi
    assert np.isnan(split_half_reliability(np.ones(9), np.arange(9.0)).value)
    table = pl.DataFrame(
        {"contrast": "shift", "null": "", "dictionary": "d", "side_a": "base", "side_b": "chat",
         "facet": pl.Series([None] * 50, dtype=pl.String), "value": pl.Series([None] * 50, dtype=pl.String),
         "language": ["en"] * 25 + ["hi"] * 25, "d_av_select": halves[0][:50], "d_av": halves[1][:50]}
    )  # fmt: skip
    rows = effect_reliability(table)
    assert rows["language"].to_list() == ["en", "hi"] and rows["n"].to_list() == [25, 25]
    assert rows["r"][1] == pytest.approx(np.corrcoef(halves[0][25:50], halves[1][25:50])[0, 1])


def energy_texts(rng: np.random.Generator, n: int) -> pl.DataFrame:
    group = np.where(rng.random(n) < 0.5, "cultural", "control")
    state = np.where(group == "cultural", rng.choice(["केरल", "Punjab"], n), None)
    return pl.DataFrame(
        {"group": group, "language": rng.choice(["en", "hi"], n), "document": [f"d{i}" for i in range(n)],
         "state": pl.Series(state.tolist(), dtype=pl.String)}
    )  # fmt: skip


def test_energy_is_the_norm_of_centred_means() -> None:
    rng = np.random.default_rng(4)
    texts, delta = energy_texts(rng, 400), rng.normal(size=(400, 5)).astype(np.float32)
    norms = rng.uniform(5, 6, 400)
    table = shift_energy(delta, norms, texts, "delta.layer02", "delta", ["state"])
    hindi = (texts["language"] == "hi").to_numpy()
    kerala = hindi & (texts["state"] == "केरल").fill_null(False).to_numpy()
    other = hindi & (texts["state"] == "Punjab").fill_null(False).to_numpy()
    row = table.filter((pl.col("language") == "hi") & (pl.col("value") == "केरल")).row(0, named=True)
    expected = np.linalg.norm(delta[kerala].mean(0) - delta[other].mean(0))
    assert row["energy"] == pytest.approx(expected, rel=1e-5) and row["n"] == kerala.sum()
    assert row["share"] == pytest.approx(expected / norms[hindi].mean(), rel=1e-5)
    control = hindi & (texts["group"] == "control").to_numpy()
    drift = table.filter((pl.col("language") == "hi") & (pl.col("value") == "control"))["energy"][0]
    assert drift == pytest.approx(np.linalg.norm(delta[control].mean(0)), rel=1e-5)
    pooled = table.filter((pl.col("language") == "pooled") & (pl.col("value") == "केरल"))["energy"][0]
    each = table.filter((pl.col("language") != "pooled") & (pl.col("value") == "केरल"))["energy"]
    assert pooled == pytest.approx(each.mean())


def test_energy_noise_is_the_root_of_the_expected_square_and_common_drift_cancels() -> None:
    squares, noises = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        texts = energy_texts(rng, 200).with_columns(document=pl.Series([f"d{i // 4}" for i in range(200)]))
        shared = np.repeat(rng.normal(size=(50, 8)), 4, axis=0)  # texts of a document share their noise
        delta = 100 + shared + 0.3 * rng.normal(size=(200, 8))
        by_document = np.repeat(rng.integers(0, 2, 50), 4)
        texts = texts.with_columns(
            group=pl.Series(np.where(by_document, "cultural", "control")), language=pl.lit("en")
        )
        row = shift_energy(delta, np.ones(200), texts, "s", "delta").filter(
            (pl.col("value") == "cultural") & (pl.col("language") == "en")
        )
        squares.append(row["energy"][0] ** 2)
        noises.append(row["noise"][0] ** 2)
    assert np.mean(squares) == pytest.approx(np.mean(noises), rel=0.25)


def test_energy_of_nothing_is_zero_and_wrong_rows_are_a_user_error() -> None:
    texts = energy_texts(np.random.default_rng(5), 50)
    table = shift_energy(np.zeros((50, 3)), np.zeros(50), texts, "s", "delta", ["state"])
    assert (table["energy"] == 0).all() and (table["share"] == 0).all()
    with pytest.raises(UserError, match="expected 50 rows"):
        shift_energy(np.zeros((49, 3)), np.zeros(50), texts, "s", "delta")


def test_each_row_about_a_change_carries_its_energy_and_the_largest_shams() -> None:
    keys = ("side", "site", "language", "facet", "value")
    places = [
        ("delta", "delta.layer02", 0.3),
        ("delta:a", "delta:a.layer02", 0.1),
        ("delta:b", "delta:b.layer02", 0.2),
    ]
    energy = pl.DataFrame(
        [dict(zip(keys, (side, site, "hi", facet, value), strict=True)) | {"share": share * factor}
         for side, site, share in places
         for facet, value, factor in (("group", "cultural", 1.0), ("group", "control", 9.0), ("state", "goa", 2.0))]
    )  # fmt: skip
    row = {"facet": None, "value": None, "language": "hi"}
    rows = [
        {**row, "contrast": "shift", "dictionary": "base.layer02", "side_b": "chat"},
        {**row, "contrast": "interaction", "dictionary": "base.layer02.pca", "side_b": "sham:a"},
        {**row, "contrast": "culture", "dictionary": "delta.layer02", "side_b": "delta"},
        {**row, "contrast": "culture", "dictionary": "delta:b.layer02", "side_b": "delta:b"},
        {**row, "contrast": "facet", "dictionary": "delta.layer02.batchtopk", "side_b": "delta", "facet": "state",
         "value": "goa"},
        {**row, "contrast": "culture", "dictionary": "base.layer02", "side_b": "chat"},
        {**row, "contrast": "shift", "dictionary": "base.layer02", "side_b": "base"},
        {**row, "contrast": "shift", "dictionary": "base.layer03", "side_b": "chat"},
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema_overrides={"facet": pl.String, "value": pl.String})
    found = with_energy(table, energy)
    assert found.columns == [*table.columns, "energy_share", "energy_share_sham"]
    assert found["energy_share"].to_list() == pytest.approx([0.3, 0.1, 0.3, 0.2, 0.6, None, None, None])
    assert found["energy_share_sham"].to_list() == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.4, None, None, None])
