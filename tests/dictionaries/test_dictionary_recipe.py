"""The knobs of the recipe, one by one: what each does, against a twin that does it the slow way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import minimize

from antar.core.errors import AntarWarning, UserError
from antar.core.machine import cpu_flags
from antar.dictionaries import DictionaryConfig, TopK, compute, evaluate, preset, train_dictionary
from antar.dictionaries import compute as compute_module
from antar.dictionaries.data import fit_scaling
from antar.dictionaries.dead import DeadTracker
from antar.dictionaries.prebias import geometric_median
from antar.dictionaries.redraw import residual_rows
from antar.dictionaries.schedule import learning_rate
from antar.dictionaries.trainer import TrainedDictionary, Training

sys.path.insert(0, str(Path(__file__).parent))
from harness import count, killed_in_epoch

D = 24


def acts(rows: int, seed: int = 0, offset: float = 3.0) -> np.ndarray:
    """Sparse sums of 40 directions, off centre."""
    rng = np.random.default_rng(seed)
    directions_md = rng.standard_normal((40, D))
    strength_nm = (rng.random((rows, 40)) < 0.1) * (0.5 + rng.random((rows, 40)))
    noise_nd = 0.02 * rng.standard_normal((rows, D))
    return (strength_nm @ directions_md + noise_nd + offset * rng.standard_normal(D)).astype(np.float32)


def small(**overrides: Any) -> DictionaryConfig:
    fields = {"n_latents": 64, "k": 6, "k_aux": 16, "lr": 5e-3, "batch": 64, "max_epochs": 12,
              "check_every_epochs": 3, "threads": 1, "device": "cpu"}  # fmt: skip
    return preset(overrides.pop("preset", "antar"), **{**fields, **overrides})


def training_of(acts_nd: np.ndarray, **overrides: Any) -> Training:
    cfg = small(**overrides)
    return Training(acts_nd, acts_nd, fit_scaling(acts_nd, cfg.normalise), cfg, 0)


def train(cfg: DictionaryConfig, *, checkpoint: Path | None = None, rows: int = 500) -> TrainedDictionary:
    acts_nd = acts(rows)
    return train_dictionary(acts_nd[100:], acts_nd[:100], cfg, seed=1, checkpoint=checkpoint, title="test")


def same_bits(a: TopK, b: TopK) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.weights.tensors(), b.weights.tensors(), strict=True))


# --- the start of the decoder bias ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_geometric_median_is_the_point_of_least_mean_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows_nd = rng.standard_normal((60, 4)) * [1, 3, 0.2, 1]
    rows_nd[:5] *= 40  # a few far away, which would move a mean

    def distance(point_d: np.ndarray) -> float:
        return float(np.linalg.norm(rows_nd - point_d, axis=1).mean())

    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000}
    best = minimize(distance, rows_nd.mean(0), method="Nelder-Mead", options=options)
    found_d = geometric_median(rows_nd)
    np.testing.assert_allclose(found_d, best.x, atol=1e-5)
    assert distance(found_d) <= best.fun + 1e-12
    pull_d = ((rows_nd - found_d) / np.linalg.norm(rows_nd - found_d, axis=1, keepdims=True)).mean(0)
    assert np.linalg.norm(pull_d) < 1e-6


def test_geometric_median_at_a_row_and_of_equal_rows() -> None:
    """Where it is one of the rows Weiszfeld divides by zero; where an iterate merely meets one, it must go on."""
    cross_nd = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    np.testing.assert_allclose(geometric_median(cross_nd), [0, 0], atol=1e-9)
    held_nd = np.array([[0.0, 0], [0, 0], [0, 0], [4, 1], [5, -1]])  # three of five are at one point
    np.testing.assert_allclose(geometric_median(held_nd), [0, 0], atol=1e-6)
    # The mean, where it starts, is a row; the answer is elsewhere.
    line_nd = np.array([[0.0], [1], [2], [7], [2.5]]) - 2.5
    assert line_nd.mean() == 0
    np.testing.assert_allclose(geometric_median(line_nd), [-0.5], atol=1e-6)
    np.testing.assert_array_equal(geometric_median(np.full((9, 3), 4.0)), [4, 4, 4])


def test_pre_bias_says_where_the_decoder_bias_starts() -> None:
    acts_nd = acts(400)
    acts_nd[:8] *= 30
    raw = {name: training_of(acts_nd, normalise=False, pre_bias=name).weights.decoder_bias_d.numpy()
           for name in ("mean", "geometric_median", "zero")}  # fmt: skip
    np.testing.assert_allclose(raw["mean"], acts_nd.astype(np.float64).mean(0), rtol=1e-5)
    assert not raw["zero"].any()
    without_d = acts_nd[8:].astype(np.float64).mean(0)
    assert np.linalg.norm(raw["geometric_median"] - without_d) < 0.5 * np.linalg.norm(raw["mean"] - without_d)
    scaled = {name: training_of(acts_nd, pre_bias=name) for name in ("mean", "geometric_median", "zero")}
    assert not scaled["mean"].weights.decoder_bias_d.any() and not scaled["zero"].weights.decoder_bias_d.any()
    scaling = scaled["mean"].scaling
    folded_d = scaled["geometric_median"].weights.decoder_bias_d.numpy() * scaling.scale + scaling.centre_d
    np.testing.assert_allclose(folded_d, raw["geometric_median"], rtol=1e-3, atol=1e-3)


def test_the_geometric_median_of_many_texts_is_that_of_a_named_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from antar.dictionaries import prebias

    monkeypatch.setattr(prebias, "SAMPLE_ROWS", 50)
    first, again = (training_of(acts(300), pre_bias="geometric_median").weights.decoder_bias_d for _ in range(2))
    assert torch.equal(first, again)
    monkeypatch.setattr(prebias, "SAMPLE_ROWS", 5000)
    assert not torch.equal(first, training_of(acts(300), pre_bias="geometric_median").weights.decoder_bias_d)


# --- optimiser and learning rate ------------------------------------------------------------------------------


def rates(planned: int, **options: Any) -> list[float]:
    cfg = small(lr=1.0, warmup_steps=4, warmup_share=1.0, **options)
    return [learning_rate(cfg, step, planned) for step in range(1, planned + 1)]


def test_the_learning_rate_rises_over_the_warm_up_and_falls_over_its_share_to_zero() -> None:
    assert rates(8) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    # The last half: a straight line that would be 0 one step after the last.
    assert rates(8, decay="linear", decay_share=0.5) == pytest.approx([0.25, 0.5, 0.75, 1, 0.8, 0.6, 0.4, 0.2])
    cosine = rates(8, decay="cosine", decay_share=0.5)
    assert cosine[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert cosine[4:] == pytest.approx([0.5 - 0.5 * np.cos(np.pi * left) for left in (0.8, 0.6, 0.4, 0.2)])
    assert min(rates(8, decay="linear", decay_share=1.0)) > 0  # no step is taken for nothing


def test_a_decay_that_starts_within_the_warm_up_acts_on_what_the_warm_up_gives() -> None:
    assert rates(4, decay="linear", decay_share=1.0) == pytest.approx([0.25 * 0.8, 0.5 * 0.6, 0.75 * 0.4, 0.2])


def test_training_takes_the_rate_of_its_own_planned_steps() -> None:
    training = training_of(acts(128), max_epochs=5, decay="linear", decay_share=0.5, warmup_steps=1, path="torch")
    assert training.planned == 10
    found = []
    for _ in range(10):
        training.step(training.train_nd[:64])
        found.append(training.stepper.optimiser.param_groups[0]["lr"] / 5e-3)
    assert found == pytest.approx([1, 1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_adam_is_adamw_without_the_decay_and_refuses_one() -> None:
    assert small(optimiser="adam").weight_decay == 0
    assert small(optimiser="adam", preset="published").weight_decay == 0
    with pytest.raises(ValidationError, match=r"weight_decay: expected 0 with optimiser adam, found 0\.1"):
        small(optimiser="adam", weight_decay=0.1)
    adam, adamw = train(small(optimiser="adam")), train(small(weight_decay=0.0))
    assert same_bits(adam.dictionary, adamw.dictionary)
    assert not same_bits(adam.dictionary, train(small()).dictionary)


def test_an_encoder_row_that_gets_no_gradient_shrinks_by_the_decoupled_decay_alone() -> None:
    training = training_of(acts(128), weight_decay=2.0, warmup_steps=0, auxk_coefficient=0.0, k=1)
    before = training.weights.clone()
    training.step(training.train_nd[:16])
    still = training.moments()[0].encoder_nd.abs().sum(1) == 0
    assert still.any() and not still.all()
    torch.testing.assert_close(training.weights.encoder_nd[still], (1 - 5e-3 * 2.0) * before.encoder_nd[still])
    torch.testing.assert_close(training.weights.decoder_nd[still], before.decoder_nd[still])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
        ({"eps": 0}, "eps"),
        ({"decay": "step"}, "decay"),
        ({"decay_share": 0}, "decay_share"),
        ({"dead_window_epochs": 0.5}, "dead_window_epochs"),
        ({"pre_bias": "median"}, "pre_bias"),
    ],
)
def test_settings_outside_their_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        small(**given)


# --- stopping and dead windows --------------------------------------------------------------------------------


def test_training_stops_by_held_out_fvu_with_patience() -> None:
    """The validation split is one, so FVU and MSE order the checks alike; the decisions follow from `val_fvu`."""
    acts_nd = acts(160)
    for patience in (1, 2, 4):
        cfg = small(max_epochs=400, check_every_epochs=5, patience=patience, lr=1e-2, k=12, min_delta=0.02)
        found = train_dictionary(acts_nd[:60], acts_nd[60:], cfg, seed=0, checkpoint=None, title="test")
        fvu = found.history["val_fvu"].to_list()
        best, waited, stop = float("inf"), 0, None
        for number, value in enumerate(fvu):
            waited = 0 if value < best * (1 - cfg.min_delta) else waited + 1
            best = min(best, value)
            if waited >= patience:
                stop = number
                break
        assert stop == len(fvu) - 1 and found.facts["stopped_early"]
        assert found.facts["best_val_fvu"] == pytest.approx(min(fvu))
        assert found.facts["best_epoch"] == found.history["epoch"][int(np.argmin(fvu))]
        ratio = found.history["val_mse"] / found.history["val_fvu"]
        assert ratio.min() == pytest.approx(ratio.max())


def test_the_dead_window_may_be_longer_than_an_epoch() -> None:
    whole = DeadTracker(small(n_latents=4, k=1), 3, torch.device("cpu"))
    assert (whole.window_steps, small().dead_window_epochs) == (3, 1)
    tracker = DeadTracker(small(n_latents=4, k=1, dead_window_epochs=1.5), 3, torch.device("cpu"))
    assert tracker.window_steps == 5  # a window that ends within a step takes it in
    for step, latent in enumerate([0, 0, 0, 1, 0], start=1):
        assert tracker.aux is None
        count(tracker, torch.tensor([[latent]]), torch.ones(1, 1))
        tracker.end_of_step(step)
    assert tracker.dead_now().tolist() == [2, 3]  # latent 1 fired outside the first epoch, within the window


def test_a_window_of_more_epochs_than_the_training_has_is_said() -> None:
    with pytest.warns(AntarWarning, match=r"longer than the whole training .* lower dead_window_epochs"):
        train(small(max_epochs=2, dead_window_epochs=3))


# --- resets ---------------------------------------------------------------------------------------------------


def test_texts_are_drawn_without_replacement_in_proportion_to_their_squared_loss() -> None:
    x_nd = torch.eye(5) * torch.tensor([1.0, 2.0, 3.0, 0.0, 1.5]).sqrt()  # loss of row i under a zero reconstruction
    probability_n = torch.tensor([1.0, 4.0, 9.0, 0.0, 2.25]) / 16.25
    counts_n = torch.zeros(5)
    for seed in range(4000):
        generator = torch.Generator().manual_seed(seed)
        counts_n += residual_rows(x_nd, torch.zeros_like, 1, generator)[0]
    np.testing.assert_allclose(counts_n / 4000, probability_n, atol=0.03)
    everyone = residual_rows(x_nd, torch.zeros_like, 9, torch.Generator().manual_seed(0))
    assert torch.equal(everyone.sum(0), torch.tensor([1.0, 1, 1, 0, 1]))  # each once, the perfect one never


def test_residual_rows_are_what_the_dictionary_leaves_over() -> None:
    training = training_of(acts(200))
    training.run_epoch()
    rows_md = residual_rows(training.train_nd, training._reconstruct(0.0), 7, torch.Generator().manual_seed(1))
    left_nd = training.train_nd - training._reconstruct(0.0)(training.train_nd)
    left_nd = left_nd / left_nd.norm(dim=1, keepdim=True)
    cosines_mn = rows_md @ left_nd.T
    torch.testing.assert_close(cosines_mn.max(1).values, torch.ones(7))
    assert len(cosines_mn.argmax(1).unique()) == 7


def test_a_reset_to_residuals_changes_exactly_the_dead_rows_and_their_two_moments() -> None:
    """PITFALLS: a reset written to a copy, and an optimiser rebuilt whole; for this kind of reset too."""
    training = training_of(acts(300), reset_to="residual", reset_scale=0.3)
    for _ in range(4):
        training.run_epoch()
    dead = [3, 17, 18, 40, 63]
    mask_n = torch.zeros(64, dtype=torch.bool).index_fill_(0, torch.tensor(dead), True)
    training.dead.restore(mask_n, training.dead.fired_window_n.clone(), 0)
    before = [w.clone() for w in (training.weights, *training.moments())]
    training.reset()
    after = (training.weights, *training.moments())
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.decoder_bias_d, new.decoder_bias_d)
        for o, n in zip(old.tensors()[:3], new.tensors()[:3], strict=True):
            assert torch.equal(o[~mask_n], n[~mask_n])
    for old, moment in zip(before[1:], after[1:], strict=True):
        assert old.encoder_nd[mask_n].any() and old.decoder_nd[mask_n].any()
        assert not any(tensor[mask_n].any() for tensor in moment.tensors()[:3])
    new = training.weights
    assert (before[0].decoder_nd[mask_n] != new.decoder_nd[mask_n]).any(1).all()
    torch.testing.assert_close(new.decoder_nd[mask_n].norm(dim=1), torch.ones(5))
    length = 0.3 * new.encoder_nd[~mask_n].norm(dim=1).mean()
    torch.testing.assert_close(new.encoder_nd[mask_n], length * new.decoder_nd[mask_n])
    assert not new.encoder_bias_n[mask_n].any()
    assert training.at.resets == 5 and training.dead.aux is None


@pytest.mark.parametrize("kind", ["batchtopk", "crosscoder"])
def test_other_kinds_are_reset_to_what_they_themselves_leave_over(kind: str) -> None:
    acts_nd = np.concatenate([acts(200), acts(200, seed=1)], axis=1)
    cfg = small(reset_to="residual", reset_every_steps=5, dead_window_epochs=1.0, k=2, max_epochs=4)
    found = train_dictionary(acts_nd, acts_nd[:50], cfg, seed=0, checkpoint=None, title="test", kind=kind)
    assert found.facts["resets"] > 0
    np.testing.assert_allclose(np.linalg.norm(found.dictionary.decoder_nd, axis=1), 1, atol=1e-5)
    again = train_dictionary(acts_nd, acts_nd[:50], cfg, seed=0, checkpoint=None, title="test", kind=kind)
    np.testing.assert_array_equal(found.dictionary.decoder_nd, again.dictionary.decoder_nd)


def test_more_dead_latents_than_poor_texts_draw_the_rest_as_at_the_start() -> None:
    training = training_of(acts(12), reset_to="residual")
    training.run_epoch()
    training.dead.restore(torch.ones(64, dtype=torch.bool), training.dead.fired_window_n.clone(), 0)
    training.reset()
    lengths_n = training.weights.encoder_nd.norm(dim=1)
    torch.testing.assert_close(lengths_n[:12], torch.full((12,), 0.2))  # nobody is alive: a share of 1
    torch.testing.assert_close(lengths_n[12:], torch.ones(52))
    cosines_nn = training.weights.decoder_nd @ training.weights.decoder_nd.T
    assert float((cosines_nn - torch.eye(64)).max()) < 0.999  # no two alike


# --- killed and resumed, under every knob ---------------------------------------------------------------------


KNOBS: dict[str, dict[str, Any]] = {
    "adam and decay": {"optimiser": "adam", "betas": (0.8, 0.99), "decay": "cosine", "decay_share": 0.7},
    "a window that ends within epochs": {"dead_window_epochs": 1.4, "decay": "linear"},
    "geometric median": {"pre_bias": "geometric_median", "normalise": False, "eps": 1e-6},
    "bf16": {"compute": "bf16"},
    "reset to residuals": {
        "preset": "published",
        "reset_to": "residual",
        "dead_window_steps": 15,
        "dead_share": 0.02,
        "reset_every_steps": 17,
        "lr": 1e-2,
        "warmup_steps": 2,
    },
}


@pytest.mark.parametrize("knob", KNOBS)
def test_a_killed_training_goes_on_to_the_same_bits_under_each_knob(
    knob: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = small(**KNOBS[knob])
    whole = train(cfg)
    for epoch in (4, 8):
        with killed_in_epoch(epoch, monkeypatch):
            train(cfg, checkpoint=tmp_path)
    ran: list[int] = []
    run_epoch = Training.run_epoch
    monkeypatch.setattr(Training, "run_epoch", lambda self: (ran.append(self.at.epoch), run_epoch(self))[1])
    resumed = train(cfg, checkpoint=tmp_path)
    assert ran[0] == 6
    assert same_bits(whole.dictionary, resumed.dictionary)
    assert whole.history.equals(resumed.history) and whole.facts == resumed.facts
    assert (whole.facts["resets"] > 0) == ("reset" in knob)


# --- precision and path ---------------------------------------------------------------------------------------


@pytest.fixture
def _speaks_again() -> Iterator[None]:
    compute._say_fp32.cache_clear()
    yield
    compute._say_fp32.cache_clear()


@pytest.mark.parametrize(
    ("asked", "n_latents", "cpu_has", "expected"),
    [
        ("auto", 2**11, True, "bf16"),
        ("auto", 2**11 - 1, True, "fp32"),  # too small to gain
        ("auto", 2**11, False, "fp32"),
        ("bf16", 64, False, "bf16"),  # as asked
        ("fp32", 2**11, True, "fp32"),
    ],
)
@pytest.mark.usefixtures("_speaks_again")
def test_auto_takes_bf16_where_the_cpu_has_it_and_the_dictionary_is_large(
    asked: Any, n_latents: int, cpu_has: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "cpu_has_bf16", lambda: cpu_has)
    cfg = small(compute=asked, n_latents=n_latents)
    assert compute.precision_of(cfg, 2**9, torch.device("cpu")) == expected


@pytest.mark.usefixtures("_speaks_again")
def test_a_cpu_without_bf16_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compute, "cpu_has_bf16", lambda: False)
    for _ in range(3):
        compute.precision_of(small(n_latents=2**11), 2**9, torch.device("cpu"))
    assert capsys.readouterr().err.count("trained in fp32") == 1


def test_flags_are_read_where_the_system_tells_them(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor: 0\nflags\t\t: fpu avx2 avx512_bf16\nbugs: none\n", encoding="utf-8")
    assert cpu_flags(path) == {"fpu", "avx2", "avx512_bf16"}
    path.write_text("processor: 0\nFeatures: asimd bf16\n", encoding="utf-8")
    assert cpu_flags(path) == cpu_flags(tmp_path / "absent") == frozenset()


def test_a_product_in_bf16_is_rounded_and_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    left_bd, rows_nd = torch.randn(16, 200, generator=generator), torch.randn(50, 200, generator=generator)
    exact_bn = left_bd.double() @ rows_nd.double().T
    scale_bn = left_bd.norm(dim=1, keepdim=True) @ rows_nd.norm(dim=1, keepdim=True).T
    found_bn = compute.times_rows(left_bd, rows_nd, "bf16")
    assert found_bn.dtype == torch.bfloat16
    error_bn = (found_bn.double() - exact_bn).abs()
    assert float(error_bn.max()) > 1e-4
    assert bool((error_bn <= 2**-8 * (exact_bn.abs() + scale_bn)).all())
    assert torch.equal(compute.times_rows(left_bd, rows_nd, "fp32"), left_bd @ rows_nd.T)


def test_bf16_trains_as_well_and_is_measured_as_it_will_be_used() -> None:
    acts_nd = acts(900)
    run: dict[str, Any] = {"seed": 0, "checkpoint": None, "title": "test"}
    full, rounded = (
        train_dictionary(acts_nd[200:], acts_nd[:200], small(compute=name), **run) for name in ("fp32", "bf16")
    )
    assert (full.facts["compute"], rounded.facts["compute"]) == ("fp32", "bf16")
    assert not same_bits(full.dictionary, rounded.dictionary)
    assert rounded.facts["best_val_fvu"] == pytest.approx(full.facts["best_val_fvu"], rel=0.03)
    part = evaluate(rounded.dictionary, acts_nd, {"val": np.arange(200)})["parts"]["val"]
    assert rounded.facts["best_val_fvu"] == pytest.approx(part["fvu"], rel=1e-4)  # fp32, as it encodes
    assert same_bits(full.dictionary, train_dictionary(acts_nd[200:], acts_nd[:200], small(), **run).dictionary)


def test_a_path_that_is_not_there_is_one_line_and_auto_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_module, "have_numba", lambda: False)
    with pytest.raises(UserError, match=r"dictionaries\.path: fused needs a CPU and numba, found no numba"):
        train(small(path="fused"))
    assert train(small(path="auto", max_epochs=1)).facts["path"] == "torch"
    with pytest.raises(UserError, match=r"dictionaries\.moments: bf16 needs the fused step"):
        train(small(moments="bf16"))
    with pytest.raises(ValidationError, match="expected fp32 with path torch"):
        small(moments="bf16", path="torch")
    assert train(small(path="torch", max_epochs=1)).facts["path"] == "torch"
