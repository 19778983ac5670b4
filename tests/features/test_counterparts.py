"""Counterparts of features: correlations and assignments against naive twins, planted permutations, honest nulls."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from scipy.stats import pearsonr

from antar.core.errors import UserError
from antar.core.sparse import SparseCodes
from antar.features import counterparts
from antar.features.counterparts import (
    Blocks,
    LiveLatents,
    Share,
    correlations,
    counterparts_frame,
    counterparts_sentence,
    find_counterparts,
    pooled,
    sample_documents,
    share_of,
)


def codes_of(dense_tn: np.ndarray) -> SparseCodes:
    """Rows of unequal length, as BatchTopK gives them."""
    text, latent = np.nonzero(dense_tn)
    counts = np.bincount(text, minlength=len(dense_tn))
    return SparseCodes.of_flat(latent, dense_tn[text, latent], counts, dense_tn.shape[1])


def latents_of(
    name: str, decoder_nd: np.ndarray, dense_tn: np.ndarray, live: np.ndarray | None = None
) -> LiveLatents:
    alive = np.ones(len(decoder_nd), bool) if live is None else live
    return LiveLatents.of(name, decoder_nd, codes_of(dense_tn), alive)


def some_codes(rng: np.random.Generator, texts: int, n: int, rate: float = 0.2) -> np.ndarray:
    return (rng.exponential(size=(texts, n)) * (rng.random((texts, n)) < rate)).astype(np.float32)


def blocks_of(texts: int, each: int = 1) -> Blocks:
    return Blocks(np.array([f"d{i // each:04d}" for i in range(texts)]), np.array(["en"] * texts))


@pytest.mark.parametrize("chunk", [3, 512])
@pytest.mark.parametrize("strata", [1, 3])
def test_correlations_equal_scipys_on_every_pair(chunk: int, strata: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counterparts, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    a, b = some_codes(rng, 80, 10), some_codes(rng, 80, 7)
    a[:, 3] = 0  # never fires
    b[:, 2] = 1.7  # fires on every text alike
    b[:, 5] = 2 * a[:, 6]
    stratum = np.array(["x", "y", "z"])[rng.integers(0, strata, 80)]
    a[stratum == "y"] += 2 * (a[stratum == "y"] > 0)
    b[:, 5] = 2 * a[:, 6]
    found = correlations(sparse.csr_array(a), sparse.csr_array(b), stratum if strata > 1 else None)
    assert found.shape == (10, 7) and found.dtype == np.float32
    for i in range(10):
        for j in range(7):
            x, y = (within(column.astype(float), stratum) for column in (a[:, i], b[:, j]))
            constant = np.ptp(x) < 1e-9 or np.ptp(y) < 1e-9
            assert found[i, j] == pytest.approx(0 if constant else pearsonr(x, y).statistic, abs=1e-6), (i, j)
    assert found[6, 5] == pytest.approx(1)


def within(column: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Less its mean in each stratum."""
    return column - sum(column[stratum == name].mean() * (stratum == name) for name in np.unique(stratum))


