"""BatchTopK, crosscoder, PCA and random: gradients, thresholds, folding, files, and what training gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from antar.core.errors import UserError
from antar.dictionaries import (
    BatchTopK,
    Crosscoder,
    DictionaryConfig,
    TopK,
    evaluate,
    load_dictionary,
    preset,
    remove_checkpoint,
    train_dictionary,
)
from antar.dictionaries import trainer as trainer_module
from antar.dictionaries.auxk import AuxK
from antar.dictionaries.batchtopk import (
    THRESHOLD_BATCHES,
    keep_above,
    select_by_batch,
    smallest_selected,
)
from antar.dictionaries.crosscoder import CrosscoderLearner, norm_difference
from antar.dictionaries.data import epoch_batches, fit_scaling
from antar.dictionaries.kinds import LEARNERS
from antar.dictionaries.loss import forward, gradients, pre_activations
from antar.dictionaries.weights import Weights, initial_weights, unit_rows_

D, N, K, B = 7, 24, 4, 11
DEAD = [1, 5, 6, 13, 20, 23]
TRAINED = ("topk", "batchtopk", "crosscoder")


# --- gradients -------------------------------------------------------------------------------------------------


def weights(seed: int, d: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    bias_n = 0.3 * normal(N)
    bias_n[DEAD] -= 1.5
    return Weights(normal(N, d), bias_n, unit_rows_(normal(N, d)), 0.2 * normal(d))


def naive(w: Weights, x_bd: Tensor, aux: AuxK | None) -> tuple[Weights, float]:
    """The loss as the papers write it: dense codes of the batch, a mask of its B·k largest, autograd."""
    leaves = w.map(lambda tensor: tensor.detach().clone().requires_grad_())
    pre_bn = (x_bd - leaves.decoder_bias_d) @ leaves.encoder_nd.T + leaves.encoder_bias_n
    places = sorted(((pre_bn[b, j].item(), b, j) for b in range(len(x_bd)) for j in range(N)), reverse=True)
    mask_bn = torch.zeros_like(pre_bn)
    for _, b, j in places[: len(x_bd) * K]:
        mask_bn[b, j] = 1.0
    x_hat_bd = (pre_bn.relu() * mask_bn) @ leaves.decoder_nd + leaves.decoder_bias_d
    loss = (x_bd - x_hat_bd).square().mean()
    if aux is not None:
        e_bd = (x_bd - x_hat_bd).detach()
        e_hat_bd = torch.zeros_like(e_bd)
        for b in range(len(x_bd)):
            chosen = sorted(aux.dead_m.tolist(), key=lambda j: -pre_bn[b, j].item())[: aux.k_aux]
            e_hat_bd = e_hat_bd + torch.zeros_like(e_bd).index_put(
                (torch.tensor(b),), sum(pre_bn[b, j].relu() * leaves.decoder_nd[j] for j in chosen)
            )
        left = (e_bd - e_hat_bd).square()
        loss = loss + aux.coefficient * (left.sum() / e_bd.square().sum() if aux.normalised else left.mean())
    loss.backward()
    grads = leaves.map(lambda tensor: tensor.grad if tensor.grad is not None else torch.zeros_like(tensor))
    return grads, float((x_bd - x_hat_bd).detach().square().mean())


@pytest.mark.parametrize("kind", ["batchtopk", "crosscoder"])
@pytest.mark.parametrize("normalised", [None, False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_gradients_equal_autograd_on_the_naive_twin(kind: str, normalised: bool | None, seed: int) -> None:
    d = 2 * D if kind == "crosscoder" else D
    w = weights(seed, d)
    x_bd = torch.randn(B, d, generator=torch.Generator().manual_seed(seed + 10), dtype=torch.float64)
    x_bd[3] *= 4  # a rich text takes more than its share
    x_bd[5] *= 0.01
    aux = None
    if normalised is not None:
        aux = AuxK(torch.tensor(DEAD), torch.ones(len(DEAD), dtype=torch.bool), 3, 0.7, normalised)
    step = gradients(w, x_bd, K, aux, LEARNERS[kind].select)
    expected, mse = naive(w, x_bd, aux)
    for name, mine, theirs in zip(Weights.__annotations__, step.gradients.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    assert float(step.mse) == pytest.approx(mse)
    if aux is not None:
        assert float(step.gradients.encoder_nd[DEAD].abs().sum()) > 0


def test_the_batch_shares_its_budget_and_an_empty_text_stands() -> None:
    pre_bn = torch.randn(9, N, generator=torch.Generator().manual_seed(0))
    pre_bn[2] -= 50  # nothing of this text is among the largest
    pre_bn[4] += 50  # everything of this one is
    entries = select_by_batch(pre_bn, K)
    chosen = set(zip(entries.texts_e.tolist(), entries.indices_bk.reshape(-1).tolist(), strict=True))
    largest = pre_bn.reshape(-1).sort(descending=True).indices[: 9 * K].tolist()
    assert chosen == {divmod(place, N) for place in largest} and len(chosen) == 9 * K
    assert sum(text == 4 for text, _ in chosen) == N and not any(text == 2 for text, _ in chosen)
    decoder_nd = torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    dense_bn = torch.zeros_like(pre_bn)
    for text, latent in chosen:
        dense_bn[text, latent] = pre_bn[text, latent].relu()
    torch.testing.assert_close(entries.decode(decoder_nd), dense_bn @ decoder_nd)
    assert not entries.decode(decoder_nd)[2].any()
    assert torch.equal(entries.of_dense(pre_bn).relu(), entries.values_bk)


def test_more_room_than_positive_pre_activations_selects_no_negative_value() -> None:
    pre_bn = -torch.rand(5, N)
    pre_bn[1, 3] = 2.0
    entries = select_by_batch(pre_bn, K)
    assert entries.values_bk.sum() == 2.0 and (entries.values_bk >= 0).all()


# --- threshold -------------------------------------------------------------------------------------------------


def test_threshold_is_the_mean_over_batches_of_the_smallest_selected_value() -> None:
    w = weights(3, D)
    batches = [torch.randn(B, D, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in range(5)]
    smallest: list[float] = []
    for x_bd in batches:
        pre = sorted((float(v) for v in pre_activations(w, x_bd)[1].reshape(-1)), reverse=True)
        smallest.append(min(v for v in pre[: B * K] if v > 0))
    assert smallest_selected(w, batches, K) == pytest.approx(np.mean(smallest), rel=1e-12)
    nothing = w.clone()
    nothing.encoder_nd.zero_()
    nothing.encoder_bias_n.fill_(-1.0)
    assert smallest_selected(nothing, batches, K) == 0.0


def test_above_a_threshold_equals_the_naive_twin() -> None:
    pre_bn = torch.randn(30, N, generator=torch.Generator().manual_seed(4))
    pre_bn[7] = -1
    threshold_n = torch.rand(N, generator=torch.Generator().manual_seed(5))
    indices_bm, values_bm = keep_above(pre_bn, threshold_n)
    for row in range(30):
        expected = {j: float(pre_bn[row, j]) for j in range(N) if pre_bn[row, j] > threshold_n[j]}
        found = dict(zip(indices_bm[row].tolist(), values_bm[row].tolist(), strict=True))
        assert {j: v for j, v in found.items() if v > 0} == expected
    assert (values_bm.diff(dim=1) <= 0).all()
    assert values_bm.shape[1] == int((pre_bn > threshold_n).sum(1).max())
    assert keep_above(-torch.rand(3, N), 0.0)[1].shape == (3, 1)


# --- training --------------------------------------------------------------------------------------------------


def planted(rows: int, seed: int = 0) -> np.ndarray:
    """Wide rows `[rows, 48]`: two sides of 24, sums of shared directions, far from zero and of unlike scale."""
    rng = np.random.default_rng(seed)
    directions_md = np.random.default_rng(99).standard_normal((40, 24))
    directions_md /= np.linalg.norm(directions_md, axis=1, keepdims=True)
    strength_nm = (rng.random((rows, 40)) < 0.07) * (0.5 + rng.random((rows, 40)))
    base_nd = strength_nm @ directions_md + 0.02 * rng.standard_normal((rows, 24))
    chat_nd = 5 * (strength_nm @ directions_md) + 0.1 * rng.standard_normal((rows, 24))
    return np.concatenate([base_nd + 3, chat_nd - 8], axis=1).astype(np.float32)


def rows_of(kind: str, rows: int, seed: int = 0) -> np.ndarray:
    wide_nd = planted(rows, seed)
    return wide_nd if kind == "crosscoder" else np.ascontiguousarray(wide_nd[:, 24:])


def small(**overrides: Any) -> DictionaryConfig:
    fields = {"n_latents": 64, "k": 4, "k_aux": 16, "lr": 5e-3, "batch": 64, "max_epochs": 12,
              "check_every_epochs": 3, "threads": 1, "device": "cpu"}  # fmt: skip
    return preset("antar", **{**fields, **overrides})


def train(kind: str, checkpoint: Path | None = None, rows: int = 1200, **overrides: Any) -> Any:
    acts_nd = rows_of(kind, rows)
    return train_dictionary(acts_nd[200:], acts_nd[:200], small(**overrides), seed=1, checkpoint=checkpoint,
                            title="test", kind=kind)  # fmt: skip


@pytest.mark.parametrize("kind", [*TRAINED, "pca", "random", "neurons"])
def test_raw_in_raw_out_after_save_and_load(kind: str, tmp_path: Path) -> None:
    """PITFALLS: normalisation forgotten on load. And validation is what a user of the files gets."""
    found, acts_nd = train(kind), rows_of(kind, 1200)
    found.dictionary.save(tmp_path / "x")
    loaded = load_dictionary(tmp_path / "x")
    assert loaded.kind == found.dictionary.kind == kind and type(loaded) is type(found.dictionary)
    assert (loaded.d_model, loaded.n_latents, loaded.k) == (acts_nd.shape[1], found.facts["n_latents"], 4)
    before, after = found.dictionary.encode(acts_nd), loaded.encode(acts_nd)
    assert np.array_equal(before.indices_nk, after.indices_nk) and np.array_equal(before.values_nk, after.values_nk)
    again_nd = loaded.decode(after)
    assert np.array_equal(again_nd, found.dictionary.decode(before))
    np.testing.assert_allclose(np.linalg.norm(loaded.decoder_nd, axis=1), 1, atol=1e-5)
    part = evaluate(loaded, acts_nd, {"train": np.arange(200, 1200), "val": np.arange(200)})["parts"]["val"]
    assert part["mse"] == pytest.approx(np.square(acts_nd[:200].astype(np.float64) - again_nd[:200]).mean(), rel=1e-6)
    if kind in TRAINED:
        best = float(found.history["val_fvu"].min())
        assert part["fvu"] < 0.35 < 0.5 < min(part["fvu_pca"], part["fvu_random"])
        if kind != "crosscoder":  # its own is of sides of equal weight
            assert best == pytest.approx(part["fvu"], rel=1e-3)
    else:
        assert found.history.height == 0 and found.facts["steps"] == 0
        assert part["fvu"] == pytest.approx(part[f"fvu_{kind}"], rel=0.2)


@pytest.mark.parametrize("kind", ["batchtopk", "crosscoder"])
def test_folding_is_exact(kind: str) -> None:
    """PITFALLS: decoder bias not unscaled. Normalised and raw are the same dictionary, on both sides."""
    acts_nd, learner = rows_of(kind, 300), LEARNERS[kind]
    scaling = learner.scaling(acts_nd.shape[1], lambda columns: fit_scaling(acts_nd[:, columns], True))
    inner = weights(5, acts_nd.shape[1]).map(Tensor.float)
    raw = learner.fold(inner, scaling, K, 0.8)
    x_bd = scaling.apply(acts_nd, torch.device("cpu"))
    indices_bm, values_bm = keep_above(pre_activations(inner, x_bd)[1], 0.8)
    codes = raw.encode(acts_nd)
    inner_sets = [set(i[v > 0].tolist()) for i, v in zip(indices_bm, values_bm, strict=True)]
    raw_sets = [set(i[v > 0].tolist()) for i, v in zip(codes.indices_nk, codes.values_nk, strict=True)]
    assert np.mean([a == b for a, b in zip(inner_sets, raw_sets, strict=True)]) > 0.99  # else rounding at θ
    expected_nd = learner.reconstruct(inner, x_bd, K, 0.8).numpy() * scaling.columns_d + scaling.centre_d
    same = np.array([a == b for a, b in zip(inner_sets, raw_sets, strict=True)])
    np.testing.assert_allclose(raw.decode(codes)[same], expected_nd[same], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(raw.decoder_nd, axis=1), 1, atol=1e-6)
    assert isinstance(raw, BatchTopK) and (raw.threshold_n > 0).all()


def test_each_side_of_a_crosscoder_has_its_own_centre_and_scale() -> None:
    acts_nd = planted(500)
    scaling = CrosscoderLearner().scaling(48, lambda columns: fit_scaling(acts_nd[:, columns], True))
    x_nd = scaling.apply(acts_nd, torch.device("cpu")).numpy()
    for side in (slice(0, 24), slice(24, 48)):
        np.testing.assert_allclose(x_nd[:, side].mean(0), 0, atol=1e-5)
        assert np.square(x_nd[:, side]).mean() == pytest.approx(1, rel=1e-5)
    assert scaling.scale_d is not None and scaling.scale_d[-1] > 4 * scaling.scale_d[0]
    with pytest.raises(UserError, match="found an odd number, 47"):
        CrosscoderLearner().scaling(47, lambda columns: fit_scaling(acts_nd[:, columns], True))


def test_a_crosscoder_starts_with_both_sides_alike_and_ends_with_two_decoders() -> None:
    cfg = small()
    start = CrosscoderLearner().start(48, lambda width: initial_weights(cfg, width, 1))
    assert torch.equal(start.decoder_nd[:, :24], start.decoder_nd[:, 24:])
    assert torch.equal(start.encoder_nd, start.decoder_nd) and start.decoder_bias_d.shape == (48,)
    torch.testing.assert_close(start.decoder_nd.norm(dim=1), torch.ones(64))
    found = train("crosscoder").dictionary
    assert isinstance(found, Crosscoder)
    assert found.decoder_base_nd.shape == found.decoder_chat_nd.shape == (64, 24)
    assert np.array_equal(np.concatenate([found.decoder_base_nd, found.decoder_chat_nd], axis=1), found.decoder_nd)
    acts_nd = planted(1200)
    report = evaluate(found, acts_nd, {"heldout": np.arange(200)})["parts"]["heldout"]
    again_nd = found.decode(found.encode(acts_nd[:200]))
    for side, at in (("base", slice(0, 24)), ("chat", slice(24, 48))):
        x, x_hat = acts_nd[:200, at].astype(np.float64), again_nd[:, at]
        fvu = np.square(x - x_hat).sum() / np.square(x - x.mean(0)).sum()
        assert report["sides"][side]["fvu"] == pytest.approx(fvu) and fvu < 0.35
        assert report["sides"][side]["mse"] == pytest.approx(np.square(x - x_hat).mean())


def test_norm_difference_is_the_formula() -> None:
    base_nd, chat_nd = np.array([[3.0, 4.0], [0, 0], [1, 0], [0, 0]]), np.array([[0.0, 0.0], [2, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(norm_difference(base_nd, chat_nd), [0.0, 1.0, 0.5, np.nan])
    assert norm_difference(np.array([[1.0, 0]]), np.array([[0, 4.0]]))[0] == pytest.approx(0.5 * (3 / 4 + 1))


def test_the_threshold_that_is_kept_belongs_to_the_weights_that_are_kept() -> None:
    """The last check is made worse than an earlier one; the dictionary must carry the earlier check's threshold."""
    acts_nd, cfg = rows_of("batchtopk", 700), small()
    scaling = fit_scaling(acts_nd[100:], True)
    training = trainer_module.Training(acts_nd[100:], acts_nd[:100], scaling, cfg, 1, LEARNERS["batchtopk"])
    for _ in range(3):
        training.run_epoch()
    training.check()
    orders = epoch_batches(600, cfg.batch, 1, 0, torch.device("cpu"))[:THRESHOLD_BATCHES]
    kept, batches = training.best.clone(), [training.train_nd[rows] for rows in orders]
    training.run_epoch()
    training.weights.encoder_bias_n.add_(0.5)
    training.check()
    found = training.result().dictionary
    assert isinstance(found, BatchTopK)
    expected = smallest_selected(kept, batches, cfg.k) * scaling.scale
    assert found.threshold_n.unique().tolist() == pytest.approx([expected])
    assert smallest_selected(training.weights, batches, cfg.k) * scaling.scale != pytest.approx(expected, rel=1e-3)


