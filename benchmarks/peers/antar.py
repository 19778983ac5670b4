"""antar: `Training.step`, called as its epochs call it: with torch on one thread beside the compiled kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from antar.core.threads import torch_threads
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.data import Scaling
from antar.dictionaries.loss import forward
from antar.dictionaries.trainer import Training
from antar.dictionaries.weights import Weights
from benchmarks.setting import Plain, Setting, held_latents


class Antar:
    packages = ("antar", "torch", "numba")
    variants = ({},)

    def __init__(self, setting: Setting, start: Plain, rows_nd: Tensor) -> None:
        cfg = DictionaryConfig(
            n_latents=setting.n_latents,
            k=setting.k,
            batch=setting.batch,
            lr=setting.lr,
            weight_decay=0.0,
            warmup_steps=0,
            clip=setting.clip,
            auxk_coefficient=setting.auxk,
            k_aux=setting.d_model // 2,
            normalise=False,
            device="cpu",
        )
        self._k = setting.k
        self._count_deaths = setting.dead_window > 0
        # The dead rule's window is one epoch, that is as many rows as the training is built with.
        window_nd = rows_nd[: max(setting.dead_window, setting.batch)].numpy()
        as_they_are = Scaling(np.zeros(setting.d_model, dtype=np.float32), 1.0)
        self._training = Training(window_nd, window_nd[: setting.batch], as_they_are, cfg, setting.seed)
        self._training.weights.copy_from(Weights(*start))
        self._training.stepper.refresh()  # what it keeps of the weights in another form
        if setting.held:
            nobody_fired_n = torch.zeros(setting.n_latents, dtype=torch.int32)
            self._training.dead.restore(held_latents(setting), nobody_fired_n, 0)
        self.options = (
            f"Training.step, path {self._training.path}, {self._training.precision}, AdamW without decay, "
            f"clip {setting.clip:g}, k_aux {cfg.k_aux}"
        )

    def running(self) -> AbstractContextManager[None]:
        return torch_threads(1 if self._training.path == "fused" else None)

    def step(self, x_bd: Tensor) -> None:
        self._training.step(x_bd)
        if self._count_deaths:
            self._training.dead.end_of_step(self._training.at.step)

    def weights(self) -> Plain:
        return Plain(*self._training.weights.clone().tensors())

    @torch.no_grad()
    def reconstruct(self, x_bd: Tensor) -> Tensor:
        return forward(self._training.weights, x_bd, self._k).reconstruction_bd
