"""SAELens: `SAETrainer.step` on a `TopKTrainingSAE`, with bf16 autocast, its option for speed, and with or without
`compile_sae` of its runner (which needs a compiler on the machine).

The trainer clips at norm 1 and has no option for it; AuxK takes the d/2 strongest dead latents.
"""

from __future__ import annotations

import torch
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from benchmarks.setting import Plain, Setting, held_latents

# In steps, because that is what it counts; more than any benchmark has.
NEVER = 1_000_000


class SaeLens:
    packages = ("sae-lens", "torch")
    variants = ({"compile_sae": False}, {"compile_sae": True})
    decoder_norm = 1.0

    def __init__(self, setting: Setting, start: Plain, rows_nd: Tensor, compile_sae: bool = False) -> None:
        cfg = TopKTrainingSAEConfig(
            d_in=setting.d_model,
            d_sae=setting.n_latents,
            k=setting.k,
            decoder_init_norm=self.decoder_norm,
            aux_loss_coefficient=setting.auxk,
            device=setting.device,
            dtype="float32",
        )
        self._sae = TopKTrainingSAE(cfg)
        with torch.no_grad():
            # As its own initialisation does: the encoder is the transpose of the decoder, at the decoder's length.
            self._sae.W_enc.copy_(start.encoder_nd.T * self.decoder_norm)
            self._sae.b_enc.copy_(start.encoder_bias_n)
            self._sae.W_dec.copy_(start.decoder_nd * self.decoder_norm)
            self._sae.b_dec.copy_(start.decoder_bias_d)
        if compile_sae:
            torch.compiler.reset()
            self._sae.training_forward_pass = torch.compile(self._sae.training_forward_pass)  # as its runner does
        window = max(1, setting.dead_window // setting.batch) if setting.dead_window else NEVER
        self._trainer = SAETrainer(
            cfg=SAETrainerConfig(
                total_training_samples=setting.steps * setting.batch,
                train_batch_size_samples=setting.batch,
                lr=setting.lr,
                lr_end=setting.lr,
                lr_scheduler_name="constant",
                device=setting.device,
                autocast=True,
                dead_feature_window=window,
                logger=LoggingConfig(log_to_wandb=False),
            ),
            sae=self._sae,
            data_provider=iter(()),
        )
        self._trainer.n_forward_passes_since_fired[held_latents(setting)] = 2 * window
        self.options = (
            f"SAETrainer.step, autocast bf16, compile_sae {compile_sae}, Adam, clip 1 (fixed), "
            f"decoder_init_norm {self.decoder_norm:g}, rescale_acts_by_decoder_norm, "
            f"k_aux d/2 = {setting.d_model // 2} (fixed)"
        )

    def step(self, x_bd: Tensor) -> None:
        self._trainer.step(x_bd)
        self._trainer.n_training_steps += 1  # its loop does so, not its step

    @torch.no_grad()
    def weights(self) -> Plain:
        sae = self._sae
        length_n = sae.W_dec.norm(dim=1)  # codes are scaled by it, so the fold is exact
        return Plain(
            sae.W_enc.T * length_n[:, None], sae.b_enc * length_n, sae.W_dec / length_n[:, None], sae.b_dec.clone()
        )

    @torch.no_grad()
    def reconstruct(self, x_bd: Tensor) -> Tensor:
        return self._sae(x_bd)


class SaeLensAsItComes(SaeLens):
    decoder_norm = 0.1
