"""The one evaluator of all trainers: held-out FVU, dead share, and how many true directions a dictionary found."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.setting import Plain

CHUNK = 1024


def reconstruct(weights: Plain, x_bd: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """x̂ `[batch, d_model]` in fp32, and who fired, bool `[n_latents]`."""
    centred_bd = x_bd - weights.decoder_bias_d
    pre_bn = torch.addmm(weights.encoder_bias_n, centred_bd, weights.encoder_nd.T)
    values_bk, indices_bk = pre_bn.topk(k, dim=1)
    values_bk = values_bk.relu()
    fired_n = torch.zeros(len(weights.encoder_nd), dtype=torch.bool)
    fired_n[indices_bk[values_bk > 0]] = True
    summed_bd = F.embedding_bag(indices_bk, weights.decoder_nd, per_sample_weights=values_bk, mode="sum")
    return summed_bd + weights.decoder_bias_d, fired_n


@torch.no_grad()
def evaluate(weights: Plain, x_nd: Tensor, k: int) -> tuple[float, Tensor]:
    """FVU (summed in fp64, about the rows' own mean) and who fired on any row, bool `[n_latents]`."""
    centre_d = x_nd.double().mean(0)
    error, variance = 0.0, 0.0
    fired_n = torch.zeros(len(weights.encoder_nd), dtype=torch.bool)
    for x_bd in x_nd.split(CHUNK):
        guess_bd, fired_here_n = reconstruct(weights, x_bd, k)
        error += float((x_bd.double() - guess_bd.double()).square().sum())
        variance += float((x_bd.double() - centre_d).square().sum())
        fired_n |= fired_here_n
    return error / variance, fired_n


@torch.no_grad()
def recovered(decoder_nd: Tensor, directions_md: Tensor, cosine: float = 0.9) -> float:
    """Share of the true directions `[m, d_model]` that some decoder row meets with more than this cosine."""
    unit_nd = decoder_nd / decoder_nd.norm(dim=1, keepdim=True).clamp_min(1e-30)
    best_m = torch.cat([(part_md @ unit_nd.T).amax(1) for part_md in directions_md.split(CHUNK)])
    return float((best_m > cosine).double().mean())
