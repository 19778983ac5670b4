"""AuxK: the dead latents model what the live ones leave over (Gao et al. 2024, arXiv 2406.04093, appendix A.2).

With e = x − x̂ held constant, ê = W_decᵀ z over the top k_aux **dead** latents, without the decoder bias (e has none
left). The term is mean((e − ê)²), or Σ(e − ê)² / Σe² (`normalised`, as in OpenAI's released code). Its gradient
reaches decoder and encoder rows of the dead latents, and so makes them fire again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-6


@dataclass(frozen=True)
class AuxK:
    """Which latents are dead, and how the term is weighted.

    dead_m: int64 `[m]`, the dead latents, known to the host so that m costs no sync; m ≥ 1
    asleep_m: bool `[m]`, False for those that have fired since they were called dead: they no longer take part
    """

    dead_m: Tensor
    asleep_m: Tensor
    k_aux: int
    coefficient: float
    normalised: bool


@dataclass(frozen=True)
class AuxKTerm:
    """The dead latents chosen for each text, their values, and ∂ loss / ∂ ê (`pull_bd`), coefficient included."""

    indices_bk: Tensor
    values_bk: Tensor
    pull_bd: Tensor
    loss: Tensor


def auxk_term(aux: AuxK, pre_bn: Tensor, residual_bd: Tensor, decoder_nd: Tensor) -> AuxKTerm | None:
    """The term for one batch; None when no latent is dead. `residual_bd` is x − x̂, taken as a constant."""
    if len(aux.dead_m) == 0 or aux.coefficient == 0:
        return None
    # Fewer dead latents than k_aux: all of them take part. A latent that woke up gets −inf, hence value 0.
    pre_bm = pre_bn[:, aux.dead_m].masked_fill_(~aux.asleep_m, float("-inf"))
    values_bk, chosen_bk = pre_bm.topk(min(aux.k_aux, len(aux.dead_m)), dim=1)
    values_bk, indices_bk = values_bk.relu_(), aux.dead_m[chosen_bk]
    left_bd = residual_bd - F.embedding_bag(indices_bk, decoder_nd, per_sample_weights=values_bk, mode="sum")
    if aux.normalised:
        # Inputs have unit mean square: under an FVU of about FLOOR the term stays finite and fades.
        scale = 1.0 / residual_bd.square().sum().clamp_min(FLOOR * residual_bd.numel())
    else:
        scale = 1.0 / residual_bd.numel()
    loss = aux.coefficient * scale * left_bd.square().sum()
    return AuxKTerm(indices_bk, values_bk, left_bd * (-2.0 * aux.coefficient * scale), loss)
