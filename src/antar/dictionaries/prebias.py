"""Where the decoder bias starts: the point that a dictionary's latents are counted from.

Inputs that are normalised are centred on their mean already, so that `mean` and `zero` are one start there: zero. The
geometric median is the point of least mean distance, which texts of outlying norm hardly move; on normalised inputs
it says how far those texts had pulled the mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from antar.core.seeds import torch_rng
from antar.dictionaries.config import DictionaryConfig

SAMPLE_ROWS = 8192
"""A sample of this many texts is a starting point good enough, and bounds the memory."""
MAX_ITERATIONS = 1000
TOLERANCE = 1e-9


def first_bias(x_nd: Tensor, cfg: DictionaryConfig, seed: int) -> Tensor:
    """The decoder bias `[d_model]` that a training on `x_nd`, its (normalised) inputs, starts with."""
    if cfg.pre_bias == "geometric_median":
        sample = torch.randperm(len(x_nd), generator=torch_rng(seed, "dictionary", "pre-bias"))[:SAMPLE_ROWS]
        median_d = geometric_median(x_nd[sample.to(x_nd.device)].cpu().numpy())
        return torch.from_numpy(median_d).to(x_nd)
    if cfg.pre_bias == "mean" and not cfg.normalise:
        return x_nd.mean(0, dtype=torch.float64).to(x_nd.dtype)
    return x_nd.new_zeros(x_nd.shape[1])


def geometric_median(rows_nd: np.ndarray) -> np.ndarray:
    """float64 `[d]`: argmin over m of Σ‖x − m‖.

    Weiszfeld's fixed point, with the step of Vardi and Zhang (2000, eq. 2.6) where the iterate meets a row, so that
    it neither divides by zero nor stops at a row that is not the answer.
    """
    rows_nd = rows_nd.astype(np.float64)
    point_d = rows_nd.mean(axis=0)
    spread = float(np.sqrt(np.square(rows_nd - point_d).sum(axis=1).mean()))
    for _ in range(MAX_ITERATIONS if spread > 0 else 0):
        away_nd = rows_nd - point_d
        distance_n = np.linalg.norm(away_nd, axis=1)
        here_n = distance_n <= 1e-12 * spread
        weight_n = np.where(here_n, 0.0, 1.0 / np.where(here_n, 1.0, distance_n))
        pull_d = weight_n @ away_nd
        length = float(np.linalg.norm(pull_d))
        # The rows at the point hold it with a force of one each; the others pull with `length`.
        held = 0.0 if not here_n.any() else 1.0 if length == 0 else min(1.0, here_n.sum() / length)
        step_d = (1.0 - held) * pull_d / max(float(weight_n.sum()), 1e-300)
        point_d = point_d + step_d
        if np.linalg.norm(step_d) <= TOLERANCE * spread:
            break
    return point_d
