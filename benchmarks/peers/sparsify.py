"""sparsify: the body of `Trainer.fit` on a `SparseCoder`, in its order and through its public methods.

`fit` reads rows out of a language model by a hook and has no step of its own, so its step stands here, without the
hook's copies and the log. It uses its fused encoder; its Triton decoder needs a GPU, and here it falls back to
`embedding_bag`. It never clips; AuxK takes the d/2 strongest dead latents.
"""

from __future__ import annotations

import torch
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor

from benchmarks.setting import Plain, Setting, held_latents

DEAD_AFTER = 10_000_000  # samples; its default


class Sparsify:
    packages = ("eai-sparsify", "torch")
    variants = ({"part": None}, {"part": 256}, {"part": 64})

    def __init__(self, setting: Setting, start: Plain, rows_nd: Tensor, part: int | None = None) -> None:
        self._sae = SparseCoder(
            setting.d_model, SparseCoderConfig(num_latents=setting.n_latents, k=setting.k), dtype=torch.float32
        )
        with torch.no_grad():
            self._sae.encoder.weight.copy_(start.encoder_nd)
            self._sae.encoder.bias.copy_(start.encoder_bias_n)
            self._sae.W_dec.copy_(start.decoder_nd)
            self._sae.b_dec.copy_(start.decoder_bias_d)
        self._optimiser = torch.optim.Adam(self._sae.parameters(), lr=setting.lr)
        self._auxk = setting.auxk
        self._dead_after = setting.dead_window or DEAD_AFTER
        self._since_fired_n = torch.zeros(setting.n_latents, dtype=torch.long)
        self._since_fired_n[held_latents(setting)] = 2 * self._dead_after
        # micro_acc_steps of its TrainConfig: the same gradient from chunks of the batch.
        self._chunks = max(1, setting.batch // part) if part else 1
        self.options = (
            f"SparseCoder in the order of Trainer.fit, fused encoder, embedding_bag decoder, Adam, no clip (it has "
            f"none), micro_acc_steps {self._chunks}, k_aux d/2 = {setting.d_model // 2} (fixed)"
        )

    def step(self, x_bd: Tensor) -> None:
        sae = self._sae
        sae.set_decoder_norm_to_unit_norm()
        dead_n = self._since_fired_n > self._dead_after
        variance = (x_bd - x_bd.mean(0)).pow(2).sum()
        fired_n = torch.zeros_like(dead_n)
        for part_bd in x_bd.chunk(self._chunks):
            out = sae(x=part_bd, dead_mask=dead_n, total_variance=variance)
            fired_n[out.latent_indices.flatten()] = True
            (out.fvu + self._auxk * out.auxk_loss).div(self._chunks).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._since_fired_n += len(x_bd)
        self._since_fired_n[fired_n] = 0

    @torch.no_grad()
    def weights(self) -> Plain:
        self._sae.set_decoder_norm_to_unit_norm()  # its loop does so before the next step
        sae = self._sae
        return Plain(*(t.clone() for t in (sae.encoder.weight, sae.encoder.bias, sae.W_dec, sae.b_dec)))

    @torch.no_grad()
    def reconstruct(self, x_bd: Tensor) -> Tensor:
        return self._sae(x=x_bd).sae_out
