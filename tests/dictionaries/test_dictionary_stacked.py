"""Dictionaries trained in a stack: each is what the single trainer makes of its rows, whoever is in the stack."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from antar.core.errors import AntarWarning, UserError
from antar.dictionaries import DictionaryConfig, preset, remove_checkpoint, train_dictionary
from antar.dictionaries.auxk import AuxK
from antar.dictionaries.checkpoint import CHECKPOINT_FILE
from antar.dictionaries.data import steps_per_epoch
from antar.dictionaries.loss import gradients as single_gradients
from antar.dictionaries.stacked import StackedJob, group_by_shape, largest_stack, train_stacked
from antar.dictionaries.stacked import train as train_module
from antar.dictionaries.stacked.graphs import Runner, Step
from antar.dictionaries.stacked.jobs import fit_scalings, fitting
from antar.dictionaries.stacked.state import StackState, stack_weights
from antar.dictionaries.stacked.step import Batch, Products, Slots, bucket, gradients
from antar.dictionaries.stacked.train import StackedTraining
from antar.dictionaries.stacked.update import Update, adam_rows_plain_, check_kernels, rate_table, squares_plain
from antar.dictionaries.trainer import TrainedDictionary
from antar.dictionaries.weights import initial_weights

CPU = torch.device("cpu")
FP32 = torch.float32


def planted(rows: int, seed: int, d: int = 32, directions: int = 40, active: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth_md = rng.standard_normal((directions, d))
    truth_md /= np.linalg.norm(truth_md, axis=1, keepdims=True)
    strength_nm = (rng.random((rows, directions)) < active / directions) * (0.5 + rng.random((rows, directions)))
    noise_nd = 0.02 * rng.standard_normal((rows, d))
    scale = 3 + 4 * seed
    return (scale * (strength_nm @ truth_md + noise_nd) + 3 * rng.standard_normal(d)).astype(np.float32)


def small(**overrides: Any) -> DictionaryConfig:
    fields = {
        "n_latents": 256, "k": 2, "k_aux": 16, "lr": 3e-3, "batch": 64, "max_epochs": 6, "check_every_epochs": 2,
        "threads": 1, "device": "cpu", "path": "torch", "compute": "fp32",
    }  # fmt: skip
    return preset("antar", **{**fields, **overrides})


RECIPES = {
    # 256 latents and 700 texts: about 20 are dead at the first check and 50 at the last, in 64 and 128 slots; AuxK
    # takes 16 of them at once.
    "antar": small(),
    "antar, no clip": small(clip=0.0, weight_decay=0.1),
    "antar, all dead in AuxK": small(k_aux=256),
    # A window of 25 steps and a reset every 45: neither ends with an epoch of 10 steps or a check of 20.
    "published": small(
        preset="published", dead_window_steps=25, dead_share=0.004, reset_every_steps=45, warmup_steps=9
    ),
    "residual resets": small(
        preset="published",
        dead_window_steps=25,
        dead_share=0.004,
        reset_every_steps=45,
        warmup_steps=9,
        reset_to="residual",
    ),
    # Everything that a recipe can set, and windows of two epochs and a bit, so that a check falls into one.
    "other": small(
        optimiser="adam",
        betas=(0.8, 0.99),
        eps=1e-6,
        decay="cosine",
        decay_share=0.5,
        normalise=False,
        lr=1e-3,
        pre_bias="geometric_median",
        dead_window_epochs=1.2,
        batch=70,
    ),
    "no AuxK": small(auxk_coefficient=0.0, normalise=False, lr=1e-3),
}


def jobs_of(rows: Sequence[int] = (700, 700, 700), val: int = 90) -> list[StackedJob]:
    """One job for each entry: other data, other seed."""
    made: list[StackedJob] = []
    for number, n in enumerate(rows):
        acts_nd = planted(n + val, number)
        made.append(StackedJob(f"job{number}", acts_nd, np.arange(val, val + n), np.arange(val), seed=10 + number))
    return made


def alone(job: StackedJob, cfg: DictionaryConfig) -> TrainedDictionary:
    rows = (job.acts_nd[job.train_rows], job.acts_nd[job.val_rows])
    return train_dictionary(*rows, cfg, seed=job.seed, checkpoint=None, title="test", floor=job.floor)


def stacked(jobs: Sequence[StackedJob], cfg: DictionaryConfig, **options: Any) -> list[TrainedDictionary]:
    settings: dict[str, Any] = {"device": CPU, "checkpoint": None, "title": "test", "checkpoint_seconds": 0.0}
    return train_stacked(jobs, cfg, **settings | options)


def training_of(jobs: Sequence[StackedJob], cfg: DictionaryConfig) -> StackedTraining:
    return StackedTraining(jobs, fit_scalings(jobs, cfg), cfg, CPU)


def assert_same(found: TrainedDictionary, expected: TrainedDictionary, tolerance: float) -> None:
    """The same training to rounding: which check was best, who was dead, and the weights."""
    assert found.facts.keys() == expected.facts.keys()
    for name, value in expected.facts.items():
        value = "stacked" if name == "path" else value
        assert found.facts[name] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value), name
    assert found.history.schema == expected.history.schema and found.history.height == expected.history.height
    for name in ("epoch", "step", "dead", "resets", "best", "live_share"):
        assert found.history[name].to_list() == expected.history[name].to_list(), name
    for name in ("train_mse", "val_mse", "val_fvu"):
        np.testing.assert_allclose(found.history[name], expected.history[name], rtol=tolerance)
    # In norm: where two latents are as good to the last bit, one row may differ visibly.
    for mine, theirs in zip(found.dictionary.weights.tensors(), expected.dictionary.weights.tensors(), strict=True):
        assert float((mine - theirs).norm()) <= 10 * tolerance * float(theirs.norm())


def same_bits(a: TrainedDictionary, b: TrainedDictionary) -> bool:
    pairs = zip(a.dictionary.weights.tensors(), b.dictionary.weights.tensors(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs) and a.history.equals(b.history) and a.facts == b.facts


# --- equal to the single trainer ------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_dictionary_of_a_stack_is_what_the_single_trainer_makes(recipe: str) -> None:
    cfg = RECIPES[recipe]
    jobs = jobs_of()
    for job, found in zip(jobs, stacked(jobs, cfg), strict=True):
        expected = alone(job, cfg)
        assert expected.history["dead"].max() > 0
        if RECIPES[recipe].reset_every_steps:
            assert expected.facts["resets"] > 0
        assert_same(found, expected, 1e-4)


def test_folds_with_other_numbers_of_rows_share_a_stack_and_an_array() -> None:
    cfg = RECIPES["antar"]
    acts_nd = planted(800, 3)
    rng = np.random.default_rng(0)
    jobs = [
        StackedJob(f"fold{n}", acts_nd, np.sort(rng.permutation(700)[:rows]), np.arange(700, 800), seed=n)
        for n, rows in enumerate((641, 677, 640 + 64))
    ]
    assert len({steps_per_epoch(len(job.train_rows), cfg.batch) for job in jobs}) == 1
    training = training_of(jobs, cfg)
    assert training.rows.raw_nd.shape == (800, 32)  # held once
    for job, found in zip(jobs, stacked(jobs, cfg), strict=True):
        assert_same(found, alone(job, cfg), 1e-4)


@pytest.mark.parametrize("k_aux", [3, 200])
@pytest.mark.parametrize("normalised", [True, False])
def test_gradients_are_those_of_the_single_trainer_in_fp64(k_aux: int, normalised: bool) -> None:
    """Padded batches, other numbers of dead latents, some of them awake: every parameter, to 1e-12."""
    cfg = small(k=4, k_aux=k_aux, auxk_normalised=normalised)
    generator = torch.Generator().manual_seed(0)
    dictionaries = [initial_weights(cfg, 32, seed).map(Tensor.double) for seed in range(3)]
    for weights in dictionaries:
        for tensor in weights.tensors():
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
    x_sbd = torch.randn(3, 20, 32, generator=generator, dtype=torch.float64)
    sizes, n_dead = (20, 19, 15), (70, 5, 0)
    live_sb = (torch.arange(20) < torch.tensor(sizes)[:, None]).double()
    dead_sn = torch.zeros(3, 256, dtype=torch.bool)
    for s, many in enumerate(n_dead):
        dead_sn[s, torch.randperm(256, generator=generator)[:many]] = True
    slots = Slots.empty(3, bucket(70, 256), CPU)
    slots.fill_(dead_sn)
    awake = int(dead_sn[0].nonzero()[7])
    asleep_sm = slots.filled_sm & ~((slots.latents_sm == awake) & (torch.arange(3) == 0)[:, None])
    weights = stack_weights(dictionaries, CPU)
    low = (weights.encoder_nd, weights.decoder_nd)
    out = gradients(weights, low, Batch.of(x_sbd, live_sb), asleep_sm, slots, cfg, Products(torch.float64, CPU))
    for s, one in enumerate(dictionaries):
        dead_m = dead_sn[s].nonzero().squeeze(1)
        aux = AuxK(dead_m, dead_m != (awake if s == 0 else -1), k_aux, cfg.auxk_coefficient, normalised)
        single = single_gradients(one, x_sbd[s, : sizes[s]], cfg.k, aux)
        for found, expected in zip(out.gradients.tensors(), single.gradients.tensors(), strict=True):
            torch.testing.assert_close(found[s], expected, rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(out.mse_s[s], single.mse)
        fired_n = torch.zeros(256, dtype=torch.int32)
        fired_n.scatter_add_(0, single.indices_bk.reshape(-1), (single.values_bk > 0).reshape(-1).int())
        assert torch.equal(out.fired_sn[s], fired_n)
    # Dead rows do get a gradient, and a row that is awake and did not fire gets none.
    dead = int(dead_sn[1].nonzero()[0])
    assert out.gradients.encoder_nd[1, dead].any() or out.gradients.decoder_nd[1, dead].any()
    assert out.fired_sn[0, awake] or not out.gradients.encoder_nd[0, awake].any()


def test_the_update_is_torchs_adamw_after_its_clipping() -> None:
    """Moments and weights of three dictionaries after a few steps, each beside its own torch optimiser."""
    generator = torch.Generator().manual_seed(1)
    cfg = small(
        n_latents=8,
        clip=0.5,
        weight_decay=0.1,
        lr=5e-2,
        warmup_steps=5,
        warmup_share=1.0,
        betas=(0.8, 0.99),
        eps=1e-6,
    )
    start = [initial_weights(cfg, 6, seed) for seed in range(3)]
    weights = stack_weights(start, CPU)
    moments = (weights.map(torch.zeros_like), weights.map(torch.zeros_like))
    table = rate_table(cfg, 5, CPU)
    singles = [[tensor.clone() for tensor in one.tensors()] for one in start]
    optimisers = [
        torch.optim.AdamW(one, lr=1.0, betas=cfg.betas, eps=cfg.eps, weight_decay=0.1, fused=True) for one in singles
    ]

    def drawn(like: Tensor) -> Tensor:
        sizes = torch.tensor([1e-3, 1, 50]).view(3, *[1] * (like.ndim - 1))
        return sizes * torch.randn(like.shape, generator=generator)

    for step in range(5):
        grads = weights.map(drawn)
        before = [one[2].clone() for one in singles]
        for s, (one, optimiser) in enumerate(zip(singles, optimisers, strict=True)):
            for tensor, gradient in zip(one, grads.tensors(), strict=True):
                tensor.grad = gradient[s].clone()
            decoder_grad = one[2].grad
            assert decoder_grad is not None
            decoder_grad.sub_((decoder_grad * before[s]).sum(1, keepdim=True) * before[s])
            torch.nn.utils.clip_grad_norm_(one, 0.5)
            optimiser.param_groups[0]["lr"] = 1e-2 * (step + 1)
            optimiser.step()
            one[2].div_(one[2].norm(dim=1, keepdim=True))
        Update(cfg.clip, cfg.betas, cfg.eps)(
            weights, (weights.encoder_nd, weights.decoder_nd), moments, grads, table[step]
        )
    for s, (one, optimiser) in enumerate(zip(singles, optimisers, strict=True)):
        for i, tensor in enumerate(one):
            torch.testing.assert_close(weights.tensors()[i][s], tensor.detach())
            torch.testing.assert_close(moments[0].tensors()[i][s], optimiser.state[tensor]["exp_avg"])
            torch.testing.assert_close(moments[1].tensors()[i][s], optimiser.state[tensor]["exp_avg_sq"])


def test_bf16_products_give_the_same_quality_and_unit_rows() -> None:
    cfg = small(k=6)
    jobs = jobs_of()
    in_bf16 = stacked(jobs, cfg.model_copy(update={"compute": "bf16"}))
    for low, full in zip(in_bf16, stacked(jobs, cfg), strict=True):
        assert not same_bits(low, full)
        np.testing.assert_allclose(low.history["val_fvu"], full.history["val_fvu"], rtol=0.03)
        lengths_n = np.linalg.norm(low.dictionary.decoder_nd.astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths_n, 1, atol=1e-6)


# --- a dictionary does not depend on who is with it -----------------------------------------------------------


def test_neither_the_order_of_the_jobs_nor_their_company_matters() -> None:
    cfg = RECIPES["antar"]
    jobs = jobs_of()
    found = stacked(jobs, cfg)
    for number, job in enumerate(jobs):
        assert_same(stacked([job], cfg)[0], found[number], 1e-4)
    for mine, theirs in zip(stacked(jobs[::-1], cfg)[::-1], found, strict=True):
        assert_same(mine, theirs, 1e-4)


def stopping() -> tuple[list[StackedJob], DictionaryConfig]:
    """Three jobs of which the second, noise that cannot be learnt, stops long before the others."""
    cfg = small(max_epochs=8, check_every_epochs=1, patience=1, min_delta=0.001, lr=3e-3)
    jobs = jobs_of()
    noise_nd = np.random.default_rng(9).standard_normal((790, 32)).astype(np.float32)
    noise_nd[:90] *= 1e-3  # rows whose best reconstruction is the mean: training can only harm it
    jobs[1] = dataclasses.replace(jobs[1], acts_nd=noise_nd)
    return jobs, cfg


def test_a_dictionary_that_stops_keeps_its_best_weights_while_the_others_go_on() -> None:
    jobs, cfg = stopping()
    found = stacked(jobs, cfg)
    assert found[1].facts["stopped_early"] and found[1].facts["epochs"] < 8
    assert found[0].facts["epochs"] == found[2].facts["epochs"] == 8
    for job, mine in zip(jobs, found, strict=True):
        assert_same(mine, alone(job, cfg), 1e-4)


# --- killed and resumed ---------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@contextmanager
def killed_in_epoch(epoch: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every training dies three steps into `epoch`."""
    step = StackState.step
    steps: list[int] = []

    def dying(self: StackState) -> None:
        steps.append(int(self._batch_at))
        if steps[-1] == 3 and train_at[0].epoch == epoch:
            raise Killed
        step(self)

    train_at: list[StackedTraining] = []
    run_epoch = StackedTraining.run_epoch

    def watched(self: StackedTraining, stack: StackState) -> None:
        train_at[:] = [self]
        run_epoch(self, stack)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StackState, "step", dying)
        patch.setattr(StackedTraining, "run_epoch", watched)
        yield


