"""The whole training step against its naive fp64 twin (step_twin.py), under each option.

Moments are compared, not weights: after a step of Adam every weight has moved by about the learning rate whatever its
gradient was, so that weights agree where gradients do not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antar.core.jit import have_numba
from antar.dictionaries import preset
from antar.dictionaries import steps as steps_module
from antar.dictionaries.data import fit_scaling
from antar.dictionaries.loss import Step
from antar.dictionaries.schedule import learning_rate
from antar.dictionaries.trainer import Training
from antar.dictionaries.weights import NAMES

sys.path.insert(0, str(Path(__file__).parent))
from step_twin import Twin

needs_numba = pytest.mark.skipif(not have_numba(), reason="the extra [fast] (numba) is not installed")
D, N, BATCH = 24, 64, 32
OPTIONS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "published": {"preset": "published", "dead_window_steps": 4, "dead_share": 0.05},
    "adam": {"optimiser": "adam"},
    "betas and epsilon": {"betas": (0.5, 0.9), "eps": 1e-4},
    "strong weight decay": {"weight_decay": 3.0},
    "clipped hard": {"clip": 1e-2},
    "not clipped": {"clip": 0.0},
    "linear decay": {"decay": "linear", "decay_share": 0.9},
    "cosine decay": {"decay": "cosine", "decay_share": 1.0},
    "raw scale": {"normalise": False},
    "geometric median": {"pre_bias": "geometric_median"},
    "no AuxK": {"auxk_coefficient": 0.0},
    "few for AuxK": {"k_aux": 3, "auxk_coefficient": 1.0},
    "plain AuxK": {"auxk_normalised": False, "auxk_coefficient": 1.0},
}
FP32 = 2e-4
"""Largest error of a moment, as a share of its norm."""
BF16 = 2e-2


def training_of(**options: Any) -> Training:
    fields = {"n_latents": N, "k": 3, "k_aux": 16, "lr": 3e-3, "batch": BATCH, "max_epochs": 4, "warmup_steps": 3}
    cfg = preset(options.pop("preset", "antar"), **{**fields, "threads": 1, "device": "cpu", **options})
    rng = np.random.default_rng(0)
    strength_nm = (rng.random((128, 40)) < 0.05) * (0.5 + rng.random((128, 40)))
    acts_nd = strength_nm @ rng.standard_normal((40, D)) + 0.02 * rng.standard_normal((128, D)) + 2
    return Training(acts_nd.astype(np.float32), acts_nd[:9].astype(np.float32), fit_scaling(
        acts_nd.astype(np.float32), cfg.normalise), cfg, 0)  # fmt: skip


def selected(training: Training) -> torch.Tensor:
    """int64 `[batch, k]`: the latents that the compiled step took for each text of its last batch."""
    at = training.stepper._fused._buffers[BATCH]
    indices_bk = torch.zeros(BATCH, training.cfg.k, dtype=torch.int64)
    for b, (begin, size) in enumerate(zip(at.codes.begins, at.codes.sizes, strict=True)):
        # Where fewer are positive the rest is filled with one that counts already.
        own = torch.from_numpy(at.codes.latents[begin : begin + max(size, 1)].astype(np.int64))
        indices_bk[b] = own[torch.arange(training.cfg.k).clamp(max=len(own) - 1)]
    return indices_bk


def assert_moments_follow_the_twin(training: Training, monkeypatch: pytest.MonkeyPatch, tolerance: float) -> None:
    """Ten steps beside the twin, from a time when some latents are dead."""
    taken: list[Step] = []
    real = steps_module.gradients
    monkeypatch.setattr(steps_module, "gradients", lambda *a, **k: taken.append(real(*a, **k)) or taken[-1])
    training.run_epoch()
    twin = Twin(training.cfg, training.weights)
    for mine, theirs in zip(training.moments(), (twin.first, twin.second), strict=True):
        theirs.copy_from(mine.map(torch.Tensor.double))
    twin.step = training.at.step
    dead_seen = 0
    for number in range(10):
        rows = torch.arange(BATCH) + 8 * number
        x_bd, asleep = training.train_nd[rows], training.dead.dead_now().tolist()
        dead_seen += len(asleep)
        training.step(x_bd)
        lr = learning_rate(training.cfg, training.at.step, training.planned)
        twin.take(x_bd, taken[-1].indices_bk if taken else selected(training), asleep, lr)
        training.dead.end_of_step(training.at.step)
        for name, mine, theirs in zip(
            ("first", "second"), training.moments(), (twin.first, twin.second), strict=True
        ):
            for part, m, t in zip(NAMES, mine.tensors(), theirs.tensors(), strict=True):
                assert float((m - t).norm()) <= tolerance * float(t.norm()), f"step {number}, {name} of {part}"
        for mine, theirs in zip(training.weights.tensors(), twin.weights.tensors(), strict=True):
            assert float((mine - theirs).norm()) <= tolerance * float(theirs.norm())
    assert dead_seen > 0


both_paths = pytest.mark.parametrize("path", ["torch", pytest.param("fused", marks=needs_numba)])


@both_paths
@pytest.mark.parametrize("option", ["as it comes", "published", "not clipped"])
def test_in_bf16_the_moments_follow_the_fp64_twin_as_far_as_its_significand_goes(
    option: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the same selected latents. bf16 has 8 bits of significand; fp32 would be 50 times nearer."""
    training = training_of(compute="bf16", path=path, **OPTIONS[option])
    assert training.precision == "bf16" and training.path == path
    assert all(tensor.dtype == torch.float32 for tensor in training.weights.tensors())
    assert_moments_follow_the_twin(training, monkeypatch, BF16)


@both_paths
@pytest.mark.parametrize("option", OPTIONS)
def test_the_moments_of_a_whole_step_follow_the_naive_twin(
    option: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_moments_follow_the_twin(training_of(path=path, **OPTIONS[option]), monkeypatch, FP32)


def test_the_twin_would_see_a_gradient_that_is_off_by_a_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison has teeth: weights after one step would hide such an error, moments do not."""
    training, real = training_of(path="torch"), steps_module.gradients

    def wrong(*args: Any, **kwargs: Any) -> Step:
        step = real(*args, **kwargs)
        step.gradients.encoder_nd.mul_(1.01)
        return step

    monkeypatch.setattr(steps_module, "gradients", wrong)
    twin = Twin(training.cfg, training.weights)
    x_bd = training.train_nd[:BATCH]
    indices_bk = real(training.weights, x_bd, training.cfg.k, None).indices_bk
    training.step(x_bd)
    twin.take(x_bd, indices_bk, [], learning_rate(training.cfg, 1, training.planned))
    first, _ = training.moments()
    error = float((first.encoder_nd - twin.first.encoder_nd).norm() / twin.first.encoder_nd.norm())
    assert error > 20 * FP32
    moved = (training.weights.encoder_nd - twin.weights.encoder_nd).abs().max()
    assert float(moved) < 0.01 * learning_rate(training.cfg, 1, training.planned)
