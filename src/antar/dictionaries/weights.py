"""The four parameters of a dictionary (or their gradients, or their moments), and how they start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from antar.core.seeds import torch_rng
from antar.dictionaries.config import DictionaryConfig

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


@dataclass(frozen=True)
class Weights:
    """encoder_nd `[n_latents, d_model]`, encoder_bias_n, decoder_nd `[n_latents, d_model]`, decoder_bias_d."""

    encoder_nd: Tensor
    encoder_bias_n: Tensor
    decoder_nd: Tensor
    decoder_bias_d: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the order of NAMES, the names that they have in a file."""
        return self.encoder_nd, self.encoder_bias_n, self.decoder_nd, self.decoder_bias_d

    def map(self, function: Callable[[Tensor], Tensor]) -> Weights:
        return Weights(*(function(tensor) for tensor in self.tensors()))

    def clone(self) -> Weights:
        return self.map(lambda tensor: tensor.detach().clone())

    def copy_from(self, other: Weights) -> None:
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)


def draw_decoder_rows(n: int, cfg: DictionaryConfig, d_model: int, generator: torch.Generator) -> Tensor:
    """float32 `[n, d_model]` rows of unit length, drawn on the CPU so that every device starts alike."""
    if cfg.decoder_init == "xavier":
        bound = math.sqrt(6.0 / (cfg.n_latents + d_model))  # Glorot and Bengio 2010, eq. 16
        rows_nd = torch.rand(n, d_model, generator=generator).mul_(2 * bound).sub_(bound)
    else:
        rows_nd = torch.randn(n, d_model, generator=generator)
    return unit_rows_(rows_nd)


def unit_rows_(rows_nd: Tensor) -> Tensor:
    """Bring each row to unit length in place. A row of zeros stays."""
    return rows_nd.div_(torch.linalg.vector_norm(rows_nd, dim=1, keepdim=True).clamp_min_(1e-30))


def initial_weights(cfg: DictionaryConfig, d_model: int, seed: int) -> Weights:
    """Unit decoder rows, the encoder their transpose (in this layout a copy), zero biases."""
    decoder_nd = draw_decoder_rows(cfg.n_latents, cfg, d_model, torch_rng(seed, "dictionary", "decoder"))
    return Weights(decoder_nd.clone(), torch.zeros(cfg.n_latents), decoder_nd, torch.zeros(d_model))
