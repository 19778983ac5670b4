"""dictionary_learning: `TopKTrainer.update`.

Its loop, `trainSAE`, puts `update` under autocast on a GPU only; here it gets autocast where that is faster. The
trainer clips at norm 1 and has no option for it; AuxK takes the d/2 strongest dead latents. Steps are counted from 1:
at step 0 it would put the batch's geometric median into the decoder bias, and all trainers start alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.standins import standing_in
from benchmarks.setting import Plain, Setting, held_latents

with standing_in("nnsight", "zstandard"):
    from dictionary_learning.trainers.top_k import TopKTrainer


class DictionaryLearning:
    packages = ("dictionary-learning", "torch")
    variants = ({"autocast": False}, {"autocast": True})

    def __init__(self, setting: Setting, start: Plain, rows_nd: Tensor, autocast: bool = False) -> None:
        self._autocast, self._device = autocast, setting.device
        self._trainer = TopKTrainer(
            steps=setting.steps + 1,
            activation_dim=setting.d_model,
            dict_size=setting.n_latents,
            k=setting.k,
            layer=0,
            lm_name="none",
            lr=setting.lr,
            auxk_alpha=setting.auxk,
            warmup_steps=0,
            device=setting.device,
        )
        ae = self._trainer.ae
        with torch.no_grad():
            ae.encoder.weight.copy_(start.encoder_nd)
            ae.encoder.bias.copy_(start.encoder_bias_n)
            ae.decoder.weight.copy_(start.decoder_nd.T)
            ae.b_dec.copy_(start.decoder_bias_d)
        if setting.dead_window:
            self._trainer.dead_feature_threshold = setting.dead_window
        self._trainer.num_tokens_since_fired[held_latents(setting)] = 2 * self._trainer.dead_feature_threshold
        self._step = 0
        self.options = (
            f"TopKTrainer.update, {'autocast bf16' if autocast else 'fp32'}, Adam, clip 1 (fixed), "
            f"k_aux d/2 = {self._trainer.top_k_aux} (fixed)"
        )

    def step(self, x_bd: Tensor) -> None:
        self._step += 1
        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._autocast):
            self._trainer.update(self._step, x_bd)

    @torch.no_grad()
    def weights(self) -> Plain:
        ae = self._trainer.ae
        tensors = (ae.encoder.weight, ae.encoder.bias, ae.decoder.weight.T, ae.b_dec)
        return Plain(*(tensor.clone().contiguous() for tensor in tensors))

    @torch.no_grad()
    def reconstruct(self, x_bd: Tensor) -> Tensor:
        return self._trainer.ae(x_bd)
