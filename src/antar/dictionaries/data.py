"""What a training reads: checked, centred and scaled activations, and the order of the texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.finite import first_bad_row
from antar.core.seeds import torch_rng

# fp32 activations carry about 1e-7 of their size as rounding: a spread below this share of it is not a signal.
RELATIVE_FLOOR = 1e-6


@dataclass(frozen=True)
class Scaling:
    """x → (x − centre) / scale. scale² is the mean square about the centre; 0 for a split without variance.

    scale_d: float32 `[d]`, a scale for each column where they differ (the two sides of a crosscoder); `scale` is then
    their root mean square
    """

    centre_d: np.ndarray
    scale: float
    scale_d: np.ndarray | None = None

    @property
    def columns_d(self) -> np.ndarray:
        """The scale of each column, float32 `[d]`."""
        return np.full(len(self.centre_d), self.scale, np.float32) if self.scale_d is None else self.scale_d

    def apply(self, acts_nd: np.ndarray, device: torch.device) -> Tensor:
        centred_nd = np.subtract(acts_nd, self.centre_d, dtype=np.float32)
        centred_nd *= np.float32(1.0 / self.scale) if self.scale_d is None else 1.0 / self.scale_d
        return torch.from_numpy(centred_nd).to(device)


def check_rows(acts_nd: np.ndarray, split: str, d_model: int | None = None) -> None:
    """Raise a UserError for what no dictionary can be trained on, naming the first bad row."""
    if acts_nd.ndim != 2 or 0 in acts_nd.shape:
        raise UserError(
            f"{split} activations: expected [texts, d_model] with at least one text, found shape "
            f"{list(acts_nd.shape)}; check the corpus and its splits"
        )
    if d_model is not None and acts_nd.shape[1] != d_model:
        raise UserError(
            f"{split} activations: expected width {d_model} like the training split's, found {acts_nd.shape[1]}"
        )
    if found := first_bad_row(acts_nd):
        row, bad = found
        raise UserError(
            f"{split} activations, row {row}: expected finite numbers, found NaN or infinity in {bad} of "
            f"{acts_nd.shape[1]} columns; extract this text again in fp32"
        )


def fit_scaling(train_nd: np.ndarray, cfg_normalise: bool, floor: float = 0.0) -> Scaling:
    """Centre and scale of the whole training split, in fp64.

    scale is 0 when the split has no variance: its RMS about the mean is at most `floor` (activation units) or lies
    within fp32 rounding of the rows themselves.
    """
    centre_d = train_nd.mean(axis=0, dtype=np.float64)
    squares, raw_squares = 0.0, 0.0
    for lo in range(0, len(train_nd), 4096):
        rows_bd = train_nd[lo : lo + 4096].astype(np.float64)
        raw_squares += float(np.square(rows_bd).sum())
        squares += float(np.square(rows_bd - centre_d).sum())
    scale = float(np.sqrt(squares / train_nd.size))
    if scale <= max(floor, RELATIVE_FLOOR * float(np.sqrt(raw_squares / train_nd.size))):
        return Scaling(centre_d.astype(np.float32), 0.0)
    if not cfg_normalise:
        return Scaling(np.zeros(train_nd.shape[1], dtype=np.float32), 1.0)
    return Scaling(centre_d.astype(np.float32), scale)


def epoch_batches(n_rows: int, batch: int, seed: int, epoch: int, device: torch.device) -> tuple[Tensor, ...]:
    """The epoch's shuffled rows in ceil(n_rows / batch) batches whose sizes differ by at most one.

    The order depends on (seed, epoch) only, so a resumed training needs no generator state.
    """
    order = torch.randperm(n_rows, generator=torch_rng(seed, "dictionary", "epoch", epoch))
    return order.to(device).tensor_split(steps_per_epoch(n_rows, batch))


def batch_sizes(n_rows: int, batch: int) -> Iterator[int]:
    """The sizes of the batches that `epoch_batches` cuts, in their order."""
    steps = steps_per_epoch(n_rows, batch)
    size, larger = divmod(n_rows, steps)
    return (size + (step < larger) for step in range(steps))


def steps_per_epoch(n_rows: int, batch: int) -> int:
    return -(-n_rows // batch)