def test_batchtopk_uses_k_latents_on_average_and_as_many_as_a_text_needs() -> None:
    found = train("batchtopk")
    counts_n = (found.dictionary.encode(rows_of("batchtopk", 600, seed=7)).values_nk > 0).sum(axis=1)
    assert counts_n.mean() == pytest.approx(4, rel=0.3) and counts_n.std() > 0.5
    assert found.facts["kind"] == "batchtopk"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["batchtopk", "crosscoder"])
def test_a_killed_training_goes_on_to_the_same_bits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(kind, max_epochs=9)

    def dying(n_rows: int, batch: int, seed: int, at: int, device: torch.device) -> Any:
        if at == 7:
            raise Killed
        return epoch_batches(n_rows, batch, seed, at, device)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer_module, "epoch_batches", dying)
        train(kind, tmp_path, max_epochs=9)
    epochs: list[int] = []

    def watched(n_rows: int, batch: int, seed: int, at: int, device: torch.device) -> Any:
        epochs.append(at)
        return epoch_batches(n_rows, batch, seed, at, device)

    monkeypatch.setattr(trainer_module, "epoch_batches", watched)
    again = train(kind, tmp_path, max_epochs=9)
    assert [at for at in epochs if at] == [6, 7, 8]  # epoch 0's batches measure the threshold
    for name, tensor in whole.dictionary.tensors().items():
        assert torch.equal(tensor, again.dictionary.tensors()[name]), name
    assert whole.history.equals(again.history) and whole.facts == again.facts
    remove_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", [*TRAINED, "pca", "random", "neurons"])
