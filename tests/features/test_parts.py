"""Codes read part by part, and latents measured block by block: the same numbers as from memory at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, StoredCodes, examples, gather, measure_contrasts
from antar.features.codes import StrongerCodes, codes_shard_path, some_rows, write_codes_shard
from antar.features.examples import examples_frame, top_examples
from antar.features.facts import features_frame
from antar.features.token_codes import encode_texts, pool_codes

N, LATENTS = 240, 9
BASE, DELTA = DictionaryId("base", 2), DictionaryId("delta", 2)


@dataclass(frozen=True)
class Cut:
    """Codes in memory, given in parts."""

    codes: SparseCodes
    cuts: tuple[int, ...] = (1, 90, 91, 200)

    @property
    def n_latents(self) -> int:
        return self.codes.n_latents

    def __len__(self) -> int:
        return len(self.codes)

    def parts(self) -> Iterator[tuple[int, SparseCodes]]:
        edges = [0, *self.cuts, len(self.codes)]
        for lo, hi in itertools.pairwise(edges):
            yield lo, self.codes.rows(np.arange(lo, hi))


def codes_of(dense: np.ndarray) -> SparseCodes:
    text, latent = np.nonzero(dense)
    return SparseCodes.of_flat(latent, dense[text, latent], (dense > 0).sum(axis=1), dense.shape[1])


def random_dense(seed: int, n: int = N, latents: int = LATENTS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ((rng.random((n, latents)) < 0.35) * rng.integers(1, 6, (n, latents)) / 2).astype(np.float32)


def make_texts() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    cultural = rng.random(N) < 0.6
    return pl.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(N)],
            "characters": rng.integers(20, 60, N),
            "group": np.where(cultural, "cultural", "control"),
            "language": rng.choice(["en", "hi"], N),
            "document": [f"d{i // 2}-{int(c)}" for i, c in enumerate(cultural)],
            "split": rng.choice(["train", "heldout"], N, p=[0.3, 0.7]),
            "half": np.where(rng.random(N) < 0.5, "estimate", "select"),
            "state": pl.Series(np.where(cultural, rng.choice(list("abc"), N), None).tolist(), dtype=pl.String),
        }
    )


@pytest.fixture(params=["compiled", "numpy"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled":
        pytest.importorskip("numba")
    monkeypatch.setattr(examples, "have_numba", lambda: request.param == "compiled")


@pytest.mark.parametrize("rows", [None, np.arange(80, 215, 3), np.arange(91, 200), np.arange(0)])
def test_top_examples_over_parts(path: None, rows: np.ndarray | None) -> None:
    codes = codes_of(random_dense(1))
    for whole, parts in zip(top_examples(codes, 6, rows), top_examples(Cut(codes), 6, rows), strict=True):
        np.testing.assert_array_equal(whole, parts)


def test_tables_over_parts() -> None:
    codes, texts = codes_of(random_dense(2)), make_texts()
    assert examples_frame(BASE, codes, texts, 4).equals(examples_frame(BASE, Cut(codes), texts, 4))
    trained = np.arange(0, N, 4)
    assert features_frame(BASE, codes, texts, trained).equals(features_frame(BASE, Cut(codes), texts, trained))


@pytest.mark.parametrize("at_once", [1, 150, 10**9])
def test_contrasts_over_parts_and_in_blocks_of_latents(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every contrast, with all its nulls and p-values, to the last bit."""
    texts = make_texts()
    dense = {(BASE, "base"): 3, (BASE, "chat"): 4, (DELTA, "delta"): 5}
    codes = {key: codes_of(random_dense(seed)) for key, seed in dense.items()}
    config = ContrastConfig(facets=("state",), permutations=60, facet_permutations=30)
    whole = measure_contrasts(texts, codes, config, seed=1)
    assert set(whole["contrast"]) == {"shift", "culture", "interaction", "facet"}
    monkeypatch.setattr(gather, "ENTRIES_AT_ONCE", at_once)
    cut = {key: Cut(one) for key, one in codes.items()}
    assert whole.equals(measure_contrasts(texts, cut, config, seed=1))
    live = {key[0]: np.arange(LATENTS) % 2 == 0 for key in codes}
    some = measure_contrasts(texts, cut, config, seed=1, live=live)
    assert set(some["latent"]) == set(range(0, LATENTS, 2))
    monkeypatch.setattr(gather, "ENTRIES_AT_ONCE", 10**9)
    assert some.equals(measure_contrasts(texts, codes, config, seed=1, live=live))


def test_blocks_of_latents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    firing_n = np.array([5, 0, 3, 4, 90, 1, 1, 1, 7])
    latents = np.array([0, 2, 3, 4, 5, 6, 7, 8])
    monkeypatch.setattr(gather, "ENTRIES_AT_ONCE", 10)
    blocks = [one.tolist() for one in gather.latent_blocks(latents, firing_n)]
    assert blocks == [[0, 2], [3], [4], [5, 6, 7, 8]]


