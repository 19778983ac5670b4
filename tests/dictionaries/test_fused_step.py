"""The compiled CPU step against a naive twin in fp64: selection, gradients seen through the moments, AuxK,
clipping."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from antar.core.jit import have_numba
from antar.dictionaries.auxk import AuxK
from antar.dictionaries.weights import Weights

if not have_numba():
    pytest.skip("the extra [fast] (numba) is not installed", allow_module_level=True)

from antar.dictionaries.fast import AdamNumbers, FusedStep, batch_select, select, zero_moments
from antar.dictionaries.fast.step import COLUMNS
from antar.dictionaries.fast.team import Team, spans

ROWS = 240
# Few entries a latent and few columns; many of both: two blocks of columns in the decode in bfloat16.
SMALL = {"batch": 40, "d": 37, "n": 96, "k": 8}
LARGE = {"batch": 160, "d": 2 * COLUMNS, "n": 64, "k": 16}


def adam(clip: float = 0.0, step: int = 7) -> AdamNumbers:
    return AdamNumbers(step, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.01, clip=clip)


class Case:
    """A dictionary in the middle of a training, and the same one in fp64."""

    def __init__(
        self,
        shape: dict[str, int],
        dead: int = 0,
        k_aux: int = 5,
        normalised: bool = True,
        seed: int = 0,
        by_batch: bool = False,
    ):
        self.by_batch = by_batch
        generator = torch.Generator().manual_seed(seed)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator)

        n, d = shape["n"], shape["d"]
        decoder_nd = normal(n, d)
        decoder_nd /= decoder_nd.norm(dim=1, keepdim=True)
        encoder_nd = decoder_nd + 0.1 * normal(n, d) / d**0.5
        self.weights = Weights(encoder_nd, 0.1 * normal(n), decoder_nd, 0.1 * normal(d))
        if dead:
            self.weights.encoder_bias_n[-dead:] -= 1.0  # seldom among the top k, but positive for some texts
        self.first = self.weights.map(lambda tensor: 1e-4 * normal(*tensor.shape))
        self.second = self.weights.map(lambda tensor: 1e-8 * normal(*tensor.shape).abs())
        self.data_nd = normal(ROWS, d)
        self.rows_b = torch.randperm(ROWS, generator=generator)[: shape["batch"]].numpy()
        self.k, self.aux = shape["k"], None
        if dead:
            asleep_m = torch.ones(dead, dtype=torch.bool)
            asleep_m[1] = False
            self.aux = AuxK(torch.arange(n - dead, n), asleep_m, k_aux, 1 / 32, normalised)

    def fused(self, numbers: AdamNumbers, low: bool = False, threads: int = 2):
        """(weights, first moment, second moment, mse, the selected latents of each text, fired) after one step."""
        parts = self.weights.clone(), self.first.clone(), self.second.clone()
        step = FusedStep(parts[0], parts[1:], self.k, threads, low, self.by_batch)
        facts = step.step(self.data_nd[self.rows_b].numpy(), self.aux, numbers)
        at = step._buffers[len(self.rows_b)]
        chosen = [
            set(at.codes.latents[at.codes.begins[b] :][: at.codes.sizes[b]].tolist()) for b in range(len(self.rows_b))
        ]
        step.close()
        return *parts, facts.mse, chosen, facts.fired_n

    def naive(self, numbers: AdamNumbers, chosen: list[set[int]] | None = None):
        """The same in fp64, dense, gradients by autograd; with `chosen` it uses those latents instead of its own."""
        leaves = self.weights.map(lambda tensor: tensor.double().requires_grad_())
        x_bd = self.data_nd[self.rows_b].double()
        pre_bn = (x_bd - leaves.decoder_bias_d) @ leaves.encoder_nd.T + leaves.encoder_bias_n
        mask_bn = torch.zeros_like(pre_bn)
        if chosen is None:
            rows_bn = pre_bn.reshape(1, -1) if self.by_batch else pre_bn
            wanted = self.k * len(pre_bn) if self.by_batch else self.k
            mask_bn.view_as(rows_bn).scatter_(1, rows_bn.topk(wanted, dim=1).indices, 1.0)
        else:
            for b, latents in enumerate(chosen):
                mask_bn[b, sorted(latents)] = 1.0
        z_bn = pre_bn.relu() * mask_bn
        x_hat_bd = z_bn @ leaves.decoder_nd + leaves.decoder_bias_d
        mse = (x_bd - x_hat_bd).square().mean()
        loss = mse + self._naive_aux(leaves, pre_bn, (x_bd - x_hat_bd).detach())
        loss.backward()
        gradients = [tensor.grad for tensor in leaves.tensors()]
        w_nd = leaves.decoder_nd.detach()
        gradients[2] = gradients[2] - (gradients[2] * w_nd).sum(1, keepdim=True) * w_nd
        norm = self._norm = torch.sqrt(sum(g.square().sum() for g in gradients))
        if numbers.clip:
            gradients = [g * min(1.0, numbers.clip / (float(norm) + 1e-6)) for g in gradients]
        after = [self._naive_adam(i, g, numbers) for i, g in enumerate(gradients)]
        after[2][0] /= after[2][0].norm(dim=1, keepdim=True)
        return *(Weights(*(one[i] for one in after)) for i in range(3)), float(mse.detach()), (z_bn > 0).sum(0)

    def naive_norm(self, chosen: list[set[int]]) -> float:
        self.naive(adam(), chosen)
        return float(self._norm)

    def _naive_aux(self, leaves: Weights, pre_bn: Tensor, residual_bd: Tensor) -> Tensor | float:
        if self.aux is None:
            return 0.0
        dead_m = self.aux.dead_m[self.aux.asleep_m]
        pre_bm = pre_bn[:, dead_m]
        keep_bm = torch.zeros_like(pre_bm).scatter_(1, pre_bm.topk(min(self.aux.k_aux, len(dead_m)), 1).indices, 1.0)
        left_bd = residual_bd - (pre_bm.relu() * keep_bm) @ leaves.decoder_nd[dead_m]
        total = left_bd.square().sum()
        return self.aux.coefficient * (
            total / residual_bd.square().sum() if self.aux.normalised else total / residual_bd.numel()
        )

    def _naive_adam(self, i: int, g: Tensor, a: AdamNumbers) -> list[Tensor]:
        w, m, v = (one.tensors()[i].double() for one in (self.weights, self.first, self.second))
        m, v = a.beta1 * m + (1 - a.beta1) * g, a.beta2 * v + (1 - a.beta2) * g * g
        step = (m / (1 - a.beta1**a.step)) / ((v / (1 - a.beta2**a.step)).sqrt() + a.eps)
        return [w * (1 - a.lr * a.decay) - a.lr * step, m, v]


def assert_close(found: Weights, expected: Weights, before: Weights, share: float, what: str) -> None:
    """Each parameter's error is at most `share` of how far the step moved it."""
    for name, mine, theirs, old in zip(
        Weights.__annotations__, found.tensors(), expected.tensors(), before.tensors(), strict=True
    ):
        error = float((mine.double() - theirs).norm() / (theirs - old.double()).norm())
        assert error < share, f"{what} of {name}: {error:.2e}"