def test_rows_without_variance_give_a_dictionary_in_which_nothing_fires(kind: str, tmp_path: Path) -> None:
    acts_nd = np.tile(planted(1), (60, 1)).astype(np.float32)
    found = train_dictionary(acts_nd[20:], acts_nd[:20], small(), seed=1, checkpoint=None, title="t", kind=kind)
    assert found.facts["zero_variance"] and found.facts["live_share"] == 0
    found.dictionary.save(tmp_path)
    loaded = load_dictionary(tmp_path)
    codes = loaded.encode(acts_nd)
    assert not codes.values_nk.any() and loaded.kind == kind
    np.testing.assert_allclose(loaded.decode(codes), acts_nd, rtol=1e-6)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(
        UserError, match="expected one of topk, batchtopk, crosscoder, pca, random, neurons, found 'relu'"
    ):
        train("relu")


def test_a_threshold_below_zero_is_refused(tmp_path: Path) -> None:
    train("batchtopk", max_epochs=1).dictionary.save(tmp_path)
    path = tmp_path / "sae_weights.safetensors"
    save_file({**load_file(path), "threshold": np.full(64, -0.5, np.float32)}, path)
    with pytest.raises(UserError, match=r"thresholds of at least 0, found -0\.5"):
        load_dictionary(tmp_path)


