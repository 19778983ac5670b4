"""Padded batches in the given order, and the mean over a text's tokens, as every reader but antar's makes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.readers import BATCH


def padded_batches(ids: list[np.ndarray]) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(which texts, ids `[b, t]`, attention mask `[b, t]`)."""
    for start in range(0, len(ids), BATCH):
        these = ids[start : start + BATCH]
        longest = max(map(len, these))
        ids_bt = torch.zeros(len(these), longest, dtype=torch.int64)
        mask_bt = torch.zeros(len(these), longest, dtype=torch.int64)
        for row, one in enumerate(these):
            ids_bt[row, : len(one)] = torch.from_numpy(one)
            mask_bt[row, : len(one)] = 1
        yield slice(start, start + len(these)), ids_bt, mask_bt


def mean_bd(hidden_btd: Tensor, mask_bt: Tensor) -> np.ndarray:
    total_bd = (hidden_btd.float() * mask_bt.unsqueeze(-1)).sum(dim=1)
    return (total_bd / mask_bt.sum(dim=1, keepdim=True)).numpy()
