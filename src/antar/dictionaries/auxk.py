"""AuxK: the dead latents model what the live ones leave over (Gao et al. 2024, arXiv 2406.04093, appendix A.2).

With e = x − x̂ held constant, ê = W_decᵀ z over the top k_aux **dead** latents, without the decoder bias (e has none
left). The term is mean((e − ê)²), or Σ(e − ê)² / Σe² (`normalised`, as in OpenAI's released code). Its gradient
reaches decoder and encoder rows of the dead latents, and so makes them fire again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antar.dictionaries.weights import Weights

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
    """For one batch: values_bm `[batch, m]` of the dead latents (0 where not chosen), ∂ loss / ∂ ê (`pull_bd`,
    coefficient included) and the loss itself. Dense over the m dead latents, since k_aux is often no smaller."""

    values_bm: Tensor
    pull_bd: Tensor
    loss: Tensor


def auxk_term(aux: AuxK, pre_bn: Tensor, residual_bd: Tensor, decoder_nd: Tensor) -> AuxKTerm | None:
    """The term for one batch; None when no latent is dead. `residual_bd` is x − x̂, taken as a constant."""
    if len(aux.dead_m) == 0 or aux.coefficient == 0:
        return None
    # A latent that woke up gets −inf, hence value 0.
    pre_bm = pre_bn[:, aux.dead_m].masked_fill_(~aux.asleep_m, float("-inf"))
    if aux.k_aux < len(aux.dead_m):
        values_bk, chosen_bk = pre_bm.topk(aux.k_aux, dim=1)
        values_bm = torch.zeros_like(pre_bm).scatter_(1, chosen_bk, values_bk.relu_())
    else:
        values_bm = pre_bm.relu_()
    left_bd = torch.addmm(residual_bd, values_bm, decoder_nd[aux.dead_m], alpha=-1)
    if aux.normalised:
        # Inputs have unit mean square: under an FVU of about FLOOR the term stays finite and fades.
        scale = 1.0 / residual_bd.square().sum().clamp_min(FLOOR * residual_bd.numel())
    else:
        scale = 1.0 / residual_bd.numel()
    loss = aux.coefficient * scale * left_bd.square().sum()
    return AuxKTerm(values_bm, left_bd * (-2.0 * aux.coefficient * scale), loss)


def add_auxk_gradients_(total: Weights, term: AuxKTerm, aux: AuxK, weights: Weights, centred_bd: Tensor) -> None:
    """Add the term's gradients to those of the dead rows, and to the decoder bias through the pre-activations."""
    pull_bm = (term.pull_bd @ weights.decoder_nd[aux.dead_m].T) * (term.values_bm > 0)
    bias_pull_m = pull_bm.sum(0)
    total.encoder_nd.index_add_(0, aux.dead_m, pull_bm.T @ centred_bd)
    total.encoder_bias_n.index_add_(0, aux.dead_m, bias_pull_m)
    total.decoder_nd.index_add_(0, aux.dead_m, term.values_bm.T @ term.pull_bd)
    total.decoder_bias_d.sub_(bias_pull_m @ weights.encoder_nd[aux.dead_m])
