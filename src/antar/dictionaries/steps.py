"""One optimiser step in two makes: torch's operations on any device, and compiled kernels on a CPU.

Both compute the same: gradients, the decoder's made tangent to the unit sphere, clipping, AdamW, unit rows. They own
Adam's moments and change the weights that they were given in place. `Training` asks `compute.path_of` which one it
uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from antar.core.threads import torch_threads
from antar.dictionaries.auxk import AuxK
from antar.dictionaries.compute import Precision, StepPath
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.kinds import Learner
from antar.dictionaries.loss import gradients
from antar.dictionaries.weights import Weights, unit_rows_


@dataclass(frozen=True)
class Fired:
    """mse of the batch (0-d); fired_n integers `[n_latents]`: how many of its texts fired each latent."""

    mse: Tensor
    fired_n: Tensor


class Step(Protocol):
    """Steps are counted from 1."""

    def step(self, x_bd: Tensor, aux: AuxK | None, number: int, lr: float) -> Fired:
        """One step on normalised rows. On a CUDA device nothing in it waits for the device."""
        ...

    def moments(self) -> tuple[Weights, Weights]:
        """Adam's first and second moments, which the caller may change in place."""
        ...

    def refresh(self) -> None:
        """To be called when the weights or moments were changed from outside."""
        ...

    def close(self) -> None:
        """Give back what the step holds beside memory."""
        ...


def make_step(
    weights: Weights, cfg: DictionaryConfig, learner: Learner, path: StepPath, precision: Precision, threads: int
) -> Step:
    if path == "fused":
        return FusedOnCpu(weights, cfg, learner, precision, threads)
    return InTorch(weights, cfg, learner, precision)


class InTorch:
    """Any device: gradients written out (loss.py), torch's fused AdamW (one kernel a tensor, no host sync)."""

    def __init__(self, weights: Weights, cfg: DictionaryConfig, learner: Learner, precision: Precision) -> None:
        self._weights, self._cfg, self._learner = weights, cfg, learner
        self._precision: Precision = precision
        # `adam` has weight decay 0, which AdamW then is. lr changes every step.
        self.optimiser = torch.optim.AdamW(
            list(weights.tensors()),
            lr=cfg.lr,
            betas=cfg.betas,
            eps=cfg.eps,
            weight_decay=cfg.weight_decay,
            fused=True,
        )
        first, second = weights.map(torch.zeros_like), weights.map(torch.zeros_like)
        for tensor, one, two in zip(weights.tensors(), first.tensors(), second.tensors(), strict=True):
            count = torch.zeros((), dtype=torch.float32, device=tensor.device)
            self.optimiser.state[tensor] = {"step": count, "exp_avg": one, "exp_avg_sq": two}
        self._moments = first, second

    @torch.no_grad()
    def step(self, x_bd: Tensor, aux: AuxK | None, number: int, lr: float) -> Fired:
        weights, cfg = self._weights, self._cfg
        out = gradients(weights, x_bd, cfg.k, aux, self._learner.select, self._precision)
        # A step along a unit row only changes its length, which is fixed: take that part out (Bricken et al. 2023).
        decoder_nd, pull_nd = weights.decoder_nd, out.gradients.decoder_nd
        pull_nd.addcmul_((pull_nd * decoder_nd).sum(1, keepdim=True), decoder_nd, value=-1)
        for tensor, gradient in zip(weights.tensors(), out.gradients.tensors(), strict=True):
            tensor.grad = gradient
            self.optimiser.state[tensor]["step"].fill_(number - 1)
        if cfg.clip:
            torch.nn.utils.clip_grad_norm_(weights.tensors(), cfg.clip)
        self.optimiser.param_groups[0]["lr"] = lr
        self.optimiser.step()
        unit_rows_(decoder_nd)
        fired_n = torch.zeros(len(decoder_nd), dtype=torch.int32, device=decoder_nd.device)
        fired_n.scatter_add_(0, out.indices_bk.reshape(-1), (out.values_bk > 0).reshape(-1).to(torch.int32))
        return Fired(out.mse, fired_n)

    def moments(self) -> tuple[Weights, Weights]:
        return self._moments

    def refresh(self) -> None:
        """Nothing is kept beside the weights."""

    def close(self) -> None:
        """Nothing is held."""


class FusedOnCpu:
    """A CPU with Numba: the kernels of `dictionaries/fast`."""

    def __init__(
        self, weights: Weights, cfg: DictionaryConfig, learner: Learner, precision: Precision, threads: int
    ) -> None:
        from antar.dictionaries.fast import FusedStep, warm_up, zero_moments  # Numba: only where it is wanted

        self._cfg = cfg
        low, by_batch = precision == "bf16", learner.kind != "topk"
        low_moments = cfg.moments == "bf16"
        warm_up(low, by_batch, low_moments)
        self._moments = zero_moments(weights, low_moments)
        self._fused = FusedStep(weights, self._moments, cfg.k, threads, low, by_batch)

    def step(self, x_bd: Tensor, aux: AuxK | None, number: int, lr: float) -> Fired:
        from antar.dictionaries.fast import AdamNumbers

        cfg = self._cfg
        adam = AdamNumbers(number, lr, *cfg.betas, eps=cfg.eps, decay=cfg.weight_decay, clip=cfg.clip)
        # Torch's own threads would spin on the cores that the kernels need.
        with torch_threads(1):
            facts = self._fused.step(np.ascontiguousarray(x_bd.numpy()), aux, adam)
        return Fired(torch.tensor(facts.mse, dtype=torch.float64), torch.from_numpy(facts.fired_n))

    def moments(self) -> tuple[Weights, Weights]:
        return self._moments

    def refresh(self) -> None:
        self._fused.refresh()

    def close(self) -> None:
        self._fused.close()