# --- baselines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 24, 60])
def test_pca_equals_numpy_pca_and_one_of_each_pair_fires(k: int) -> None:
    acts_nd = rows_of("pca", 500)
    found = train_dictionary(acts_nd[100:], acts_nd[:100], small(k=k), seed=1, checkpoint=None, title="t", kind="pca")
    width = min(k, 24)
    assert (found.dictionary.k, found.dictionary.n_latents) == (width, 2 * width)
    x = acts_nd[100:].astype(np.float64)
    _, _, components_dd = np.linalg.svd(x - x.mean(0), full_matrices=False)
    basis_kd = components_dd[:width]
    new = acts_nd[:100].astype(np.float64) - x.mean(0)
    codes = found.dictionary.encode(acts_nd[:100])
    np.testing.assert_allclose(found.dictionary.decode(codes), x.mean(0) + new @ basis_kd.T @ basis_kd, atol=2e-4)
    dense_nk = codes.csr().toarray()
    assert ((dense_nk > 0).sum(1) == width).all()
    np.testing.assert_allclose(
        dense_nk[:, :width] + dense_nk[:, width:], np.abs(new @ basis_kd.T), rtol=1e-3, atol=1e-3
    )


def test_random_has_the_gain_that_suits_best_in_its_encoder() -> None:
    acts_nd = rows_of("random", 600)
    found = train("random", rows=600).dictionary
    assert isinstance(found, TopK) and found.n_latents == 64
    rows_nd, bias_d = found.weights.decoder_nd.numpy(), found.weights.decoder_bias_d.numpy()
    np.testing.assert_allclose(bias_d, acts_nd[200:].mean(0), rtol=1e-5)
    gains_nd = found.weights.encoder_nd.numpy() / rows_nd
    gain = float(np.median(gains_nd))
    np.testing.assert_allclose(found.weights.encoder_nd.numpy(), gain * rows_nd, rtol=1e-4, atol=1e-6)

    def error(factor: float) -> float:
        encoder_nd = found.weights.encoder_nd * factor
        other = TopK(Weights(encoder_nd, *found.weights.tensors()[1:]), found.k)
        return float(np.square(acts_nd[200:] - other.decode(other.encode(acts_nd[200:]))).sum())

    assert error(1.0) < min(error(0.97), error(1.03))
    assert forward(found.weights, torch.from_numpy(acts_nd), 4).values_bk.min() >= 0


