"""overcomplete: `train_sae` (or `train_sae_amp`) on a `TopKSAE`, one batch a call, with its monitoring off.

The caller brings the optimiser and the loss, so torch's fused Adam is one of its options, and it gets AuxK only where
latents are dead or may die. It does not know who is: its AuxK takes the n/2 strongest latents that were not chosen.
It has no decoder bias.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.peers.standins import standing_in
from benchmarks.setting import Plain, Setting

with standing_in("torchvision", "overcomplete.visualization"):
    from overcomplete.sae import TopKSAE
    from overcomplete.sae.losses import top_k_auxiliary_loss
    from overcomplete.sae.train import train_sae, train_sae_amp


def mean_square(x: Tensor, x_hat: Tensor, pre_codes: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
    return (x - x_hat).square().mean()


class Overcomplete:
    packages = ("overcomplete", "torch")
    variants = ({"amp": False, "fused": False}, {"amp": False, "fused": True}, {"amp": True, "fused": True})

    def __init__(
        self, setting: Setting, start: Plain, rows_nd: Tensor, amp: bool = False, fused: bool = False
    ) -> None:
        self._sae = TopKSAE(
            setting.d_model,
            setting.n_latents,
            top_k=setting.k,
            dictionary_params={"initializer": start.decoder_nd.numpy()},
        )
        self._linear = self._sae.encoder.final_block[0]
        with torch.no_grad():
            self._linear.weight.copy_(start.encoder_nd)
            self._linear.bias.copy_(start.encoder_bias_n)
        self._optimiser = torch.optim.Adam(self._sae.parameters(), lr=setting.lr, fused=fused)
        auxk = bool(setting.held or setting.dead_window)
        self._loss = partial(top_k_auxiliary_loss, penalty=setting.auxk) if auxk else mean_square
        self._train = partial(train_sae_amp if amp else train_sae, device="cpu")
        self._clip = setting.clip
        loop = "train_sae_amp, autocast bf16" if amp else "train_sae, fp32"
        loss = "top_k_auxiliary_loss, k_aux n/2 (fixed)" if auxk else "mean square"
        adam = "fused Adam" if fused else "Adam"
        self.options = f"{loop}, monitoring 0, {adam}, clip {setting.clip:g}, loss {loss}"

    def step(self, x_bd: Tensor) -> None:
        self._train(self._sae, [x_bd], self._loss, self._optimiser, nb_epochs=1, clip_grad=self._clip, monitoring=0)

    @torch.no_grad()
    def weights(self) -> Plain:
        decoder_nd = self._sae.get_dictionary().detach().clone()
        return Plain(
            self._linear.weight.detach().clone(),
            self._linear.bias.detach().clone(),
            decoder_nd,
            torch.zeros(decoder_nd.shape[1]),
        )

    @torch.no_grad()
    def reconstruct(self, x_bd: Tensor) -> Tensor:
        return self._sae(x_bd)[2]