def write(folder: Path, side: str, dense: np.ndarray, per_shard: int = 50) -> StoredCodes:
    for shard, lo in enumerate(range(0, len(dense), per_shard)):
        path = codes_shard_path(folder, BASE, side, shard)
        write_codes_shard(path, codes_of(dense[lo : lo + per_shard]), "f")
    return StoredCodes(folder, BASE, side, LATENTS, len(dense))


def test_stored_codes_give_their_shards(tmp_path: Path) -> None:
    dense = random_dense(6)
    stored = write(tmp_path, "base", dense)
    assert len(stored) == N and [first for first, _ in stored.parts()] == [0, 50, 100, 150, 200]
    found = np.concatenate([part.csr().toarray() for _, part in stored.parts()])
    np.testing.assert_array_equal(found, dense)
    rows = np.array([0, 49, 50, 120, 239])
    np.testing.assert_array_equal(some_rows(stored, rows).csr().toarray(), dense[rows])
    other = random_dense(7)
    stronger = StrongerCodes(stored, write(tmp_path, "chat", other))
    found = np.concatenate([part.csr().toarray() for _, part in stronger.parts()])
    np.testing.assert_array_equal(found, np.maximum(dense, other))
    assert len(stronger) == N and stronger.n_latents == LATENTS


def test_stored_codes_that_are_not_those_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "base", random_dense(6))
    with pytest.raises(UserError, match="expected 241 texts, found 240; encode this side again"):
        list(StoredCodes(tmp_path, BASE, "base", LATENTS, N + 1).parts())
    with pytest.raises(UserError, match="expected latents below 3"):
        list(StoredCodes(tmp_path, BASE, "base", 3, N).parts())
    with pytest.raises(UserError, match="expected shards, found none"):
        list(StoredCodes(tmp_path, BASE, "chat", LATENTS, N).parts())


def test_a_bad_value_is_named_by_its_text_in_the_corpus() -> None:
    dense = random_dense(8)
    codes = codes_of(dense)
    codes.values_nk[203, 0] = np.inf
    with pytest.raises(UserError, match="found inf in text 203"):
        measure_contrasts(
            make_texts(), {(DELTA, "delta"): Cut(codes)}, ContrastConfig(shift=False, interaction=False)
        )


class Largest:
    """An encoder that keeps the three largest coordinates of a row, as k = 3 latents."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def encode(self, acts_nd: np.ndarray) -> SparseCodes:
        self.rows.append(len(acts_nd))
        top = np.argsort(-acts_nd, axis=1)[:, :3]
        values = np.take_along_axis(acts_nd, top, axis=1).clip(0).astype(np.float32)
        return SparseCodes(top.astype(np.int32), values, acts_nd.shape[1])


def texts_of_tokens(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((t, LATENTS)).astype(np.float32) for t in rng.integers(1, 9, 20)]


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("at_once", [1, 20, 10**6])
def test_codes_of_texts_are_those_of_their_tokens_pooled(
    pooling: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antar.features.token_codes.ENTRIES", at_once)
    texts, encoder = texts_of_tokens(), Largest()
    blocks = [
        (np.concatenate([[0], np.cumsum([len(one) for one in its])]), np.concatenate(its))
        for its in (texts[:7], texts[7:8], texts[8:])
    ]
    found = encode_texts(encoder, blocks, pooling, k=3)  # pyright: ignore[reportArgumentType]
    pool = np.mean if pooling == "mean" else np.max
    naive = np.stack([pool(Largest().encode(one).csr().toarray().astype(np.float64), axis=0) for one in texts])
    np.testing.assert_allclose(found.csr().toarray(), naive, rtol=1e-6)
    assert (np.diff(found.values_nk, axis=1) <= 0).all()  # strongest first, as a dictionary gives them
    assert max(encoder.rows) <= max(at_once // 3, *(len(one) for one in texts))


def test_a_mean_code_decodes_to_the_mean_reconstruction() -> None:
    """What docs/method.md says of `mean`."""
    decoder_nd = np.random.default_rng(1).standard_normal((LATENTS, 4))
    texts = texts_of_tokens(2)
    tokens = Largest().encode(np.concatenate(texts))
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in texts])])
    pooled = pool_codes(tokens, offsets, "mean").csr() @ decoder_nd
    rows = tokens.csr() @ decoder_nd
    means = np.stack([rows[lo:hi].mean(axis=0) for lo, hi in itertools.pairwise(offsets)])
    np.testing.assert_allclose(pooled, means, rtol=1e-5, atol=1e-6)


def test_texts_that_fire_nothing_have_empty_codes() -> None:
    tokens = SparseCodes(np.zeros((5, 2), np.int32), np.zeros((5, 2), np.float32), LATENTS)
    found = pool_codes(tokens, np.array([0, 2, 5]), "mean")
    assert len(found) == 2 and found.csr().nnz == 0
