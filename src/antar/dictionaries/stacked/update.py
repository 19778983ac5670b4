"""The optimiser of a stack: AdamW with the unit-norm rule, tensor by tensor of all dictionaries at once.

Each dictionary of the stack is clipped by its own gradient's norm and has its own moments; the step count and the
learning rate are common, because all have taken the same number of steps. Nothing here waits for the device and
nothing is decided on the host, so that the whole of it can be captured in a CUDA graph: the learning rate comes from
a table on the device, by the step count on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from antar.core.progress import say
from antar.dictionaries.config import DictionaryConfig
from antar.dictionaries.schedule import learning_rate
from antar.dictionaries.weights import Weights

# `clip_grad_norm_` divides by the norm plus this.
CLIP_EPS = 1e-6


def rate_table(cfg: DictionaryConfig, planned: int, device: torch.device) -> Tensor:
    """float32 `[planned, 3]`: of each step (counted from 1; row 0 is step 1) what its rates come to, made in fp64:
    learning rate / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ), learning rate × weight decay."""
    step = torch.arange(1, planned + 1, dtype=torch.float64)
    lr = torch.tensor([learning_rate(cfg, at, planned) for at in range(1, planned + 1)], dtype=torch.float64)
    columns = (lr / (1 - cfg.betas[0] ** step), (1 - cfg.betas[1] ** step).rsqrt(), lr * cfg.weight_decay)
    return torch.stack(columns, dim=1).float().to(device)


def squares_plain(encoder_grad_snd: Tensor, decoder_grad_snd: Tensor, decoder_snd: Tensor) -> Tensor:
    """`[S]`: of each dictionary ‖encoder gradient‖² + ‖decoder gradient's tangent part‖²."""
    tangent_snd = _tangent(decoder_grad_snd.float(), decoder_snd)
    return encoder_grad_snd.float().square().sum((1, 2)) + tangent_snd.square().sum((1, 2))


def adam_rows_plain_(
    weight_snd: Tensor, gradient_snd: Tensor, first_snd: Tensor, second_snd: Tensor, low_snd: Tensor,
    scale_s: Tensor, rates_3: Tensor, betas: tuple[float, float], eps: float, unit: bool,
) -> None:  # fmt: skip
    """AdamW on rows. unit: the gradient's part along the row is taken out, and the row has unit length after."""
    gradient_snd = gradient_snd.float()
    if unit:
        gradient_snd = _tangent(gradient_snd, weight_snd)
    shape = (-1, *([1] * (weight_snd.ndim - 1)))
    adam_(weight_snd, gradient_snd * scale_s.view(shape), first_snd, second_snd, rates_3, betas, eps)
    if unit:
        weight_snd.div_(torch.linalg.vector_norm(weight_snd, dim=-1, keepdim=True).clamp_min_(1e-30))
    if low_snd.dtype != weight_snd.dtype:
        low_snd.copy_(weight_snd)


def _tangent(gradient_snd: Tensor, rows_snd: Tensor) -> Tensor:
    return gradient_snd.addcmul((gradient_snd * rows_snd).sum(-1, keepdim=True), rows_snd, value=-1)


