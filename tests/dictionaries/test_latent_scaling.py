"""Latent scaling against least squares of each latent, and on pairs of known shared and private directions."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest
import torch

from antar.core.errors import UserError
from antar.dictionaries import Crosscoder, TopK, latent_scaling, preset, scaling_summary, train_dictionary
from antar.dictionaries.kinds import Dictionary
from antar.dictionaries.weights import Weights, unit_rows_

module = sys.modules["antar.dictionaries.latent_scaling"]  # the package gives the function of that name
D, N, ROWS = 6, 14, 90


def crosscoder(seed: int = 0) -> Crosscoder:
    generator = torch.Generator().manual_seed(seed)
    rows_nd = unit_rows_(torch.randn(N, 2 * D, generator=generator))
    encoder_nd = rows_nd + 0.2 * torch.randn(N, 2 * D, generator=generator)
    encoder_nd[N - 1] = 0  # a latent that never fires
    bias_n = torch.full((N,), -0.2)
    weights = Weights(encoder_nd, bias_n, rows_nd, 3 + torch.randn(2 * D, generator=generator))
    return Crosscoder(weights, 4, threshold_n=0.1 + torch.rand(N, generator=generator))


def pair(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base_nd = 3 + 2 * rng.standard_normal((ROWS, D))
    return base_nd.astype(np.float32), (base_nd + rng.standard_normal((ROWS, D))).astype(np.float32)


def least_squares(f_n: np.ndarray, direction_d: np.ndarray, y_nd: np.ndarray) -> float:
    """β of min Σ ‖β f d − y‖² by numpy's solver on the stacked system."""
    design = np.outer(f_n, direction_d).reshape(-1, 1)
    return float(np.linalg.lstsq(design, y_nd.reshape(-1), rcond=None)[0][0])


def naive(dictionary: Dictionary, base_nd: np.ndarray, chat_nd: np.ndarray, latent: int, who: np.ndarray,
          decoders: dict[str, np.ndarray]) -> dict[str, float]:  # fmt: skip
    """The betas of one latent: with `who` as its direction, everything else taken from dense codes."""
    x = {"base": base_nd.astype(np.float64), "chat": chat_nd.astype(np.float64)}
    bias_d = dictionary.tensors()["b_dec"].numpy().astype(np.float64)
    if isinstance(dictionary, Crosscoder):
        codes = dictionary.encode(np.concatenate([base_nd, chat_nd], axis=1)).csr().toarray()
        own, bias = {"base": codes, "chat": codes}, {"base": bias_d[:D], "chat": bias_d[D:]}
    else:
        own = {side: dictionary.encode(x[side].astype(np.float32)).csr().toarray() for side in x}
        bias = dict.fromkeys(x, bias_d)
    found = {}
    for side in x:
        without_bias = own[side].astype(np.float64) @ decoders[side]
        f_n = own["chat"][:, latent]
        error = x[side] - without_bias - bias[side]
        put_back = error + np.outer(own[side][:, latent], decoders[side][latent])
        found[f"beta_eps_{side}"] = least_squares(f_n, who, put_back)
        found[f"beta_r_{side}"] = least_squares(f_n, who, without_bias)
    return found


