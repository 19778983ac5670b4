"""From token vectors to what is stored: one float32 row a text (`mean`, `last`, `max`), or one a token (`none`).

Only tokens that the token shards keep are pooled, so that every side pools the same ones. Sums are in float32
whatever the forward pass computes in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from antar.models.config import Pooling


def pool(hidden_td: Tensor, keep: Sequence[np.ndarray], how: Pooling) -> Tensor:
    """float32 `[b, d]`, or for `none` `[kept tokens, d]`.

    hidden_td: `[tokens, d]`, the texts one after another; keep: bool `[n_tokens]` of each text, at least one true
    """
    ends = np.cumsum([len(one) for one in keep])
    kept = [end - len(one) + np.flatnonzero(one) for end, one in zip(ends, keep, strict=True)]
    if how == "none":
        return hidden_td[_on(hidden_td, np.concatenate(kept))].float()
    if how == "last":
        return hidden_td[_on(hidden_td, np.array([places[-1] for places in kept]))].float()
    count_b = np.array([len(places) for places in kept])
    place_bt = np.zeros((len(kept), count_b.max()), np.int64)
    for row, places in enumerate(kept):
        place_bt[row, : len(places)] = places
    beyond_bt = torch.from_numpy(np.arange(place_bt.shape[1]) >= count_b[:, None]).to(hidden_td.device)
    # Filled, not multiplied: an infinity under the mask times zero would be a NaN.
    kept_btd = hidden_td[_on(hidden_td, place_bt)].masked_fill(
        beyond_bt.unsqueeze(-1), 0 if how == "mean" else float("-inf")
    )
    if how == "max":
        return kept_btd.amax(dim=1).float()
    return kept_btd.sum(dim=1, dtype=torch.float32) / _on(hidden_td, count_b).unsqueeze(1)


def a_text(pooling: Pooling) -> Pooling:
    """The pooling that gives one row a text: where tokens are kept, their mean."""
    return "mean" if pooling == "none" else pooling


def _on(tensor: Tensor, array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).to(tensor.device)