def adam_(
    weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rates_3: Tensor,
    betas: tuple[float, float], eps: float,
) -> None:  # fmt: skip
    """AdamW on a tensor of any shape, with `rates_3` as in `rate_table`."""
    first.lerp_(gradient, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    weight.addcmul_(weight, rates_3[2], value=-1)
    weight.addcmul_(first / (second.sqrt().mul_(rates_3[1]).add_(eps)), rates_3[0], value=-1)


@dataclass(frozen=True)
class Update:
    """One step of all parameters. `squares` and `adam_rows_` are the plain ones above or the kernels."""

    clip: float
    betas: tuple[float, float]
    eps: float
    squares: Callable[[Tensor, Tensor, Tensor], Tensor] = squares_plain
    adam_rows_: Callable[..., None] = adam_rows_plain_

    def __call__(
        self, weights: Weights, low: tuple[Tensor, Tensor], moments: tuple[Weights, Weights], gradients: Weights,
        rates_3: Tensor,
    ) -> None:  # fmt: skip
        scale_s = self._scale(gradients, weights.decoder_nd)
        first, second = moments
        for name, copy, unit in (("encoder_nd", low[0], False), ("decoder_nd", low[1], True)):
            rows: list[Tensor] = [getattr(one, name) for one in (weights, gradients, first, second)]
            self.adam_rows_(*rows, copy, scale_s, rates_3, self.betas, self.eps, unit)
        for name in ("encoder_bias_n", "decoder_bias_d"):
            weight, gradient, m, v = (getattr(one, name) for one in (weights, gradients, first, second))
            adam_(weight, gradient * scale_s[:, None], m, v, rates_3, self.betas, self.eps)

    def _scale(self, gradients: Weights, decoder_snd: Tensor) -> Tensor:
        """`[S]`: what clipping multiplies each dictionary's gradient with."""
        if not self.clip:
            return decoder_snd.new_ones(len(decoder_snd))
        biases = (gradients.encoder_bias_n, gradients.decoder_bias_d)
        squares_s = self.squares(gradients.encoder_nd, gradients.decoder_nd, decoder_snd)
        squares_s = squares_s + sum(bias.square().sum(1) for bias in biases)
        return (self.clip / (squares_s.sqrt() + CLIP_EPS)).clamp_max(1.0)


def fastest_update(cfg: DictionaryConfig, d_model: int, low: torch.dtype, device: torch.device) -> Update:
    """The kernels on a CUDA device, once they have shown on a few rows that they do what their twin does; else, with
    a line that says why, the twin."""
    plain = Update(cfg.clip, cfg.betas, cfg.eps)
    if device.type != "cuda":
        return plain
    try:
        from antar.dictionaries.stacked import kernels

        check_kernels(kernels, d_model, low, device)
    except Exception as error:  # Triton's compiler raises what it likes, and the twin serves as well
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(f"  the optimiser's Triton kernels cannot be used here ({reason}); plain torch does its work, slower")
        return plain
    return replace(plain, squares=kernels.squares, adam_rows_=kernels.adam_rows_)


def check_kernels(kernels: ModuleType, d_model: int, low: torch.dtype, device: torch.device) -> None:
    """Raise ValueError unless `kernels` agrees with the plain functions on two dictionaries of three latents."""
    generator = torch.Generator().manual_seed(0)

    def draw(scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(2, 3, d_model, generator=generator)).to(device)

    weight, first, second = draw(), draw(0.1), draw(0.1).square()
    weight = weight / weight.norm(dim=-1, keepdim=True)
    encoder_grad, decoder_grad = draw().to(low), draw().to(low)
    same(
        "squares",
        kernels.squares(encoder_grad, decoder_grad, weight),
        squares_plain(encoder_grad, decoder_grad, weight),
    )
    scale_s = torch.tensor([0.5, 1.0], device=device)
    rates_3 = torch.tensor([1e-2, 1.3, 1e-3], device=device)
    for unit in (False, True):
        made: list[list[Tensor]] = []
        for adam_rows_ in (kernels.adam_rows_, adam_rows_plain_):
            mine = [tensor.clone() for tensor in (weight, first, second)]
            copy = mine[0] if low == torch.float32 else mine[0].to(low)
            rest: tuple[Any, ...] = (copy, scale_s, rates_3, (0.9, 0.999), 1e-8, unit)
            adam_rows_(mine[0], decoder_grad, mine[1], mine[2], *rest)
            made.append([*mine, copy.float()])
        rows = "decoder rows" if unit else "encoder rows"
        for name, kernel, plain in zip(("weight", "moment", "square", "copy"), *made, strict=True):
            same(f"{name} of {rows}", kernel, plain, 1e-2 if name == "copy" else 1e-5)


def same(what: str, found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    # Weights are compared beside the step that was taken, 1e-2 here, and not beside their own size.
    if not torch.allclose(found, expected, rtol=tolerance, atol=1e-6):
        gap = float((found - expected).abs().max())
        raise ValueError(f"{what} differ by {gap:.2g} from plain torch's")