@pytest.mark.parametrize("recipe", ["antar", "published", "other", "one stops"])
def test_a_killed_stack_goes_on_to_the_same_bits(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, cfg = stopping() if recipe == "one stops" else (jobs_of(), RECIPES[recipe])
    whole = stacked(jobs, cfg)
    for epoch in (1, 3, 5):
        with killed_in_epoch(epoch, monkeypatch):
            stacked(jobs, cfg, checkpoint=tmp_path)
    ran: list[int] = []
    run_epoch = StackedTraining.run_epoch
    monkeypatch.setattr(
        StackedTraining, "run_epoch", lambda self, stack: (ran.append(self.epoch), run_epoch(self, stack))[1]
    )
    resumed = stacked(jobs, cfg, checkpoint=tmp_path)
    assert ran[0] == (5 if recipe == "one stops" else 4)  # it did go on from the last check
    assert all(same_bits(a, b) for a, b in zip(resumed, whole, strict=True))
    ran.clear()
    assert all(same_bits(a, b) for a, b in zip(stacked(jobs, cfg, checkpoint=tmp_path), whole, strict=True))
    assert not ran
    remove_checkpoint(tmp_path)
    assert not tmp_path.exists()


def test_a_part_of_the_jobs_takes_its_part_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a kill while the results were written: those that were written are not asked for again."""
    jobs, cfg = stopping()
    whole = stacked(jobs, cfg)
    with killed_in_epoch(6, monkeypatch):
        stacked(jobs, cfg, checkpoint=tmp_path)
    parts = stacked([jobs[2], jobs[1]], cfg, checkpoint=tmp_path)
    assert_same(parts[0], whole[2], 1e-4)
    assert same_bits(parts[1], whole[1])  # it had stopped
    other = dataclasses.replace(jobs[0], seed=99)
    assert same_bits(stacked([other], cfg, checkpoint=tmp_path)[0], stacked([other], cfg)[0])
    assert "belongs to other dictionaries" in capsys.readouterr().err


def test_a_checkpoint_is_written_when_the_last_one_is_old_enough_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = train_module.write_checkpoint
    monkeypatch.setattr(
        train_module,
        "write_checkpoint",
        lambda folder, saved, fingerprint: (
            written.append(saved.state["epoch"]),
            write(folder, saved, fingerprint),
        ),
    )
    stacked(jobs_of(), small(), checkpoint=tmp_path, checkpoint_seconds=3600)
    assert written == [6]
    with safe_open(tmp_path / CHECKPOINT_FILE, framework="numpy") as handle:
        assert {name.split(".")[0] for name in handle.keys()} == {"done"}  # noqa: SIM118 (not a dict)
    remove_checkpoint(tmp_path)
    stacked(jobs_of(), small(), checkpoint=tmp_path, checkpoint_seconds=0)
    assert written == [6, 2, 4, 6]


# --- what goes into a stack -----------------------------------------------------------------------------------


def test_jobs_are_grouped_by_width_and_steps() -> None:
    cfg = small()
    jobs = [
        *jobs_of((700, 300, 650, 310)),
        StackedJob("wide", planted(790, 1, d=48), np.arange(700), np.arange(9), 0),
    ]
    assert group_by_shape(jobs, cfg) == [
        ("d32.steps11", [0, 2]), ("d32.steps5", [1, 3]), ("d48.steps11", [4])
    ]  # fmt: skip
    many = jobs_of((700,) * 5)
    assert group_by_shape(many, cfg, largest=2) == [
        ("d32.steps11.part0", [0, 3]), ("d32.steps11.part1", [1, 4]), ("d32.steps11.part2", [2])
    ]  # fmt: skip
    assert largest_stack(jobs, cfg, CPU) is None
    with pytest.raises(ValueError, match="one shape"):
        stacked(jobs, cfg)


def test_a_device_holds_the_rows_and_so_many_dictionaries() -> None:
    cfg = small(n_latents=64)
    jobs = jobs_of()
    rows = 4 * 3 * 790 * 32
    one = fitting(jobs, cfg, 10**7)
    assert one > 1 and fitting(jobs, cfg, 2 * (10**7 - rows) + rows) in (2 * one, 2 * one + 1)
    assert fitting(jobs, cfg, 10) == 1
    shared = [dataclasses.replace(jobs[0], seed=n) for n in range(9)]
    assert fitting(shared, cfg, 10**7) > one  # one array, not three


def test_rows_without_variance_get_their_constant_dictionary_beside_the_others() -> None:
    cfg = small(max_epochs=2)
    jobs = jobs_of()
    jobs[1] = dataclasses.replace(jobs[1], acts_nd=np.full((790, 32), 2.5, np.float32))
    jobs.append(dataclasses.replace(jobs[0], name="jitter", floor=1e9))
    found = stacked(jobs, cfg)
    assert [one.facts["zero_variance"] for one in found] == [False, True, False, True]
    for job, mine in zip(jobs, found, strict=True):
        assert_same(mine, alone(job, cfg), 1e-4)
    constant = stacked([jobs[1]], cfg)
    assert constant[0].facts["zero_variance"]


def test_a_row_that_is_not_finite_is_named_with_its_job_and_one_outside_the_job_harms_nobody() -> None:
    cfg = small(max_epochs=2)
    jobs = jobs_of()
    broken_nd = jobs[1].acts_nd.copy()
    broken_nd[90 + 37, 3] = np.nan
    with pytest.raises(UserError, match=r"job1: training activations, row 37: .* in 1 of 32 columns"):
        stacked([jobs[0], dataclasses.replace(jobs[1], acts_nd=broken_nd)], cfg)
    unused_nd = np.vstack([np.full((1, 32), np.nan, np.float32), jobs[1].acts_nd])
    moved = StackedJob("moved", unused_nd, jobs[1].train_rows + 1, jobs[1].val_rows + 1, seed=jobs[1].seed)
    ragged = dataclasses.replace(jobs[0], train_rows=jobs[0].train_rows[:-3])
    assert_same(stacked([ragged, moved], cfg)[1], alone(jobs[1], cfg), 1e-4)


def test_a_training_that_diverges_says_which() -> None:
    training = training_of(jobs_of(), small())
    assert training.stack is not None
    training.run_epoch(training.stack)
    training.stack.weights.decoder_bias_d[1].fill_(float("nan"))
    with pytest.raises(UserError, match=r"job1: training diverged by epoch 1: .* lower dictionaries.lr"):
        training.check(training.stack)


def test_a_window_longer_than_the_training_is_said() -> None:
    with pytest.warns(AntarWarning, match="longer than the whole training"):
        stacked(jobs_of(), small(preset="published", max_epochs=2))


def test_slots_are_powers_of_two_that_hold_the_dead_and_are_distinct() -> None:
    assert [bucket(m, 1000) for m in (0, 1, 64, 65, 128, 129, 513, 1000)] == [0, 64, 64, 128, 128, 256, 1000, 1000]
    assert bucket(3, 32) == 32
    dead_sn = torch.zeros(2, 256, dtype=torch.bool)
    dead_sn[0, [5, 250]] = True
    slots = Slots.empty(2, 64, CPU)
    slots.fill_(dead_sn)
    assert slots.latents_sm[0, :2].tolist() == [5, 250]
    assert slots.filled_sm.sum(1).tolist() == [2, 0]
    assert all(len(set(row)) == 64 for row in slots.latents_sm.tolist())
    assert torch.equal(slots.rows_e, torch.cat([slots.latents_sm[0], 256 + slots.latents_sm[1]]))


# --- what a CUDA graph needs ----------------------------------------------------------------------------------


class NoSync(TorchDispatchMode):
    """Fails on operations whose result, or its shape, the host must wait for, and on values made on the host."""

    SYNCS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "bincount", "unique", "equal.default",
             "lift_fresh", "repeat_interleave.Tensor")  # fmt: skip

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        masked = name.startswith("aten.index") and any(
            isinstance(one, Tensor) and one.dtype == torch.bool
            for arg in args
            if isinstance(arg, (list, tuple))
            for one in arg
        )
        waits = masked or any(f"aten.{sync}" in name for sync in self.SYNCS)
        assert not waits, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", ["antar", "published"])
def test_a_step_never_waits_for_the_device(recipe: str) -> None:
    training = training_of(jobs_of(), RECIPES[recipe])
    stack = training.stack
    assert stack is not None
    for _ in range(3):
        training.run_epoch(stack)
    assert stack.bucket
    stack._batch_at.zero_()
    with NoSync():
        stack.step()
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        stack.dead_now(0)


class Tape(TorchDispatchMode):
    """A CUDA graph's rules on a CPU: operations are recorded with the very tensors that they ran on, and replayed
    on these, whatever has become of the Python objects and numbers since."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            alias = func._schema.returns[0].alias_info if func._schema.returns else None
            if alias is not None and not alias.is_write:
                continue  # a view, of memory that stays where it is
            again = func(*args, **kwargs)
            if alias is None:
                for old, new in zip(*(x if isinstance(x, tuple) else (x,) for x in (out, again)), strict=True):
                    old.copy_(new)


class TapeRecorder:
    """Recording runs the step here (a graph's does not), so the replay that follows at once does nothing."""

    def __init__(self) -> None:
        self.plain_runs = self.recordings = self.replays = 0

    def plain(self, step: Step) -> None:
        self.plain_runs += 1
        step()

    def record(self, step: Step) -> Step:
        self.recordings += 1
        tape = Tape()
        with tape:
            step()
        fresh = [True]

        def replay() -> None:
            self.replays += 1
            if not fresh[0]:
                tape.replay()
            fresh[0] = False

        return replay


@pytest.mark.parametrize("recipe", ["antar", "published", "one stops"])
def test_a_recorded_step_replays_to_the_same_bits(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across windows, resets, other numbers of slots and a stack that shrinks: no value comes from the host."""
    jobs, cfg = stopping() if recipe == "one stops" else (jobs_of((700, 690, 700)), RECIPES[recipe])
    plain = stacked(jobs, cfg)
    recorder = TapeRecorder()
    monkeypatch.setattr(Runner, "on", lambda device: Runner(recorder))
    replayed = stacked(jobs, cfg)
    assert all(same_bits(a, b) for a, b in zip(replayed, plain, strict=True))
    assert 2 <= recorder.recordings <= recorder.plain_runs < 10 < recorder.replays


class NoRecorder(TapeRecorder):
    def record(self, step: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_a_step_that_cannot_be_recorded_runs_without_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Runner, "on", lambda device: Runner(NoRecorder()))
    jobs, cfg = jobs_of(), small()
    found = stacked(jobs, cfg)
    said = capsys.readouterr().err
    assert said.count("cannot be recorded as a CUDA graph (operation not permitted when stream is capturing)") == 1
    monkeypatch.undo()
    assert all(same_bits(a, b) for a, b in zip(found, stacked(jobs, cfg), strict=True))


def test_kernels_that_do_something_else_than_their_twin_are_found_out() -> None:
    for dtype in (FP32, torch.bfloat16):
        check_kernels(PLAIN, 48, dtype, CPU)
    wrong = SimpleNamespace(
        squares=squares_plain, adam_rows_=lambda *args: adam_rows_plain_(*args[:-1], not args[-1])
    )
    with pytest.raises(ValueError, match="weight of encoder rows differ by"):
        check_kernels(wrong, 48, FP32, CPU)
    wrong = SimpleNamespace(squares=lambda *args: squares_plain(*args) * 1.01, adam_rows_=adam_rows_plain_)
    with pytest.raises(ValueError, match="squares differ"):
        check_kernels(wrong, 48, FP32, CPU)


PLAIN = SimpleNamespace(squares=squares_plain, adam_rows_=adam_rows_plain_)


def test_triton_kernels_agree_with_their_twin_in_tritons_interpreter() -> None:
    """In a process of its own: whether Triton interprets is decided when it is imported."""
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA wheels only")
    code = (
        "import torch\nfrom antar.dictionaries.stacked import kernels, update\n"
        "for d in (32, 48, 2048):\n for low in (torch.float32, torch.bfloat16):\n"
        "  update.check_kernels(kernels, d, low, torch.device('cpu'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compute", ["fp32", "bf16"])
def test_on_a_cuda_device_steps_are_recorded_and_do_not_wait(
    compute: str, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs, cfg = jobs_of(), small(device="cuda", compute=compute)
    device = torch.device("cuda")
    found = stacked(jobs, cfg, device=device)
    assert "cannot" not in capsys.readouterr().err  # neither the graph nor the kernels fell back
    for job, mine in zip(jobs, found, strict=True):
        expected = alone(job, small())
        np.testing.assert_allclose(mine.history["val_fvu"], expected.history["val_fvu"], rtol=0.03)
    training = StackedTraining(jobs, fit_scalings(jobs, cfg), cfg, device)
    assert training.stack is not None
    for _ in range(3):
        training.run_epoch(training.stack)
    training.begin_epoch(training.stack)
    training.stack.step()
    training.stack.step()  # recorded by now
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.stack._step()
        training.stack.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
