"""Rows in, reconstruction error out: what a step does before and after its encode.

Reconstruction is sparse: a text's row is the sum of its k decoder rows. These are gathered from a copy of the
decoder in the kernels' precision, packed in blocks of columns that the last-level cache holds, all texts block after
block."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from antar.core.jit import REASSOCIATE, jit
from antar.dictionaries.fast.bits import put, to_f32
from antar.dictionaries.fast.update import add_weighted


class TextCodes(NamedTuple):
    """The codes of a batch text after text: where each text's entries begin and how many they are `[batch]`; latent
    and value of each entry."""

    begins: Any
    sizes: Any
    latents: Any
    values: Any


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
def error_rows(
    q: Any,
    lo: Any,
    hi: Any,
    x_bd: Any,
    low_decoder_nw: Any,
    bias_d: Any,
    codes: Any,
    error_bd: Any,
    low_bd: Any,
    squares_b: Any,
    sums_d: Any,
) -> None:
    """Columns q · w … (q + 1) · w − 1 of the error x − x̂ of texts lo … hi − 1, into `error_bd` (float32) and
    `low_bd` (the kernels' precision); a text's squares, summed over these columns, into squares_b, and their sums
    over the texts into sums_d `[w]`. low_decoder_nw: these columns of the decoder, packed. codes: `TextCodes`."""
    width = low_decoder_nw.shape[1]
    left = q * width
    made = np.empty(width, np.float32)
    for c in range(width):
        sums_d[c] = np.float32(0)
    for b in range(lo, hi):
        begin = codes.begins[b]
        for c in range(width):
            made[c] = bias_d[left + c]
        add_weighted(made, low_decoder_nw, codes.latents, codes.values, begin, begin + codes.sizes[b], np.float32(1))
        x, error, low = x_bd[b, left : left + width], error_bd[b, left : left + width], low_bd[b, left : left + width]
        for c in range(width):
            error[c] = x[c] - made[c]
        square = np.float32(0)
        for c in range(width):
            square += error[c] * error[c]
            sums_d[c] += error[c]
        for c in range(width):
            put(low, c, error[c])
        squares_b[b] = square


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
