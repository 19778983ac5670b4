"""The loss of a TopK dictionary and its gradients, written out.

The dictionary (Makhzani and Frey 2014; Gao et al. 2024, eq. 1–3) is

    z = TopK(ReLU(W_enc (x − b_dec) + b_enc)),   x̂ = W_decᵀ z + b_dec,

the loss is mean((x − x̂)²) + α · AuxK. Gradients are written out rather than left to autograd, because only k of n
latents take part in a text: the two dense products that remain are the pre-activations and the gradient of the
codes; the rest are sums over the k that fired (`embedding_bag`), 2.5 times fewer operations. A test holds them
against autograd on a naive twin in fp64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from antar.dictionaries.auxk import AuxK, add_auxk_gradients_, auxk_term
from antar.dictionaries.compute import Precision, times_rows
from antar.dictionaries.weights import Weights


@dataclass(frozen=True)
class Forward:
    """What one batch gives: centred_bd is x − b_dec, pre_bn the pre-activations, values_bk ≥ 0."""

    centred_bd: Tensor
    pre_bn: Tensor
    indices_bk: Tensor
    values_bk: Tensor
    reconstruction_bd: Tensor


@dataclass(frozen=True)
class Step:
    """Gradients of one batch, with its mean square error (a 0-d tensor) and what fired."""

    gradients: Weights
    mse: Tensor
    indices_bk: Tensor
    values_bk: Tensor


def select(pre_bn: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and values of the k largest pre-activations of each row, ReLU'd; largest first."""
    values_bk, indices_bk = pre_bn.topk(k, dim=1)
    return indices_bk, values_bk.relu_()


def decode_sparse(indices_bk: Tensor, values_bk: Tensor, decoder_nd: Tensor) -> Tensor:
    """Σ over k of value × decoder row: `[batch, d_model]`, without the bias."""
    return F.embedding_bag(indices_bk, decoder_nd, per_sample_weights=values_bk, mode="sum")


@dataclass(frozen=True)
class ByLatent:
    """The B·k entries of sparse codes, sorted by latent: where each latent's run starts, and whose text each is."""

    order_e: Tensor
    texts_e: Tensor
    starts: Tensor

    @classmethod
    def of(cls, indices_bk: Tensor, n_latents: int) -> ByLatent:
        latents = indices_bk.reshape(-1).sort(stable=True)
        starts = torch.searchsorted(latents.values, torch.arange(n_latents + 1, device=indices_bk.device))
        texts_e = torch.div(latents.indices, indices_bk.shape[1], rounding_mode="floor")
        return cls(latents.indices, texts_e, starts)

    def sum(self, values_bk: Tensor, rows_bd: Tensor) -> Tensor:
        """Zᵀ R for sparse Z: row j of `[n_latents, d]` is Σ over texts of z_bj × rows_b, in a fixed order."""
        values_e = values_bk.reshape(-1)[self.order_e]
        return F.embedding_bag(
            self.texts_e, rows_bd, self.starts, per_sample_weights=values_e, mode="sum", include_last_offset=True
        )


def forward(weights: Weights, x_bd: Tensor, k: int, precision: Precision = "fp32") -> Forward:
    centred_bd = x_bd - weights.decoder_bias_d
    if precision == "fp32":
        pre_bn = torch.addmm(weights.encoder_bias_n, centred_bd, weights.encoder_nd.T)
    else:
        pre_bn = times_rows(centred_bd, weights.encoder_nd, precision) + weights.encoder_bias_n  # fp32 again
    indices_bk, values_bk = select(pre_bn, k)
    reconstruction_bd = decode_sparse(indices_bk, values_bk, weights.decoder_nd) + weights.decoder_bias_d
    return Forward(centred_bd, pre_bn, indices_bk, values_bk, reconstruction_bd)


def gradients(weights: Weights, x_bd: Tensor, k: int, aux: AuxK | None, precision: Precision = "fp32") -> Step:
    """Gradients of mean((x − x̂)²) + α · AuxK with respect to all four parameters."""
    out = forward(weights, x_bd, k, precision)
    residual_bd = x_bd - out.reconstruction_bd
    pull_bd = residual_bd * (-2.0 / residual_bd.numel())  # ∂ mean((x − x̂)²) / ∂ x̂
    result = _through_codes(weights, out.centred_bd, out.indices_bk, out.values_bk, pull_bd, precision)
    result.decoder_bias_d.add_(pull_bd.sum(0))
    term = None if aux is None else auxk_term(aux, out.pre_bn, residual_bd, weights.decoder_nd)
    if aux is not None and term is not None:
        add_auxk_gradients_(result, term, aux, weights, out.centred_bd)
    return Step(result, residual_bd.square().mean(), out.indices_bk, out.values_bk)


def _through_codes(
    weights: Weights,
    centred_bd: Tensor,
    indices_bk: Tensor,
    values_bk: Tensor,
    pull_bd: Tensor,
    precision: Precision,
) -> Weights:
    """Gradients of a loss whose derivative with respect to W_decᵀ z is `pull_bd`."""
    # ReLU and TopK pass a gradient only where a latent fired.
    pulls_bn = times_rows(pull_bd, weights.decoder_nd, precision)
    code_pull_bk = pulls_bn.gather(1, indices_bk).to(values_bk.dtype) * (values_bk > 0)
    by_latent = ByLatent.of(indices_bk, len(weights.encoder_nd))
    bias_pull_n = by_latent.sum(code_pull_bk, centred_bd.new_ones(len(centred_bd), 1)).squeeze(1)
    return Weights(
        by_latent.sum(code_pull_bk, centred_bd),
        bias_pull_n,
        by_latent.sum(values_bk, pull_bd),
        -(bias_pull_n @ weights.encoder_nd),
    )