def test_the_pairs_have_the_largest_mean_of_cosine_and_correlation() -> None:
    """Against all permutations. With the bars out of the way every pair is kept, so the whole assignment is seen."""
    rng = np.random.default_rng(1)
    for _ in range(4):
        a_nd, b_nd, a_tn, b_tn = (rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), some_codes(rng, 40, 5, 0.5),
                                  some_codes(rng, 40, 5, 0.5))  # fmt: skip
        a, b = latents_of("base.layer01", a_nd, a_tn), latents_of("chat.layer01", b_nd, b_tn)
        score = np.array([[(cosine(x, y) + pearsonr(s, t).statistic) / 2 for y, t in zip(b_nd, b_tn.T, strict=True)]
                          for x, s in zip(a_nd, a_tn.T, strict=True)])  # fmt: skip
        best = max(permutations(range(5)), key=lambda chosen: sum(score[i, j] for i, j in enumerate(chosen)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counterparts, "_bars", lambda *_: (-2.0, -2.0))
            found = find_counterparts(a, b, blocks_of(40))
        assert found.place.tolist() == list(best)
        assert (found.cosine + found.correlation).sum() / 2 == pytest.approx(sum(score[i, best[i]] for i in range(5)))


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def planted(seed: int, shared: int = 30, n: int = 40, texts: int = 400):
    """b holds `shared` of the latents of a under other indices, with noise. Each side has a dead latent."""
    rng = np.random.default_rng(seed)
    a_nd, a_tn = rng.normal(size=(n, 24)), some_codes(rng, texts, n)
    b_nd, b_tn = rng.normal(size=(n + 6, 24)), some_codes(rng, texts, n + 6)
    of = rng.permutation(n + 6)[:n]
    b_nd[of[:shared]] = 3 * a_nd[:shared] + 0.3 * rng.normal(size=(shared, 24))
    b_tn[:, of[:shared]] = a_tn[:, :shared] * rng.uniform(0.8, 1.2, (texts, shared))
    live_a = np.arange(n) != 0
    live_b = np.arange(n + 6) != of[1]
    a = latents_of("base.layer01", a_nd, a_tn, live_a)
    b = latents_of("chat.layer01", b_nd, b_tn, live_b)
    return a, b, of


def test_planted_pairs_are_recovered_and_nothing_else_is_matched() -> None:
    for seed in range(5):
        a, b, of = planted(seed)
        found = find_counterparts(a, b, blocks_of(400, 2), seed)
        expected = [of[latent] if 1 < latent < 30 else -1 for latent in a.latents]  # 0 is dead in a, 1 in b
        assert np.where(found.matched, b.latents[found.place], -1).tolist() == expected
        assert found.cosine[found.matched].min() > 0.9 and np.isnan(found.cosine[~found.matched]).all()


@pytest.mark.parametrize("same", ["direction", "texts"])
def test_one_score_alone_is_no_match(same: str) -> None:
    """The direction comes back and fires on other texts; or the texts, under another direction."""
    a, b, _ = planted(0)
    rng = np.random.default_rng(9)
    if same == "direction":
        b = LiveLatents(b.name, b.latents, b.decoder_nd, b.codes_tn[rng.permutation(400)])
    else:
        b = LiveLatents(b.name, b.latents, rng.normal(size=b.decoder_nd.shape), b.codes_tn)
    assert find_counterparts(a, b, blocks_of(400)).matched.mean() < 0.05


def test_dictionaries_of_nothing_in_common_hardly_match() -> None:
    shares = []
    for seed in range(10):
        a, b, _ = planted(seed, shared=0)
        shares.append(find_counterparts(a, b, blocks_of(400), seed).matched.mean())
    assert np.mean(shares) < 0.01


def test_latents_that_only_know_a_language_are_no_counterparts_for_that() -> None:
    """All fire in Hindi alone, and in directions near each other; on which Hindi texts, and how much, is chance."""
    rng = np.random.default_rng(2)
    hindi = np.arange(600) % 2 == 1
    a_tn, b_tn = (some_codes(rng, 600, 20, 0.5) * hindi[:, None] for _ in range(2))
    near = rng.normal(size=24)
    a, b = (
        latents_of(name, near + 0.3 * rng.normal(size=(20, 24)), codes)
        for name, codes in (("base.layer01", a_tn), ("chat.layer01", b_tn))
    )
    strata = Blocks(blocks_of(600).document, np.where(hindi, "hi", "en"))
    assert find_counterparts(a, b, strata).matched.mean() < 0.1
    # The directions pass (all lie near one another), so without strata language alone would make pairs of them.
    assert find_counterparts(a, b, blocks_of(600)).matched.mean() > 0.5


@pytest.mark.parametrize("documents", [2, 3, 40])
def test_documents_are_permuted_whole_within_their_stratum_and_no_text_meets_its_own(documents: int) -> None:
    rng = np.random.default_rng(3)
    names = np.array([f"d{i}" for i in (rng.integers(0, 40, 300) if documents == 40 else np.arange(300) % documents)])
    stratum = np.array(["en", "hi"])[np.arange(300) // 150]
    blocks = Blocks(names, stratum)
    assert blocks.exchangeable.all()
    for seed in range(20):
        order = blocks.permuted(seed)
        assert sorted(order.tolist()) == list(range(300))
        assert (stratum[order] == stratum).all() and (names[order] != names).all()
        for language in ("en", "hi"):
            for name in set(names):
                place = np.argsort(order)[(names == name) & (stratum == language)]
                # One text after another lies on the next of the same document, or goes on with a new one.
                for here, there in pairwise(place):
                    rest = np.flatnonzero((names == names[here]) & (stratum == language) & (np.arange(300) > here))
                    first = np.flatnonzero((names == names[there]) & (stratum == language))[0]
                    assert there == (rest[0] if len(rest) else first)
    assert np.array_equal(blocks.permuted(1), blocks.permuted(1))
    assert documents == 2 or not np.array_equal(blocks.permuted(1), blocks.permuted(2))


def test_a_stratum_of_one_document_is_in_neither_the_correlation_nor_its_bar() -> None:
    """Nothing can take the place of its texts, so their true pairs would be the null that pairs must exceed."""
    a, b, _ = planted(0)
    en = np.arange(400) % 4 == 0
    documents = np.where(en, blocks_of(400).document, "the only one")
    both = Blocks(documents, np.where(en, "en", "hi"))
    found = find_counterparts(a, b, both, 1)
    rows = np.flatnonzero(en)
    alone = find_counterparts(a.of_texts(rows), b.of_texts(rows), both.of_texts(rows), 1)
    assert found.matched.sum() == 28 and found.correlation_bar == alone.correlation_bar < 0.7
    assert np.array_equal(found.place, alone.place) and np.array_equal(found.correlation, alone.correlation, True)
    assert share_of(1, "", a, b, found).texts == found.texts == 100
    with pytest.raises(ValueError, match="at most half of 300 texts"):
        both.permuted(1)
    nearly = Blocks(np.where(np.arange(400) % 8 == 1, "another", documents), both.stratum)
    assert np.array_equal(nearly.exchangeable, en), "five in six of one document: it cannot keep clear of itself"


def test_where_no_documents_can_be_exchanged_nothing_is_said() -> None:
    a, b, _ = planted(0)
    found = find_counterparts(a, b, Blocks(np.array(["d"] * 400), np.array(["en"] * 400)))
    assert not found.matched.any()
    none = share_of(1, "", a, b, found)
    assert (none.texts, none.correlation_bar) == (0, None) and counterparts_sentence([none]) is None


def test_sampled_documents_are_whole_and_within_the_limit() -> None:
    rng = np.random.default_rng(4)
    documents = np.array([f"d{i}" for i in rng.integers(0, 60, 500)])
    rows = np.flatnonzero(rng.random(500) < 0.8)
    kept = sample_documents(documents, rows, 150, 1)
    assert 100 < len(kept) <= 150 and np.isin(kept, rows).all() and (np.diff(kept) > 0).all()
    taken = set(documents[kept])
    assert np.array_equal(kept, rows[np.isin(documents[rows], list(taken))])
    assert np.array_equal(sample_documents(documents, rows, 500, 1), rows)


def test_every_live_latent_has_a_row_and_the_shares_add_up() -> None:
    a, b, of = planted(0)
    found = find_counterparts(a, b, blocks_of(400))
    frame = counterparts_frame(1, "", a, b, found)
    assert frame.schema == pl.Schema(counterparts.SCHEMA)
    assert frame["latent_a"].to_list() == a.latents.tolist()
    unmatched = frame.filter(~pl.col("matched"))
    assert (
        unmatched.height == 11
        and unmatched.select("latent_b", "cosine", "correlation").null_count().sum_horizontal().item() == 33
    )
    assert frame.filter("matched").null_count().sum_horizontal().item() == 0
    assert frame.filter("matched")["latent_b"].to_list() == of[2:30].tolist()
    share = share_of(1, "", a, b, found)
    assert (share.live_a, share.live_b, share.matched, share.texts) == (39, 45, 28, 400)
    assert share.cosine == pytest.approx(frame["cosine"].mean())


def test_nothing_alive_is_nothing_matched_and_other_texts_are_a_user_error() -> None:
    a, b, _ = planted(0)
    dead = LiveLatents(b.name, b.latents[:0], b.decoder_nd[:0], b.codes_tn[:, :0])
    for left, right in ((a, dead), (dead, a)):
        found = find_counterparts(left, right, blocks_of(400))
        assert not found.matched.any() and len(found.place) == len(left.latents)
        assert share_of(1, "", left, right, found).cosine_bar is None
        assert counterparts_frame(1, "", left, right, found).height == len(left.latents)
    with pytest.raises(UserError, match="codes of the same texts"):
        find_counterparts(a, b, blocks_of(399))
    narrow = LiveLatents(b.name, b.latents, b.decoder_nd[:, :5], b.codes_tn)
    with pytest.raises(UserError, match="one width"):
        find_counterparts(a, narrow, blocks_of(400))


def share(null: str, matched: int, live: int, cosine: float | None) -> Share:
    return Share(
        1,
        null,
        "base.layer01",
        "base.layer01.seed1" if null else "chat.layer01",
        live,
        live,
        matched,
        cosine,
        0.5,
        0.3,
        0.3,
        400,
    )


def test_the_sentence_has_both_shares() -> None:
    shares = [share("", 30, 100, 0.9), share("", 10, 100, 0.5), share("other_seed", 50, 100, 0.7)]
    assert pooled(shares).share == 0.2 and pooled(shares).cosine == pytest.approx(0.8)
    assert counterparts_sentence(shares, "SmolLM2", "its fine-tune") == (
        "20% of SmolLM2's features have a counterpart in its fine-tune's dictionary (mean cosine 0.80); another seed "
        "of SmolLM2's own gives 50% (mean cosine 0.70)."
    )
    other = Share(1, "other_seed", "base.layer01", "base.layer01.seed2", 100, 100, 40, 0.7, 0.5, 0.3, 0.3, 400)
    assert counterparts_sentence(
        [
            *shares[:2],
            replace(other, dictionary_b="base.layer01.seed1", matched=50),
            other,
            replace(other, layer=2, matched=44),
        ]
    ) == (
        "20% of base's features have a counterpart in chat's dictionary (mean cosine 0.80); 2 other seeds of base's "
        "own give 45% on average, from 42% to 50% (mean cosine 0.70)."
    )
    null = "50% of base's features have a counterpart in another seed of base's own dictionary (mean cosine 0.70)."
    assert counterparts_sentence([shares[2]]) == null
    assert "was not measured" in counterparts_sentence(shares[:2])  # type: ignore[operator]
    assert counterparts_sentence([share("", 0, 4, None)]).startswith("0% of base's")  # type: ignore[union-attr]
