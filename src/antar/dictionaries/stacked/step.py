"""One training step of a stack of dictionaries: `loss.py`, written with batched products and fixed shapes.

Every tensor has the stack's dictionaries as its first dimension, s. Codes are dense here (`[s, batch, n_latents]`,
zero where nothing fired), because at the study's density a device's matrix units are faster on them than gathers
are. Batches are padded to one size; `live` is 0 for the rows that are padding, and takes them out of every sum.
AuxK has a fixed number of slots for dead latents (`Slots`), those that are not needed being masked. So one stack and
one number of slots is one sequence of operations on tensors that stay where they are, as a CUDA graph wants it: no
random numbers, nothing that waits for the device, no value that comes from the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antar.dictionaries.auxk import FLOOR
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.weights import Weights

SMALLEST_BUCKET = 64


@dataclass(frozen=True)
class Slots:
    """Places for m dead latents of each dictionary.

    latents_sm: int64, distinct within a dictionary; dead ones first, then live ones as padding
    rows_e: int64 `[s·m]`, the same as rows of the `[s·n, d]` view of all decoders
    filled_sm: bool, False for the padding
    """

    latents_sm: Tensor
    rows_e: Tensor
    filled_sm: Tensor

    @classmethod
    def empty(cls, s: int, m: int, device: torch.device) -> Slots:
        latents_sm = torch.zeros(s, m, dtype=torch.int64, device=device)
        return cls(latents_sm, latents_sm.reshape(-1).clone(), torch.zeros_like(latents_sm, dtype=torch.bool))

    def fill_(self, dead_sn: Tensor) -> None:
        """Take in the dead latents, in place: a captured graph reads these very tensors."""
        s, n = dead_sn.shape
        m = self.latents_sm.shape[1]
        self.latents_sm.copy_(dead_sn.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :m])
        self.filled_sm.copy_(dead_sn.gather(1, self.latents_sm))
        starts_s1 = n * torch.arange(s, device=dead_sn.device).unsqueeze(1)
        self.rows_e.copy_((self.latents_sm + starts_s1).reshape(-1))


def bucket(most_dead: int, n_latents: int) -> int:
    """How many slots: 0 where nobody is dead, else a power of two from 64 that holds them, n_latents at most."""
    return min(n_latents, max(SMALLEST_BUCKET, 1 << (most_dead - 1).bit_length())) if most_dead else 0


class Products:
    """Batched matrix products in the compute precision, summed in fp32."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self._rounds = dtype.itemsize < 4
        self._direct = self._rounds and _writes_fp32(dtype, device)

    def low(self, a: Tensor) -> Tensor:
        return a.to(self.dtype)

    def narrow(self, a: Tensor, b: Tensor) -> Tensor:
        """The product, rounded to the compute precision: for gradients, as autocast does it."""
        return torch.bmm(a, b)

    def wide(self, a: Tensor, b: Tensor) -> Tensor:
        """The product in fp32: for what is selected from, and for reconstructions."""
        if self._direct:
            return torch.bmm(a, b, out_dtype=torch.float32)  # pyright: ignore[reportCallIssue]
        return torch.bmm(a, b).float() if self._rounds else torch.bmm(a, b)


