"""Rows in, reconstruction error out: what a step does before and after its encode, block of columns by block.

Reconstruction is sparse and goes latent by latent, so that the decoder is read once: for each entry one decoder row
is added to its text. A block of columns of all texts is kept packed, because rows 8 KB apart would fall into the same
lines of the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from antar.core.jit import REASSOCIATE, jit
from antar.dictionaries.fast.bits import put, to_f32


@jit(fastmath=REASSOCIATE)
def prepare_rows(x_bd: Any, bias_d: Any, lo: Any, hi: Any, low_bd: Any, squares_b: Any) -> None:
    """x − b_dec of texts lo … hi − 1 in the kernels' precision, and its squared length."""
    for b in range(lo, hi):
        x, low, square = x_bd[b], low_bd[b], np.float32(0)
        for c in range(x.shape[0]):
            centred = x[c] - bias_d[c]
            square += centred * centred
            put(low, c, centred)
        squares_b[b] = square


@jit(fastmath=REASSOCIATE)
def error_columns(
    x_bd: Any,
    decoder_nd: Any,
    bias_d: Any,
    entries: Any,
    lo: Any,
    hi: Any,
    made_bw: Any,
    error_bd: Any,
    low_bd: Any,
    squares_b: Any,
    sums_d: Any,
) -> None:
    """Columns lo … hi − 1 of the error x − x̂, into `error_bd` (float32) and `low_bd` (the kernels' precision); their
    squares, summed over these columns, into squares_b, and their sums over the texts into sums_d.
    made_bw is scratch `[batch, hi − lo]`."""
    batch, width = x_bd.shape[0], hi - lo
    starts, rows_e, values_e = entries.starts, entries.rows, entries.values
    bias = bias_d[lo:hi]
    for b in range(batch):
        made = made_bw[b]
        for c in range(width):
            made[c] = bias[c]
    for j in range(decoder_nd.shape[0]):
        row = decoder_nd[j, lo:hi]
        for e in range(starts[j], starts[j + 1]):
            value, made = values_e[e], made_bw[rows_e[e]]
            for c in range(width):
                made[c] += value * row[c]
    sums = np.zeros(width, np.float32)
    for b in range(batch):
        x, error, low, made = x_bd[b, lo:hi], error_bd[b, lo:hi], low_bd[b, lo:hi], made_bw[b]
        for c in range(width):
            error[c] = x[c] - made[c]
        square = np.float32(0.0)
        for c in range(width):
            square += error[c] * error[c]
            sums[c] += error[c]
        for c in range(width):
            put(low, c, error[c])
        squares_b[b] = square
    sums_d[lo:hi] = sums


@jit()
def dead_values(pre_bn: Any, bias_n: Any, dead_m: Any, asleep_m: Any, first: Any, values_bm: Any) -> None:
    """Pre-activations of the dead latents for rows first, first + 1, … of values_bm (float32), ReLU'd; 0 for those
    that woke up."""
    for r in range(pre_bn.shape[0]):
        pre, values = pre_bn[r], values_bm[first + r]
        for i in range(dead_m.shape[0]):
            value = to_f32(pre[dead_m[i]]) + bias_n[dead_m[i]]
            values[i] = value if asleep_m[i] and not value <= np.float32(0) else np.float32(0)


@jit()
def keep_selected(indices_e: Any, values_e: Any, k: Any, sizes_b: Any, values_bm: Any) -> None:
    """values_bm keeps the entries that were selected (those of row b begin at b · k); the others become 0."""
    for b in range(values_bm.shape[0]):
        values = values_bm[b]
        for i in range(values.shape[0]):
            values[i] = np.float32(0)
        for e in range(b * k, b * k + sizes_b[b]):
            values[indices_e[e]] = values_e[e]
