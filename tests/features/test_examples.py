from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import examples
from antar.features.codes import codes_shard_path, encode_site, read_codes, write_codes_shard
from antar.features.config import FeatureConfig
from antar.features.examples import contrast_rows, examples_frame, top_examples
from antar.features.facts import features_frame

ID = DictionaryId("base", 6)


def random_codes(rng: np.random.Generator, n: int, n_latents: int, k: int, levels: int = 3) -> SparseCodes:
    """Few distinct values, many ties, some stored zeros."""
    indices = np.argsort(rng.random((n, n_latents)), axis=1)[:, :k].astype(np.int32)
    return SparseCodes(indices, rng.integers(0, levels, (n, k)).astype(np.float32) / 2, n_latents)


def naive_top(codes: SparseCodes, n: int, rows: np.ndarray) -> list[tuple[int, int, int, float]]:
    dense = np.asarray(codes.csr().todense())
    found: list[tuple[int, int, int, float]] = []
    for latent in range(codes.n_latents):
        firing = sorted((-float(dense[row, latent]), int(row)) for row in rows if dense[row, latent] > 0)
        found += [(latent, rank, row, -value) for rank, (value, row) in enumerate(firing[:n])]
    return found


@pytest.fixture(params=["compiled", "numpy"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to the top examples: the kernel, and what runs where Numba is absent."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    monkeypatch.setattr(examples, "have_numba", lambda: request.param == "compiled")
    return request.param


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), n=st.integers(0, 40), top=st.integers(1, 6), restrict=st.booleans())
def test_top_examples_equal_a_naive_sort_with_ties(path: str, seed: int, n: int, top: int, restrict: bool) -> None:
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, n, 7, 3)
    rows = np.flatnonzero(rng.random(n) < 0.6) if restrict else None
    found = list(zip(*(array.tolist() for array in top_examples(codes, top, rows)), strict=True))
    assert found == naive_top(codes, top, np.arange(n) if rows is None else rows)


def test_rows_may_be_a_mask_or_come_in_any_order(path: str) -> None:
    rng = np.random.default_rng(5)
    codes = random_codes(rng, 30, 7, 3)
    mask = rng.random(30) < 0.5
    expected = naive_top(codes, 4, np.flatnonzero(mask))
    for rows in (mask, rng.permutation(np.flatnonzero(mask))):
        assert list(zip(*(array.tolist() for array in top_examples(codes, 4, rows)), strict=True)) == expected


def test_infinities_lead_and_nan_negatives_and_zeros_never_appear(path: str) -> None:
    values = np.array([[np.nan], [2.0], [np.inf], [-1.0], [0.0], [-0.0], [1e-45], [np.inf], [2.0]], np.float32)
    codes = SparseCodes(np.zeros((9, 1), np.int32), values, 2)
    latents, ranks, rows, found = top_examples(codes, 5)
    assert rows.tolist() == [2, 7, 1, 8, 6] and found.tolist() == values[rows, 0].tolist()
    assert latents.tolist() == [0] * 5 and ranks.tolist() == list(range(5))
    assert top_examples(codes, 3)[2].tolist() == [2, 7, 1]


def test_both_paths_give_the_same_arrays_on_ascending_descending_and_crowded_codes() -> None:
    pytest.importorskip("numba")
    rng = np.random.default_rng(6)
    n, k, n_latents = 3000, 16, 40
    indices = np.argsort(rng.random((n, n_latents)), axis=1)[:, :k].astype(np.int32)
    ramp = np.repeat(np.linspace(0.1, 9, n, dtype=np.float32)[:, None], k, axis=1)
    for values in (ramp, ramp[::-1].copy(), rng.exponential(1, (n, k)).astype(np.float32).round(1)):
        codes, kept = SparseCodes(indices, values, n_latents), np.arange(n)
        for top in (1, 20, 4000):
            ours_theirs = [way(n_latents, min(top, n)) for way in (examples._CompiledTop, examples._NumpyTop)]
            for one in ours_theirs:
                one.add(codes, kept, 0)
            for ours, theirs in zip(*(one.found() for one in ours_theirs), strict=True):
                assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


