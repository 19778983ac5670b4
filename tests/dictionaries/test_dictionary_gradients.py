"""The written-out gradients against autograd on a naive twin in fp64, and what AuxK may and may not touch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antar.dictionaries.auxk import AuxK, auxk_term
from antar.dictionaries.loss import ByLatent, Step, gradients, select
from antar.dictionaries.weights import Weights

D, N, K, B = 7, 24, 4, 11
DEAD = [1, 5, 6, 13, 20, 23]


def weights(seed: int, dtype: torch.dtype = torch.float64) -> Weights:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    decoder_nd = normal(N, D)
    decoder_nd /= decoder_nd.norm(dim=1, keepdim=True)
    bias_n = 0.3 * normal(N)
    bias_n[DEAD] -= 1.5  # seldom among the top k, but positive for some texts
    return Weights(normal(N, D), bias_n, decoder_nd, 0.2 * normal(D))


def batch(seed: int, rows: int = B) -> Tensor:
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def aux_of(dead: list[int], k_aux: int = 3, coefficient: float = 0.7, normalised: bool = False) -> AuxK:
    dead_m = torch.tensor(dead, dtype=torch.int64)
    return AuxK(dead_m, torch.ones(len(dead), dtype=torch.bool), k_aux, coefficient, normalised)


def naive(w: Weights, x_bd: Tensor, aux: AuxK | None) -> Weights:
    """The loss as the paper writes it, one text after another, dense codes, gradients by autograd."""
    leaves = w.map(lambda tensor: tensor.detach().clone().requires_grad_())
    squares, aux_squares, residual_squares = [], [], []
    for x_d in x_bd:
        pre_n = leaves.encoder_nd @ (x_d - leaves.decoder_bias_d) + leaves.encoder_bias_n
        top = sorted(range(N), key=lambda j: -pre_n[j].item())[:K]
        z_n = torch.stack([pre_n[j].relu() if j in top else pre_n[j] * 0 for j in range(N)])
        x_hat_d = leaves.decoder_nd.T @ z_n + leaves.decoder_bias_d
        squares.append((x_d - x_hat_d).square())
        if aux is not None:
            e_d = (x_d - x_hat_d).detach()
            dead = [j for j, asleep in zip(aux.dead_m.tolist(), aux.asleep_m.tolist(), strict=True) if asleep]
            chosen = sorted(dead, key=lambda j: -pre_n[j].item())[: aux.k_aux]
            e_hat_d = sum((pre_n[j].relu() * leaves.decoder_nd[j] for j in chosen), torch.zeros(D).double())
            aux_squares.append((e_d - e_hat_d).square())
            residual_squares.append(e_d.square())
    loss = torch.stack(squares).mean()
    if aux is not None:
        total = torch.stack(aux_squares)
        loss = loss + aux.coefficient * (
            total.sum() / torch.stack(residual_squares).sum() if aux.normalised else total.mean()
        )
    loss.backward()
    return leaves.map(lambda tensor: tensor.grad if tensor.grad is not None else torch.zeros_like(tensor))


def assert_same(found: Step, expected: Weights) -> None:
    for name, mine, theirs in zip(
        Weights.__annotations__, found.gradients.tensors(), expected.tensors(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("k_aux", [1, 3, 6, 50])
def test_all_gradients_equal_autograd_on_the_naive_twin(seed: int, normalised: bool, k_aux: int) -> None:
    w, x_bd, aux = weights(seed), batch(seed + 10), aux_of(DEAD, k_aux, normalised=normalised)
    step = gradients(w, x_bd, K, aux)
    assert_same(step, naive(w, x_bd, aux))
    assert float(step.gradients.encoder_nd[DEAD].abs().sum()) > 0


def test_gradients_without_auxk_and_for_one_text_equal_the_twin() -> None:
    w = weights(3)
    assert_same(gradients(w, batch(4), K, None), naive(w, batch(4), None))
    assert_same(gradients(w, batch(5, 1), K, aux_of(DEAD)), naive(w, batch(5, 1), aux_of(DEAD)))


def test_a_latent_that_woke_up_takes_no_part_in_auxk() -> None:
    w, x_bd, aux = weights(6), batch(7), aux_of(DEAD, 6)
    aux.asleep_m[2] = False
    assert_same(gradients(w, x_bd, K, aux), naive(w, x_bd, aux))
    aux.asleep_m[:] = False  # −inf everywhere: no NaN, and nothing from AuxK
    assert_same(gradients(w, x_bd, K, aux), naive(w, x_bd, None))


def test_auxk_alone_changes_encoder_rows_of_dead_latents_and_of_no_other() -> None:
    """PITFALLS: AuxK that does not reach the encoder; a target that is not detached."""
    w, x_bd = weights(8), batch(9)
    never = aux_of([j for j in DEAD if j not in gradients(w, x_bd, K, None).indices_bk.unique().tolist()])
    assert len(never.dead_m) >= 3
    plain, with_aux = gradients(w, x_bd, K, None).gradients, gradients(w, x_bd, K, never).gradients
    dead = torch.zeros(N, dtype=torch.bool).index_fill_(0, never.dead_m, True)
    assert not plain.encoder_nd[dead].any() and not plain.decoder_nd[dead].any()
    assert (with_aux.encoder_nd[dead].abs().sum(1) > 0).any() and (with_aux.decoder_nd[dead].abs().sum(1) > 0).any()
    assert with_aux.encoder_bias_n[dead].any()
    for mine, other in zip(with_aux.tensors()[:3], plain.tensors()[:3], strict=True):
        assert torch.equal(mine[~dead], other[~dead])  # the residual is a constant: live latents do not feel AuxK


def test_auxk_models_the_residual_without_the_decoder_bias_again() -> None:
    """PITFALLS: the decoder bias counted twice. A residual that dead latents can make exactly leaves no pull."""
    w = weights(10)
    aux = aux_of([2, 9], k_aux=2)
    pre_bn = torch.full((1, N), -1.0, dtype=torch.float64)
    pre_bn[0, 2], pre_bn[0, 9] = 0.5, 2.0
    residual_bd = (0.5 * w.decoder_nd[2] + 2.0 * w.decoder_nd[9])[None]
    term = auxk_term(aux, pre_bn, residual_bd, w.decoder_nd)
    assert term is not None
    assert float(term.loss) < 1e-30 and float(term.pull_bd.abs().max()) < 1e-15


@pytest.mark.parametrize(("k_aux", "expected"), [(1, 1), (4, 4), (6, 6), (512, 6)])
def test_k_aux_is_the_configured_size_and_no_more_than_the_dead(k_aux: int, expected: int) -> None:
    """PITFALLS: k_aux taken from the wrong size."""
    w, x_bd = weights(11), batch(12)
    term = auxk_term(aux_of(DEAD, k_aux), torch.rand(B, N, dtype=torch.float64), x_bd, w.decoder_nd)
    assert term is not None and term.values_bm.shape == (B, len(DEAD))
    assert ((term.values_bm > 0).sum(1) == expected).all()


def test_auxk_is_finite_where_the_reconstruction_is_perfect() -> None:
    w = weights(13)
    for normalised in (False, True):
        aux = aux_of(DEAD, normalised=normalised)
        term = auxk_term(aux, torch.rand(B, N).double(), torch.zeros(B, D).double(), w.decoder_nd)
        assert term is not None and torch.isfinite(term.pull_bd).all() and torch.isfinite(term.loss)
    assert auxk_term(aux_of([]), torch.rand(B, N).double(), batch(1), w.decoder_nd) is None


def test_selection_equals_a_sort_and_values_are_never_negative() -> None:
    pre_bn = torch.randn(50, 40, generator=torch.Generator().manual_seed(1))
    pre_bn[0] = -pre_bn[0].abs()
    indices_bk, values_bk = select(pre_bn, 9)
    expected_bn = pre_bn.sort(dim=1, descending=True)
    assert torch.equal(indices_bk, expected_bn.indices[:, :9])
    assert torch.equal(values_bk, expected_bn.values[:, :9].relu())
    assert not values_bk[0].any() and len(set(indices_bk[0].tolist())) == 9


def test_sum_by_latent_equals_the_dense_product() -> None:
    generator = torch.Generator().manual_seed(2)
    indices_bk = torch.stack([torch.randperm(N, generator=generator)[:K] for _ in range(B)])
    values_bk, rows_bd = torch.rand(B, K, generator=generator), torch.randn(B, D, generator=generator)
    dense_bn = torch.zeros(B, N).scatter_(1, indices_bk, values_bk)
    torch.testing.assert_close(ByLatent.of(indices_bk, N).sum(values_bk, rows_bd), dense_bn.T @ rows_bd)
