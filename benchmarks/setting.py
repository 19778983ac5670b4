"""What all trainers of one configuration are given alike, and the weights that they all start from.

Used by the trainers' own processes, some of which have no antar: nothing here imports it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Encoder rows of the latents that are held dead are this much shorter than the others: about half of their
# pre-activations are positive, as those of dead latents are, and none of them comes near the k-th largest.
HELD_ENCODER_NORM = 0.1
# The rows are drawn from small seeds: a start from the same one would be the hidden directions themselves.
START = 1_000_003


class Plain(NamedTuple):
    """A dictionary on the scale of the rows: encoder_nd and decoder_nd `[n_latents, d_model]`, unit decoder rows."""

    encoder_nd: Tensor
    encoder_bias_n: Tensor
    decoder_nd: Tensor
    decoder_bias_d: Tensor


@dataclass(frozen=True)
class Setting:
    """One configuration. `held` latents (the last ones) are dead from the start, and AuxK works on them.
    `dead_window` is the number of samples after which a silent latent is called dead; 0: none ever is."""

    d_model: int = 2048
    n_latents: int = 8192
    k: int = 256
    batch: int = 256
    lr: float = 3e-4
    clip: float = 1.0
    auxk: float = 1 / 32
    held: int = 0
    dead_window: int = 0
    steps: int = 120
    seed: int = 0
    device: str = "cpu"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Setting:
        return cls(**json.loads(text))


def start_weights(setting: Setting) -> Plain:
    """Unit decoder rows in random directions, the encoder their transpose, zero biases."""
    generator = torch.Generator().manual_seed(START + setting.seed)
    decoder_nd = torch.randn(setting.n_latents, setting.d_model, generator=generator)
    decoder_nd /= decoder_nd.norm(dim=1, keepdim=True)
    encoder_nd = decoder_nd.clone()
    if setting.held:
        encoder_nd[-setting.held :] *= HELD_ENCODER_NORM
    return Plain(encoder_nd, torch.zeros(setting.n_latents), decoder_nd, torch.zeros(setting.d_model))


def held_latents(setting: Setting) -> Tensor:
    """bool `[n_latents]`: who is held dead."""
    held_n = torch.zeros(setting.n_latents, dtype=torch.bool)
    held_n[setting.n_latents - setting.held :] = True
    return held_n