@pytest.mark.parametrize("latent", [3, -1])
def test_a_latent_out_of_range_is_found_and_not_written_to(latent: int) -> None:
    pytest.importorskip("numba")
    codes = SparseCodes(np.array([[0], [latent]], np.int32), np.ones((2, 1), np.float32), 3)
    with pytest.raises(ValueError, match="latents from 0 to 2"):
        examples._CompiledTop(3, 2).add(codes, np.arange(2), 0)


def test_read_only_codes_and_other_layouts_are_taken_as_they_are() -> None:
    pytest.importorskip("numba")
    codes = random_codes(np.random.default_rng(7), 50, 7, 3)
    codes.indices_nk.flags.writeable = codes.values_nk.flags.writeable = False
    turned = SparseCodes(np.asfortranarray(codes.indices_nk), codes.values_nk[:, ::-1][:, ::-1], 7)
    for same in (codes, turned):
        found = list(zip(*(array.tolist() for array in top_examples(same, 3)), strict=True))
        assert found == naive_top(codes, 3, np.arange(50))


def texts_frame(n: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "text_id": [f"पाठ-{i}" for i in range(n)],
            "group": ["cultural" if i % 2 else "control" for i in range(n)],
            "split": ["train" if i % 3 == 0 else "heldout" for i in range(n)],
            "half": ["select" if i % 4 < 2 else "estimate" for i in range(n)],
        }
    )


def test_example_pools_hold_only_their_own_half() -> None:
    codes = random_codes(np.random.default_rng(1), 60, 9, 4, levels=50)
    texts = texts_frame(60)
    frame = examples_frame(ID, codes, texts, n=5)
    assert frame.columns == ["feature", "dictionary", "latent", "rank", "row", "text_id", "activation", "pool"]
    halves = texts["half"].gather(frame["row"].to_list())
    assert (halves == frame["pool"]).all()
    judging = frame.filter(pl.col("pool") == "estimate")["row"].to_list()
    assert set(texts["split"].gather(judging)) == {"heldout"}
    assert "train" in set(texts["split"].gather(frame.filter(pl.col("pool") == "select")["row"].to_list()))
    assert (texts["text_id"].gather(frame["row"].to_list()) == frame["text_id"]).all()
    dense = np.asarray(codes.csr().todense())
    assert np.array_equal(dense[frame["row"], frame["latent"]], frame["activation"].to_numpy())
    assert frame["feature"][0] == "base.layer06/0"


def test_examples_frame_of_codes_that_never_fire_is_empty_with_its_columns() -> None:
    codes = SparseCodes(np.zeros((4, 1), np.int32), np.zeros((4, 1), np.float32), 3)
    frame = examples_frame(ID, codes, texts_frame(4))
    assert frame.height == 0 and frame["row"].dtype == pl.Int64


def test_features_frame_equals_dense_numpy() -> None:
    codes = random_codes(np.random.default_rng(2), 80, 12, 4, levels=9)
    texts = texts_frame(80)
    dense = np.asarray(codes.csr().todense(), dtype=np.float64)
    dense[:, 3] = 0  # a dead one
    codes = SparseCodes(codes.indices_nk, np.where(codes.indices_nk == 3, 0, codes.values_nk), 12)
    frame = features_frame(ID, codes, texts, config=FeatureConfig(live_texts=2))
    train = (texts["split"] == "train").to_numpy()
    cultural = contrast_rows(texts) & (texts["group"] == "cultural").to_numpy()
    assert np.array_equal(frame["live"], (dense[train] > 0).sum(0) >= 2)
    assert np.allclose(frame["firing_rate"], (dense > 0).mean(0))
    assert np.allclose(frame["firing_rate_train"], (dense[train] > 0).mean(0))
    assert np.allclose(frame["firing_rate_cultural"], (dense[cultural] > 0).mean(0))
    assert np.allclose(frame["max_active"].fill_null(0), dense.max(0))
    alive = [j for j in range(12) if j != 3]
    expected = [dense[dense[:, j] > 0, j].mean() for j in alive]
    assert np.allclose(frame["mean_active"].to_numpy()[alive], expected)
    assert frame["mean_active"][3] is None and frame["live"][3] is False


