"""A whole training step the naive way, in fp64: loss by its definition, gradients by autograd, Adam by its formulas.

It is told which latents were selected and which are dead; everything else it works out itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antar.dictionaries import DictionaryConfig
from antar.dictionaries.weights import Weights


@dataclass
class Twin:
    """weights, first and second: fp64; step counts from 1 with the first call of `take`."""

    cfg: DictionaryConfig
    weights: Weights
    first: Weights = field(init=False)
    second: Weights = field(init=False)
    step: int = 0

    def __post_init__(self) -> None:
        self.weights = self.weights.map(lambda tensor: tensor.detach().double().clone())
        self.first, self.second = (self.weights.map(torch.zeros_like) for _ in range(2))

    def gradients(self, x_bd: Tensor, indices_bk: Tensor, asleep: list[int]) -> Weights:
        """Of mean((x − x̂)²) + α · AuxK by autograd, codes dense."""
        cfg, leaves = self.cfg, self.weights.map(lambda tensor: tensor.clone().requires_grad_())
        x_bd = x_bd.double()
        pre_bn = (x_bd - leaves.decoder_bias_d) @ leaves.encoder_nd.T + leaves.encoder_bias_n
        chosen_bn = torch.zeros_like(pre_bn, dtype=torch.bool).scatter_(1, indices_bk, True)
        x_hat_bd = torch.where(chosen_bn, pre_bn.relu(), 0.0) @ leaves.decoder_nd + leaves.decoder_bias_d
        loss = (x_bd - x_hat_bd).square().mean()
        if asleep and cfg.auxk_coefficient:
            e_bd = (x_bd - x_hat_bd).detach()
            top_bn = torch.zeros_like(chosen_bn)
            for b, pre_n in enumerate(pre_bn):
                for j in sorted(asleep, key=lambda j: -pre_n[j].item())[: cfg.k_aux]:
                    top_bn[b, j] = True
            e_hat_bd = torch.where(top_bn, pre_bn.relu(), 0.0) @ leaves.decoder_nd
            scale = e_bd.square().sum() if cfg.auxk_normalised else e_bd.numel()
            loss = loss + cfg.auxk_coefficient * (e_bd - e_hat_bd).square().sum() / scale
        loss.backward()
        return leaves.map(lambda tensor: tensor.grad if tensor.grad is not None else torch.zeros_like(tensor))

    def take(self, x_bd: Tensor, indices_bk: Tensor, asleep: list[int], lr: float) -> None:
        """One step: tangent decoder gradient, clip, Adam or AdamW, unit rows."""
        cfg, grads = self.cfg, self.gradients(x_bd, indices_bk, asleep)
        for j, row_d in enumerate(self.weights.decoder_nd):
            grads.decoder_nd[j] -= (grads.decoder_nd[j] @ row_d) * row_d
        norm = float(sum(g.square().sum() for g in grads.tensors()) ** 0.5)
        clip = min(1.0, cfg.clip / (norm + 1e-6)) if cfg.clip else 1.0
        self.step += 1
        one, two = cfg.betas
        for w, g, m, v in zip(
            self.weights.tensors(), grads.tensors(), self.first.tensors(), self.second.tensors(), strict=True
        ):
            w -= lr * (cfg.weight_decay if cfg.optimiser == "adamw" else 0.0) * w
            m.copy_(one * m + (1 - one) * clip * g)
            v.copy_(two * v + (1 - two) * (clip * g).square())
            w -= lr * (m / (1 - one**self.step)) / ((v / (1 - two**self.step)).sqrt() + cfg.eps)
        self.weights.decoder_nd.div_(self.weights.decoder_nd.norm(dim=1, keepdim=True))
