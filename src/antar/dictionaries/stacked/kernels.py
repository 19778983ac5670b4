"""The optimiser of a stack as two Triton kernels, a program a latent; `update.py` holds their twin in plain torch.

At a small batch a step is bound by the optimiser's memory traffic. These kernels read each gradient, weight and
moment once, keep a latent's row in registers, and write weight, moments and the copy that the matrix products read,
once. Torch's CUDA wheels bring Triton; this module is imported only where there is one, by `update.py`.
"""

# Triton's language has no types that a checker knows.
# pyright: basic, reportIndexIssue=false

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor


@triton.jit
def _squares_kernel(
    encoder_grad,
    decoder_grad,
    decoder,
    squares,
    d,
    BLOCK: tl.constexpr,
):
    """squares[row] = ‖encoder gradient‖² + ‖decoder gradient without its part along the row‖²."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < d
    at = row * d + column
    g = tl.load(decoder_grad + at, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(decoder + at, mask=inside, other=0.0)
    g -= tl.sum(g * w, axis=0) * w
    e = tl.load(encoder_grad + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(squares + row, tl.sum(g * g, axis=0) + tl.sum(e * e, axis=0))


@triton.jit
def _rows_kernel(
    weight, gradient, first, second, low, scale, rates, latents, d, kept1, kept2, new1, new2, eps,
    UNIT: tl.constexpr, LOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """AdamW on one row. UNIT: its gradient is made tangent first and the row has unit length after. LOW: copy it."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < d
    at = row * d + column
    w = tl.load(weight + at, mask=inside, other=0.0)
    g = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    if UNIT:
        g -= tl.sum(g * w, axis=0) * w
    g *= tl.load(scale + row // latents)
    m = kept1 * tl.load(first + at, mask=inside, other=0.0) + new1 * g
    v = kept2 * tl.load(second + at, mask=inside, other=0.0) + new2 * g * g
    tl.store(first + at, m, mask=inside)
    tl.store(second + at, v, mask=inside)
    w -= tl.load(rates + 2) * w
    w -= tl.load(rates) * m / (tl.sqrt(v) * tl.load(rates + 1) + eps)
    if UNIT:
        w = w / tl.maximum(tl.sqrt(tl.sum(w * w, axis=0)), 1e-30)
    tl.store(weight + at, w, mask=inside)
    if LOW:
        tl.store(low + at, w.to(low.dtype.element_ty), mask=inside)


def _launch(d: int) -> dict[str, int]:
    """One block holds a row; more warps for a long one, so that it stays in registers."""
    block = triton.next_power_of_2(d)
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 256))}


def squares(encoder_grad_snd: Tensor, decoder_grad_snd: Tensor, decoder_snd: Tensor) -> Tensor:
    s, n, d = decoder_snd.shape
    squares_sn = decoder_snd.new_empty(s, n)
    _squares_kernel[(s * n,)](encoder_grad_snd, decoder_grad_snd, decoder_snd, squares_sn, d, **_launch(d))
    return squares_sn.sum(1)


def adam_rows_(
    weight_snd: Tensor, gradient_snd: Tensor, first_snd: Tensor, second_snd: Tensor, low_snd: Tensor,
    scale_s: Tensor, rates_3: Tensor, betas: tuple[float, float], eps: float, unit: bool,
) -> None:  # fmt: skip
    s, n, d = weight_snd.shape
    _rows_kernel[(s * n,)](
        weight_snd, gradient_snd, first_snd, second_snd, low_snd, scale_s, rates_3, n, d,
        betas[0], betas[1], 1.0 - betas[0], 1.0 - betas[1], eps,
        UNIT=unit, LOW=low_snd.dtype != weight_snd.dtype, **_launch(d),
    )  # fmt: skip