def test_rates_over_no_texts_are_null_and_trained_controls_stay_out() -> None:
    codes = random_codes(np.random.default_rng(3), 6, 4, 2)
    texts = texts_frame(6).with_columns(group=pl.lit("control"), split=pl.Series(["train"] * 3 + ["val"] * 3))
    assert contrast_rows(texts).tolist() == [False] * 3 + [True] * 3
    assert features_frame(ID, codes, texts)["firing_rate_cultural"].null_count() == 4


class Identity:
    """An encoder that keeps the two largest coordinates."""

    n_latents = 5

    def encode(self, acts_nd: np.ndarray) -> SparseCodes:
        top = np.argsort(-acts_nd, axis=1)[:, :2]
        return SparseCodes(top.astype(np.int32), np.take_along_axis(acts_nd, top, 1).clip(0).astype(np.float32), 5)


def test_encoding_in_batches_and_shards_give_the_same_codes_back(tmp_path) -> None:
    acts = np.random.default_rng(4).normal(size=(11, 5)).astype(np.float32)
    whole, batched = Identity().encode(acts), encode_site(Identity(), acts, batch=4)
    assert np.array_equal(whole.values_nk, batched.values_nk)
    chat = DictionaryId("delta:a", 6)
    for shard, rows in enumerate((slice(0, 7), slice(7, 11))):
        part = SparseCodes(whole.indices_nk[rows], whole.values_nk[rows], 5)
        write_codes_shard(codes_shard_path(tmp_path, chat, "delta:a", shard), part, "f")
    again = read_codes(tmp_path, chat, "delta:a", 5)
    assert np.array_equal(again.indices_nk, whole.indices_nk) and np.array_equal(again.values_nk, whole.values_nk)
    with pytest.raises(UserError, match="expected latents below 2"):
        read_codes(tmp_path, chat, "delta:a", 2)


def test_texts_with_unequal_numbers_of_latents_come_back_from_unequal_shards(tmp_path) -> None:
    rng = np.random.default_rng(3)
    dense = np.where(rng.random((40, 30)) < rng.random((40, 1)) ** 3, rng.random((40, 30)), 0).astype(np.float32)
    dense[5] = 0
    dictionary, kept = DictionaryId("base", 3, "batchtopk"), []
    for shard, rows in enumerate((slice(0, 25), slice(25, 39), slice(39, 40))):
        parts = [np.flatnonzero(row) for row in dense[rows]]
        parts = [part[np.argsort(-row[part])] for part, row in zip(parts, dense[rows], strict=True)]
        counts = np.array([len(part) for part in parts])
        values = np.concatenate([row[part] for part, row in zip(parts, dense[rows], strict=True)])
        codes = SparseCodes.of_flat(np.concatenate(parts), values, counts, 30)
        np.testing.assert_array_equal(codes.csr().toarray(), dense[rows])
        assert codes.indices_nk.shape == (len(parts), max(1, counts.max()))
        path = codes_shard_path(tmp_path, dictionary, "base", shard)
        write_codes_shard(path, codes, "f")
        kept.append(path.stat().st_size)
    again = read_codes(tmp_path, dictionary, "base", 30)
    np.testing.assert_array_equal(again.csr().toarray(), dense)
    assert (np.diff(again.values_nk, axis=1) <= 0).all()  # strongest first, zeros last
    np.testing.assert_array_equal(again.firing_counts(), (dense > 0).sum(0))
    fired = int((dense[:25] > 0).sum())
    assert kept[0] < 8 * fired + 4 * 25 + 500 < 8 * 25 * (dense[:25] > 0).sum(1).max()


def test_the_stronger_of_two_codes_is_the_elementwise_maximum() -> None:
    rng = np.random.default_rng(4)
    a, b = random_codes(rng, 30, 20, 5), random_codes(rng, 30, 20, 3)
    both = a.maximum(b)
    np.testing.assert_array_equal(both.csr().toarray(), np.maximum(a.csr().toarray(), b.csr().toarray()))
    nothing = a.rows(np.arange(0)).maximum(b.rows(np.arange(0)))
    assert len(nothing) == 0 and nothing.n_latents == 20


def test_nan_activations_are_a_user_error_that_names_the_row() -> None:
    acts = np.ones((3, 5), np.float32)
    acts[1, 2] = np.nan
    with pytest.raises(UserError, match="row 1"):
        encode_site(Identity(), acts)