CASES = {
    "plain": lambda shape: Case(shape),
    "auxk chooses": lambda shape: Case(shape, dead=20, k_aux=5, normalised=False),
    "auxk takes all": lambda shape: Case(shape, dead=20, k_aux=50),
    "one dead": lambda shape: Case(shape, dead=2, k_aux=512),
    "batchtopk": lambda shape: Case(shape, by_batch=True),
    "batchtopk with auxk": lambda shape: Case(shape, dead=20, k_aux=5, by_batch=True),
}


@pytest.mark.parametrize("clip", [0.0, 1e-3, 1e3])
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", CASES)
def test_moments_and_weights_after_a_step_equal_the_fp64_twin(name: str, shape: dict[str, int], clip: float) -> None:
    """PITFALLS: AuxK that does not reach the encoder. Moments first: Adam hides a wrong scale of a gradient."""
    case = CASES[name](shape)
    weights, first, second, mse, _, fired_n = case.fused(adam(clip))
    expected = case.naive(adam(clip))
    assert_close(first, expected[1], case.first, 2e-5, "first moment")
    assert_close(second, expected[2], case.second, 1e-4, "second moment")
    assert_close(weights, expected[0], case.weights, 1e-3, "weights")
    assert mse == pytest.approx(expected[3], rel=1e-6)
    np.testing.assert_array_equal(fired_n, expected[4].numpy())


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", CASES)
def test_the_bound_on_the_gradients_norm_holds_and_hides_no_clipping(
    name: str, shape: dict[str, int], low: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, bounds = CASES[name](shape), []
    real = FusedStep._clip
    monkeypatch.setattr(FusedStep, "_clip", lambda self, *a: bounds.append(a[4]) or real(self, *a))
    free = case.fused(adam(), low=low)
    norm = case.naive_norm(free[4])
    biases = 0.5 * norm**2  # at most this share of the squared norm is the biases', which the bound leaves out
    assert norm**2 - biases < bounds[0] < 200 * norm**2
    kept, clipped = case.fused(adam(1.02 * norm), low=low), case.fused(adam(0.98 * norm), low=low)
    assert torch.equal(kept[1].encoder_nd, free[1].encoder_nd)
    # m = β₁ m + (1 − β₁) g: the gradients' ratio shows in what the moments gained.
    gained = [(one[1].encoder_nd - 0.9 * case.first.encoder_nd).norm() for one in (clipped, free)]
    assert float(gained[0] / gained[1]) == pytest.approx(0.98, rel=5e-3)


@pytest.mark.parametrize("clip", [0.0, 1e-3])
@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", CASES)
def test_bfloat16_agrees_with_the_twin_on_the_latents_that_it_selected(
    name: str, shape: dict[str, int], clip: float
) -> None:
    case = CASES[name](shape)
    weights, first, second, mse, chosen, _ = case.fused(adam(clip), low=True)
    expected = case.naive(adam(clip), chosen)
    assert_close(first, expected[1], case.first, 0.03, "first moment")
    assert_close(second, expected[2], case.second, 0.03, "second moment")
    assert_close(weights, expected[0], case.weights, 0.05, "weights")
    assert mse == pytest.approx(expected[3], rel=5e-3)


def test_bfloat16_selects_what_fp64_selects_outside_a_rounding_margin() -> None:
    case = Case(SMALL)
    chosen = case.fused(adam(), low=True)[4]
    w = case.weights.map(Tensor.double)
    x_bd = case.data_nd[case.rows_b].double()
    pre_bn = (x_bd - w.decoder_bias_d) @ w.encoder_nd.T + w.encoder_bias_n
    # Both factors of each product and the sum are rounded to 8 bits.
    margin_b = 2.0**-7 * (x_bd - w.decoder_bias_d).norm(dim=1) * w.encoder_nd.norm(dim=1).max()
    differing = 0
    for b, latents in enumerate(chosen):
        kth = pre_bn[b].topk(case.k).values[-1]
        own = set(pre_bn[b].topk(case.k).indices.tolist())
        for j in latents ^ own:
            differing += 1
            assert abs(float(pre_bn[b, j] - kth)) < float(margin_b[b])
    assert differing < 0.1 * len(chosen) * case.k


def selected(pre_bn: np.ndarray, bias_n: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
    batch, n = pre_bn.shape
    indices_e, values_e = np.empty(batch * k, np.int32), np.empty(batch * k, np.float32)
    sizes_b, counts_n = np.empty(batch, np.int64), np.zeros(n, np.int64)
    select.select_rows(pre_bn, bias_n, k, 0, indices_e, values_e, sizes_b, counts_n)
    rows = [list(zip(indices_e[b * k :][:size].tolist(), values_e[b * k :][:size].tolist(), strict=True))
            for b, size in enumerate(sizes_b)]  # fmt: skip
    assert counts_n.tolist() == [sum(j in dict(row) for row in rows) for j in range(n)]
    return rows


def naive_selected(pre_bn: np.ndarray, bias_n: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
    """Sort; NaN first, ties to the lower latent; only positive ones; in the order of the latents."""
    rows = []
    for pre_n in pre_bn + bias_n:
        order = sorted(range(len(pre_n)), key=lambda j: (-np.inf if np.isnan(pre_n[j]) else -pre_n[j], j))
        order.sort(key=lambda j: not np.isnan(pre_n[j]))
        kept = [j for j in order[:k] if not pre_n[j] <= 0]
        rows.append([(j, float(pre_n[j])) for j in sorted(kept)])
    return rows


def assert_same_rows(found: list[list[tuple[int, float]]], expected: list[list[tuple[int, float]]]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert [j for j, _ in mine] == [j for j, _ in theirs]
        np.testing.assert_array_equal([v for _, v in mine], [v for _, v in theirs])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_selection_equals_a_sort_with_ties_zeros_infinities_and_nan(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    k = data.draw(st.integers(1, n))
    some = st.sampled_from([-1.0, -0.0, 0.0, 1e-40, 0.5, 0.5000001, 1.0, 3.0, np.inf, -np.inf, np.nan])
    number = st.one_of(some, st.floats(-4, 4, width=32))
    pre_bn = np.array([[data.draw(number) for _ in range(n)] for _ in range(3)], np.float32)
    bias_n = np.zeros(n, np.float32)
    assert_same_rows(selected(pre_bn, bias_n, k), naive_selected(pre_bn, bias_n, k))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_selection_by_batch_equals_a_sort_of_all_entries(data: st.DataObject) -> None:
    batch, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    wanted = data.draw(st.integers(1, batch * n))
    number = st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 1.0, np.inf, np.nan]), st.floats(-4, 4, width=32))
    pre_bn = np.array([[data.draw(number) for _ in range(n)] for _ in range(batch)], np.float32)
    keys_bn = np.empty((batch, n), np.int32)
    batch_select.keys_of_rows(pre_bn, np.zeros(n, np.float32), keys_bn)
    begins_b, sizes_b = np.empty(batch, np.int64), np.empty(batch, np.int64)
    indices_e, values_e = np.empty(wanted, np.int32), np.empty(wanted, np.float32)
    team, cut = Team(2), spans(batch, 2)
    counts_cn = np.zeros((len(cut), n), np.int64)
    batch_select.select_batch(team, keys_bn, cut, wanted, begins_b, sizes_b, indices_e, values_e, counts_cn)
    team.close()
    flat = naive_selected(pre_bn.reshape(1, -1), np.zeros(batch * n, np.float32), wanted)[0]
    found = [
        (b * n + int(indices_e[e]), float(values_e[e]))
        for b in range(batch)
        for e in range(begins_b[b], begins_b[b] + sizes_b[b])
    ]
    assert_same_rows([found], [flat])
    assert counts_cn.sum(0).tolist() == [sum(i % n == j for i, _ in flat) for j in range(n)]


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_selection_over_many_rows_of_changing_size_equals_a_sort(scale: float) -> None:
    """The guess taken from the row before is wrong here in both directions."""
    rng = np.random.default_rng(3)
    sizes = np.exp(3 * rng.standard_normal((60, 1)))
    pre_bn = (scale * sizes * rng.standard_normal((60, 500))).astype(np.float32)
    bias_n = (scale * rng.standard_normal(500)).astype(np.float32)
    assert_same_rows(selected(pre_bn, bias_n, 32), naive_selected(pre_bn, bias_n, 32))


def test_a_nan_in_the_weights_is_not_hidden() -> None:
    case = Case(SMALL)
    case.weights.encoder_nd[3, 4] = float("nan")
    for low in (False, True):
        assert np.isnan(case.fused(adam(), low=low)[3])


def test_a_gradient_that_is_not_finite_reaches_every_row_as_torch_clips_it() -> None:
    case = Case(SMALL)
    case.weights.decoder_bias_d[0] = float("nan")
    weights = case.fused(adam(1.0))[0]
    assert torch.isnan(weights.decoder_nd).all()


def test_a_team_leaves_the_threads_of_later_threads_alone() -> None:
    before, found = torch.get_num_threads(), []
    team = Team(2)
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert team.run(lambda _: torch.get_num_threads(), range(4)) == [1] * 4
    team.close()
    assert torch.get_num_threads() == before and found == [before]


def test_same_bits_again_and_with_another_training_beside_it() -> None:
    alone = Case(LARGE, dead=20).fused(adam(1e-3), low=True)
    results = {}

    def train(seed: int) -> None:
        results[seed] = Case(LARGE, dead=20, seed=seed).fused(adam(1e-3), low=True)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in range(3):
        for mine, theirs in zip(alone[part].tensors(), results[0][part].tensors(), strict=True):
            assert torch.equal(mine, theirs)
    assert not torch.equal(results[0][0].encoder_nd, results[1][0].encoder_nd)


def test_bfloat16_moments_follow_the_twin_and_lose_nothing_on_average() -> None:
    """The second moment is rounded at random: kept to the nearest it would not decay at all at β₂ = 0.999."""
    case, cold = Case(SMALL), adam(step=1)
    weights = case.weights.clone()
    moments = zero_moments(weights, low=True)
    step = FusedStep(weights, moments, case.k, 2, low=False)
    step.step(case.data_nd[case.rows_b].numpy(), None, cold)
    case.first, case.second = (case.weights.map(torch.zeros_like) for _ in range(2))
    expected = case.naive(cold)
    for moment, twin in zip(moments, expected[1:3], strict=True):
        assert moment.encoder_nd.dtype == torch.bfloat16 and moment.encoder_bias_n.dtype == torch.float32
        assert_close(moment, twin, case.first, 0.01, "moment")
    before = moments[1].encoder_nd.double().sum()
    still = np.zeros_like(case.data_nd[:4].numpy()) + case.weights.decoder_bias_d.numpy()
    with torch.no_grad():
        step._weights.encoder_bias_n.fill_(-100.0)  # nothing fires: no gradient but the decoder bias's
    for number in range(2, 302):
        step.step(still, None, adam(step=number))
    step.close()
    assert float(moments[1].encoder_nd.double().sum() / before) == pytest.approx(0.999**300, rel=0.01)


def test_batches_of_two_sizes_and_weights_changed_from_outside() -> None:
    case = Case(SMALL)
    parts = case.weights.clone(), case.first.clone(), case.second.clone()
    step = FusedStep(parts[0], parts[1:], case.k, 2, low=True)
    step.step(case.data_nd[case.rows_b].numpy(), None, adam(step=7))
    step.step(case.data_nd[case.rows_b[:-1]].numpy(), None, adam(step=8))
    with torch.no_grad():
        parts[0].copy_from(case.weights)
    step.refresh()
    again = step.step(case.data_nd[case.rows_b].numpy(), None, adam(step=9)).mse
    step.close()
    assert again == case.fused(adam(), low=True)[3]