@pytest.mark.parametrize("k", [1, 5, 24, 60])
def test_neurons_are_the_k_coordinates_farthest_from_their_means(k: int) -> None:
    acts_nd = rows_of("neurons", 500)
    d = acts_nd.shape[1]
    found = train_dictionary(
        acts_nd[100:], acts_nd[:100], small(k=k), seed=1, checkpoint=None, title="t", kind="neurons"
    )
    width = min(k, d)
    assert (found.dictionary.k, found.dictionary.n_latents) == (width, 2 * d)
    assert found.history.height == 0 and found.facts["live_share"] > 0
    mean_d = acts_nd[100:].mean(0, dtype=np.float64)
    new = acts_nd[:100] - mean_d
    again_nd = np.tile(mean_d, (100, 1))
    for row in range(100):
        for at in np.argsort(-np.abs(new[row]))[:width]:
            again_nd[row, at] += new[row, at]
    codes = found.dictionary.encode(acts_nd[:100])
    np.testing.assert_allclose(found.dictionary.decode(codes), again_nd, atol=1e-4)
    dense_nk = codes.csr().toarray()
    assert ((dense_nk > 0).sum(1) == width).all() and not ((dense_nk[:, :d] > 0) & (dense_nk[:, d:] > 0)).any()
    signed_nd = dense_nk[:, :d] - dense_nk[:, d:]
    np.testing.assert_allclose(signed_nd, again_nd - mean_d, atol=1e-4)


def test_a_baseline_is_measured_without_the_other_baselines_where_asked() -> None:
    acts_nd, found = rows_of("neurons", 600), train("neurons", rows=600).dictionary
    parts = {"train": np.arange(200, 600), "val": np.arange(200)}
    beside = evaluate(found, acts_nd, parts)["parts"]["val"]
    alone = evaluate(found, acts_nd, parts, beside_baselines=False)["parts"]["val"]
    assert alone["fvu"] == beside["fvu"] == pytest.approx(beside["fvu_neurons"])
    assert alone["fvu_pca"] is alone["fvu_random"] is alone["fvu_neurons"] is None
    assert 0 < beside["fvu_neurons"] < 1