@pytest.mark.parametrize("batch", [2048, 17])
def test_one_pass_equals_least_squares_of_every_latent(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", batch)
    dictionary, (base_nd, chat_nd) = crosscoder(), pair()
    table = latent_scaling(dictionary, base_nd, chat_nd, seed=5)
    decoders = {"base": dictionary.decoder_base_nd, "chat": dictionary.decoder_chat_nd}
    random_nd = module._random_directions(dictionary.decoder_chat_nd, 5)
    np.testing.assert_allclose(np.linalg.norm(random_nd, axis=1), np.linalg.norm(decoders["chat"], axis=1), rtol=1e-5)
    fired = dictionary.encode(np.concatenate([base_nd, chat_nd], axis=1)).firing_counts()
    assert table["fires"].to_list() == fired.tolist() and fired[N - 1] == 0 and (fired > 0).sum() >= 10
    for latent in np.flatnonzero(fired):
        row = table.row(int(latent), named=True)
        for prefix, direction in (("", decoders["chat"]), ("null_", random_nd), ("mirror_", decoders["base"])):
            expected = naive(dictionary, base_nd, chat_nd, latent, direction[latent], decoders)
            for name, value in expected.items():
                assert row[prefix + name] == pytest.approx(value, rel=1e-4, abs=1e-5), (latent, prefix + name)
            for target in ("eps", "r"):
                over, under = ("chat", "base") if prefix == "mirror_" else ("base", "chat")
                ratio = row[f"{prefix}beta_{target}_{over}"] / row[f"{prefix}beta_{target}_{under}"]
                assert row[f"{prefix}nu_{target}"] == pytest.approx(ratio, rel=1e-9)
    never = table.row(N - 1, named=True)
    assert never["nu_eps"] is None and never["beta_r_base"] is None and never["norm_difference"] is not None


def test_any_dictionary_that_encodes_both_sides_is_scaled() -> None:
    wide = crosscoder(3)
    rows_nd = unit_rows_(wide.weights.decoder_nd[:, :D].clone())
    dictionary = TopK(Weights(rows_nd + 0.1, torch.full((N,), -0.1), rows_nd, torch.full((D,), 2.5)), 4)
    base_nd, chat_nd = pair(2)
    table = latent_scaling(dictionary, base_nd, chat_nd, seed=0)
    decoders = dict.fromkeys(("base", "chat"), dictionary.decoder_nd)
    for latent in table.filter(pl.col("fires") > 0)["latent"].to_list():
        expected = naive(dictionary, base_nd, chat_nd, latent, dictionary.decoder_nd[latent], decoders)
        for name, value in expected.items():
            assert table[name][latent] == pytest.approx(value, rel=1e-4, abs=1e-5), (latent, name)
    assert table["norm_difference"].null_count() == table["mirror_nu_r"].null_count() == N
    with pytest.raises(UserError, match=r"of one shape, found \[90, 6\] and \[80, 6\]"):
        latent_scaling(dictionary, base_nd, chat_nd[:80], seed=0)


# --- what it is for --------------------------------------------------------------------------------------------

SHARED, ONLY = 24, 8
WIDTH = 48


def known_pair(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base and chat rows of 24 shared directions, 8 that only base has and 8 that only chat has; the directions."""
    rng = np.random.default_rng(8)
    m = SHARED + 2 * ONLY
    truth_md = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0][:m]
    z_nm = (rng.random((rows, m)) < 0.08) * (0.6 + rng.random((rows, m)))
    on_base, on_chat = np.ones(m), np.ones(m)
    on_chat[SHARED : SHARED + ONLY] = 0
    on_base[SHARED + ONLY :] = 0
    noise = 0.02 * rng.standard_normal((2, rows, WIDTH))
    base_nd, chat_nd = (z_nm * on_base) @ truth_md + noise[0] + 2, (z_nm * on_chat) @ truth_md + noise[1] + 2
    return base_nd.astype(np.float32), chat_nd.astype(np.float32), truth_md


@pytest.fixture(scope="module")
def known() -> tuple[pl.DataFrame, np.ndarray, Crosscoder]:
    """The scaling table of a trained crosscoder, and for each latent which kind of direction it found."""
    base_nd, chat_nd, truth_md = known_pair(4000)
    wide_nd = np.concatenate([base_nd, chat_nd], axis=1)
    cfg = preset("antar", n_latents=64, k=3, k_aux=16, lr=5e-3, batch=128, max_epochs=20, check_every_epochs=5,
                 threads=1, device="cpu")  # fmt: skip
    found = train_dictionary(wide_nd[500:], wide_nd[:500], cfg, seed=2, checkpoint=None, title="t", kind="crosscoder")
    dictionary = found.dictionary
    assert isinstance(dictionary, Crosscoder)
    wide_truth = np.concatenate([truth_md, truth_md], axis=1)
    wide_truth[SHARED : SHARED + ONLY, WIDTH:] = 0
    wide_truth[SHARED + ONLY :, :WIDTH] = 0
    wide_truth /= np.linalg.norm(wide_truth, axis=1, keepdims=True)
    cosine_nm = dictionary.decoder_nd @ wide_truth.T
    best_n = cosine_nm.argmax(axis=1)
    what_n = np.array(["shared"] * SHARED + ["base"] * ONLY + ["chat"] * ONLY)[best_n]
    what_n[cosine_nm.max(axis=1) < 0.9] = "none"
    table = latent_scaling(dictionary, base_nd[500:], chat_nd[500:], seed=3)
    for kind, least in (("shared", SHARED * 0.8), ("base", ONLY * 0.8), ("chat", ONLY * 0.8)):
        assert len(np.unique(best_n[what_n == kind])) >= least, f"too few {kind} directions were found"
    return table, what_n, dictionary


def values(known: tuple[pl.DataFrame, np.ndarray, Crosscoder], column: str, kind: str) -> np.ndarray:
    table, what_n, _ = known
    return table.filter(pl.Series(what_n == kind))[column].drop_nulls().to_numpy()


def test_norm_difference_and_ratios_tell_shared_and_private_directions_apart(known) -> None:
    assert values(known, "norm_difference", "base").max() < 0.2
    assert values(known, "norm_difference", "chat").min() > 0.8
    shared = values(known, "norm_difference", "shared")
    assert shared.min() > 0.4 and shared.max() < 0.6
    for target in ("eps", "r"):
        assert np.abs(values(known, f"nu_{target}", "chat")).max() < 0.3
        assert np.abs(values(known, f"mirror_nu_{target}", "base")).max() < 0.3
        for name in (f"nu_{target}", f"mirror_nu_{target}"):
            shared = values(known, name, "shared")
            assert shared.min() > 0.7 and shared.max() < 1.4
    summary = scaling_summary(known[0])
    assert summary["chat_only"] == summary["chat_only_confirmed"] >= 6
    assert summary["base_only"] == summary["base_only_confirmed"] >= 6
    assert summary["median_nu_eps"] == pytest.approx(1, abs=0.3)


def test_random_directions_find_nothing_and_tell_nothing_apart(known) -> None:
    """Where the real β on base separates chat-only from shared latents without an overlap, the null's does not."""
    for target in ("eps", "r"):
        real = {kind: values(known, f"beta_{target}_base", kind) for kind in ("shared", "chat")}
        null = {kind: values(known, f"null_beta_{target}_base", kind) for kind in ("shared", "chat")}
        assert np.abs(real["chat"]).max() < 0.3 < 0.6 < real["shared"].min()
        for kind in null:
            assert abs(np.median(null[kind])) < 0.25 and np.abs(null[kind]).max() < 0.6 < real["shared"].min()
        assert null["shared"].min() < null["chat"].max() and null["chat"].min() < null["shared"].max()
    assert 0 < scaling_summary(known[0])["null_beta_95"] < 0.6


def test_complete_shrinkage_is_seen_where_the_norms_alone_are_deceived(known) -> None:
    """Base's decoder of shared latents set to nothing: by norms they are chat-only, by ν^ε they are not."""
    _, what_n, dictionary = known
    shared = np.flatnonzero(what_n == "shared")
    decoder_nd = dictionary.weights.decoder_nd.clone()
    decoder_nd[shared[:, None], np.arange(WIDTH)] = 0
    shrunk = Crosscoder(
        Weights(*dictionary.weights.tensors()[:2], decoder_nd, dictionary.weights.decoder_bias_d),
        dictionary.k,
        threshold_n=dictionary.threshold_n,
    )
    base_nd, chat_nd, _ = known_pair(4000)
    table = latent_scaling(shrunk, base_nd, chat_nd, seed=3)
    assert (table["norm_difference"].to_numpy()[shared] == 1.0).all()
    assert (table["nu_eps"].to_numpy()[shared] > 0.7).all()
    chat = np.flatnonzero((what_n == "chat") & table["nu_eps"].is_not_null().to_numpy())
    assert len(chat) >= 6  # one that never fires on these rows has no ν
    assert (np.abs(table["nu_eps"].to_numpy()[chat]) < 0.3).all()
    summary = scaling_summary(table)
    assert summary["chat_only"] >= len(shared) + len(chat) > summary["chat_only_confirmed"] == len(chat)
