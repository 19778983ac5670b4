"""Training rows that stay on the disk: what a training reads when `extract.pooling` is `none`.

The rows come in *pieces* (`RowSource`), each read whole. An epoch takes the pieces in a new order, fills a buffer of
bounded size with as many of them as fit, shuffles its rows and cuts batches from it; then the next pieces. Where the
buffer holds everything this is exactly the in-memory training (tests/dictionaries/test_dictionary_stream.py). The
order depends on (seed, epoch) alone, so that a training goes on from its checkpoint without a generator's state.

What looks at rows outside an epoch (the pre-bias, a reset to poorly reconstructed rows, a threshold, baselines) looks
at a fixed sample of `SAMPLE_ROWS` of them, or at all where there are no more.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from antar.core.errors import UserError
from antar.core.seeds import numpy_rng, torch_rng
from antar.dictionaries.data import RELATIVE_FLOOR, Scaling, batch_sizes

SAMPLE_ROWS = 2**15
"""Rows that stand for all where a part of them has to be in memory: 268 MB at 2,048 columns."""


class RowSource(Protocol):
    """Raw activations on the disk.

    width: columns; sizes: int64 `[n_pieces]`, rows of each piece, all ≥ 1
    identity: a checksum of what the rows are
    """

    @property
    def width(self) -> int: ...

    @property
    def sizes(self) -> np.ndarray: ...

    @property
    def identity(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, piece: int) -> np.ndarray:
        """float32 `[sizes[piece], width]`, all finite; the caller may change it."""
        ...


def check_source(source: RowSource, split: str) -> None:
    if len(source) == 0:
        raise UserError(f"{split} activations: expected at least one token, found none; check the corpus's splits")


def sample_rows(source: RowSource, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64 `[m]`, float32 `[m, width]`): at most `most` rows of `source`, drawn without replacement, in their own
    order; all of them where there are no more. Pieces without a drawn row are not read."""
    n = len(source)
    drawn = np.arange(n) if n <= most else np.sort(numpy_rng(seed, "rows").choice(n, most, replace=False))
    out_md = np.empty((len(drawn), source.width), np.float32)
    starts = np.concatenate([[0], np.cumsum(source.sizes)])
    edges = np.searchsorted(drawn, starts)
    for piece, (lo, hi) in enumerate(itertools.pairwise(edges)):
        if hi > lo:
            out_md[lo:hi] = source.read(piece)[drawn[lo:hi] - starts[piece]]
    return drawn, out_md


@dataclass(frozen=True)
class Moments:
    """Of all rows, in fp64, column by column: mean_d; squares_d about the mean and raw_d about zero, summed."""

    rows: int
    mean_d: np.ndarray
    squares_d: np.ndarray
    raw_d: np.ndarray

    @classmethod
    def of(cls, source: RowSource) -> Moments:
        """One pass. Pieces are joined by Chan, Golub and LeVeque's (1983) update, which keeps what one subtraction
        of two large sums would lose."""
        n, mean_d, squares_d, raw_d = 0, *np.zeros((3, source.width))
        for piece in range(len(source.sizes)):
            rows_bd = source.read(piece).astype(np.float64)
            raw_d += np.square(rows_bd).sum(axis=0)
            its_mean_d = rows_bd.mean(axis=0)
            rows_bd -= its_mean_d
            apart_d, total = its_mean_d - mean_d, n + len(rows_bd)
            squares_d += np.square(rows_bd).sum(axis=0) + np.square(apart_d) * (n * len(rows_bd) / total)
            mean_d += apart_d * (len(rows_bd) / total)
            n = total
        return cls(n, mean_d, squares_d, raw_d)

    def scaling(self, columns: slice, normalise: bool, floor: float) -> Scaling:
        """Centre and scale of some columns, as `data.fit_scaling` finds them in memory."""
        centre_d = self.mean_d[columns].astype(np.float32)
        size = self.rows * len(centre_d)
        scale, raw = (float(np.sqrt(sums_d[columns].sum() / size)) for sums_d in (self.squares_d, self.raw_d))
        if scale <= max(floor, RELATIVE_FLOOR * raw):
            return Scaling(centre_d, 0.0)
        if not normalise:
            return Scaling(np.zeros_like(centre_d), 1.0)
        return Scaling(centre_d, scale)


class StreamedRows:
    """The normalised rows of `source` in batches.

    buffer_bytes: what the rows that are shuffled together may take; a piece that is larger is shuffled alone
    """

    def __init__(
        self, source: RowSource, scaling: Scaling, batch: int, seed: int, buffer_bytes: int, device: torch.device
    ) -> None:
        self._source, self._scaling, self._batch, self._seed = source, scaling, batch, seed
        self._device = device
        fitting = max(1, buffer_bytes // (4 * source.width))
        # One buffer, filled again and again: new ones of this size would leave holes in the process's memory.
        largest = int(source.sizes.max())
        self._rows = min(max(fitting, largest), len(source))
        self._buffer_nd = torch.empty(self._rows, source.width)

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """The epoch's batches, `[b, width]` on the device, of the sizes that `data.epoch_batches` cuts."""
        sizes = batch_sizes(len(self), self._batch)
        wanted = next(sizes)
        left_bd = self._buffer_nd[:0]
        for number, pieces in enumerate(self._groups(epoch)):
            buffer_nd = self._fill(pieces)
            order = torch.randperm(len(buffer_nd), generator=self._generator(epoch, number))
            at = 0
            while at + wanted - len(left_bd) <= len(order):
                hi = at + wanted - len(left_bd)
                batch_bd = buffer_nd[order[at:hi]]
                yield (torch.cat([left_bd, batch_bd]) if len(left_bd) else batch_bd).to(self._device)
                at, left_bd, wanted = hi, self._buffer_nd[:0], next(sizes, len(self) + 1)
            left_bd = torch.cat([left_bd, buffer_nd[order[at:]]])

    def _groups(self, epoch: int) -> Iterator[np.ndarray]:
        """The pieces in the epoch's order, as many at a time as fit into the buffer; each group ascending, so that
        one group of all pieces is the rows in their own order."""
        order = numpy_rng(self._seed, "dictionary", "pieces", epoch).permutation(len(self._source.sizes))
        group: list[int] = []
        rows = 0
        for piece in order:
            its = int(self._source.sizes[piece])
            if group and rows + its > self._rows:
                yield np.sort(group)
                group, rows = [], 0
            group.append(int(piece))
            rows += its
        yield np.sort(group)

    def _fill(self, pieces: np.ndarray) -> Tensor:
        lo = 0
        for piece in pieces:
            rows_bd = self._scaling.apply(self._source.read(int(piece)), torch.device("cpu"))
            self._buffer_nd[lo : lo + len(rows_bd)] = rows_bd
            lo += len(rows_bd)
        return self._buffer_nd[:lo]

    def _generator(self, epoch: int, group: int) -> torch.Generator:
        # The first group's is that of `data.epoch_batches`: a buffer that holds everything gives its very order.
        return torch_rng(self._seed, "dictionary", "epoch", epoch, *([group] if group else []))