def _writes_fp32(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this torch multiplies `dtype` matrices into fp32 ones on this device (from 2.8 on CUDA)."""
    probe = torch.ones(1, 16, 16, dtype=dtype, device=device)
    try:
        return torch.bmm(probe, probe, out_dtype=torch.float32).dtype == torch.float32  # pyright: ignore[reportCallIssue]
    except (TypeError, RuntimeError):  # NotImplementedError is a RuntimeError
        return False


@dataclass(frozen=True)
class StackedStep:
    """gradients of each dictionary, its mean square error, and how often each latent fired (int32)."""

    gradients: Weights
    mse_s: Tensor
    fired_sn: Tensor


@dataclass(frozen=True)
class Batch:
    """Normalised rows, and which are no padding: live_sb1 is 1 or 0; numel_s11 counts the live entries."""

    x_sbd: Tensor
    live_sb1: Tensor
    numel_s11: Tensor

    @classmethod
    def of(cls, x_sbd: Tensor, live_sb: Tensor) -> Batch:
        return cls(x_sbd, live_sb.unsqueeze(2), (live_sb.sum(1) * x_sbd.shape[2]).view(-1, 1, 1))


def gradients(
    weights: Weights,
    low: tuple[Tensor, Tensor],
    batch: Batch,
    asleep_sm: Tensor | None,
    slots: Slots | None,
    cfg: DictionaryConfig,
    products: Products,
) -> StackedStep:
    """Of mean((x − x̂)²) + α · AuxK, for each dictionary by itself. `low` is the encoders and decoders in the compute
    precision; `asleep_sm` says which slots hold a latent that takes part in AuxK."""
    encoder_snd, decoder_snd = low
    centred_sbd = batch.x_sbd - weights.decoder_bias_d.unsqueeze(1)
    centred_low = products.low(centred_sbd)
    pre_sbn = products.wide(centred_low, encoder_snd.mT).add_(weights.encoder_bias_n.unsqueeze(1))
    values_sbk, indices_sbk = pre_sbn.topk(cfg.k, dim=2, sorted=False)
    codes_sbn = torch.zeros_like(pre_sbn, dtype=products.dtype)
    codes_sbn.scatter_(2, indices_sbk, products.low(values_sbk.relu_().mul_(batch.live_sb1)))
    fired_sbn = codes_sbn > 0
    residual_sbd = (centred_sbd - products.wide(codes_sbn, decoder_snd)).mul_(batch.live_sb1)
    pull_sbd = residual_sbd * (-2.0 / batch.numel_s11)  # ∂ mean((x − x̂)²) / ∂ x̂
    pull_low = products.low(pull_sbd)
    # ReLU and TopK pass a gradient only where a latent fired.
    code_pull_sbn = products.narrow(pull_low, decoder_snd.mT).mul_(fired_sbn)
    decoder_grad_snd = products.narrow(codes_sbn.mT, pull_low)
    if slots is not None and asleep_sm is not None:
        into = (code_pull_sbn, decoder_grad_snd)
        _add_auxk_(into, pre_sbn, residual_sbd, batch, asleep_sm, slots, decoder_snd, cfg, products)
    bias_pull_sn = code_pull_sbn.sum(1, dtype=pull_sbd.dtype)
    through_bias_sd = products.wide(products.low(bias_pull_sn).unsqueeze(1), encoder_snd).squeeze(1)
    result = Weights(
        products.narrow(code_pull_sbn.mT, centred_low),
        bias_pull_sn,
        decoder_grad_snd,
        pull_sbd.sum(1) - through_bias_sd,
    )
    mse_s = residual_sbd.square().sum((1, 2)) / batch.numel_s11.view(-1)
    return StackedStep(result, mse_s, fired_sbn.sum(1, dtype=torch.int32))


def _add_auxk_(
    into: tuple[Tensor, Tensor],
    pre_sbn: Tensor,
    residual_sbd: Tensor,
    batch: Batch,
    asleep_sm: Tensor,
    slots: Slots,
    decoder_snd: Tensor,
    cfg: DictionaryConfig,
    products: Products,
) -> None:
    """Add AuxK's gradients (auxk.py says what it is): to the codes' gradient, through which they reach encoder and
    biases with the rest, and to the dead rows of the decoders' gradient. A slot that is not asleep adds zeros."""
    code_pull_sbn, decoder_grad_snd = into
    (s, m), d = slots.latents_sm.shape, decoder_snd.shape[2]
    places_sbm = slots.latents_sm.unsqueeze(1).expand(-1, pre_sbn.shape[1], -1)
    pre_sbm = pre_sbn.gather(2, places_sbm).masked_fill_(~asleep_sm.unsqueeze(1), float("-inf"))
    if cfg.k_aux < m:
        values_sbk, chosen_sbk = pre_sbm.topk(cfg.k_aux, dim=2, sorted=False)
        values_sbm = torch.zeros_like(pre_sbm).scatter_(2, chosen_sbk, values_sbk.relu_())
    else:
        values_sbm = pre_sbm.relu_()
    values_low = products.low(values_sbm.mul_(batch.live_sb1))
    rows_smd = decoder_snd.reshape(-1, d).index_select(0, slots.rows_e).view(s, m, d)
    left_sbd = residual_sbd - products.wide(values_low, rows_smd)
    if cfg.auxk_normalised:
        squares_s11 = residual_sbd.square().sum((1, 2), keepdim=True)
        scale_s11 = torch.maximum(squares_s11, FLOOR * batch.numel_s11).reciprocal()
    else:
        scale_s11 = batch.numel_s11.reciprocal()
    pull_low = products.low(left_sbd * (-2.0 * cfg.auxk_coefficient * scale_s11))
    pull_sbm = products.narrow(pull_low, rows_smd.mT).mul_(values_low > 0)
    # Slots are distinct, so that a gather, a sum and a scatter are exact and the same each time.
    code_pull_sbn.scatter_(2, places_sbm, code_pull_sbn.gather(2, places_sbm).add_(pull_sbm))
    rows_grad_ed = products.narrow(values_low.mT, pull_low).view(s * m, d)
    decoder_grad_snd.view(-1, d).index_add_(0, slots.rows_e, rows_grad_ed)
