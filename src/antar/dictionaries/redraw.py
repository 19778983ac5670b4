"""Where the rows of reset latents come from when they are re-drawn from what is poorly reconstructed.

After Bricken et al. 2023 ("Towards Monosemanticity", appendix, resampling): texts are drawn with probability in
proportion to their squared loss, a dead latent takes a text's direction, and its encoder row is short. Three things
are otherwise here, because decoder rows have unit length and a text's k largest latents fire. The direction is the
text's residual rather than the text: a unit row along the text would add most of it a second time. Texts are drawn
without replacement: two latents that start alike get equal gradients and stay alike. And a text without loss is not
drawn at all, so that there may be fewer rows than were asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from antar.dictionaries.weights import unit_rows_

SAMPLE_ROWS = 8192
CHUNK_ROWS = 4096

Reconstruct = Callable[[Tensor], Tensor]


def residual_rows(x_nd: Tensor, reconstruct: Reconstruct, wanted: int, generator: torch.Generator) -> Tensor:
    """Unit rows `[m, d]`, m ≤ wanted: directions of residuals of inputs `x_nd`, on their device.

    Looks at a sample of them, twice as large as what is wanted. Depends on the weights behind `reconstruct` and on
    the (CPU) generator only.
    """
    sample_s = torch.randperm(len(x_nd), generator=generator)[: max(SAMPLE_ROWS, 2 * wanted)].to(x_nd.device)
    loss_s = torch.cat([_residual(x_nd[rows], reconstruct).square().sum(1) for rows in sample_s.split(CHUNK_ROWS)])
    # Gumbel's trick: the largest of log p + noise are a draw without replacement in proportion to p = loss².
    uniform_s = torch.rand(len(sample_s), generator=generator, dtype=torch.float64).clamp_min_(1e-300)
    keys_s = 2.0 * loss_s.double().cpu().log() - (-uniform_s.log()).log()
    drawn_m = keys_s.topk(min(wanted, int((loss_s > 0).sum()))).indices.to(x_nd.device)
    return unit_rows_(_residual(x_nd[sample_s[drawn_m]], reconstruct))


def _residual(x_bd: Tensor, reconstruct: Reconstruct) -> Tensor:
    return x_bd - reconstruct(x_bd)
