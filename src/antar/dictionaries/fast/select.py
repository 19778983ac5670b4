"""The k largest pre-activations of each row, and the same entries sorted by latent.

Selection is exact: ReLU first, then a radix select on the bits of the positive values (which sort as the values do).
A guess from the row before leaves most of a row out of the sort; where the guess was too high the whole row is
looked at again, so the guess never changes a result. Ties go to the lower latent. A NaN counts as the largest value,
as in torch, so that a training that diverges is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from antar.core.jit import jit
from antar.dictionaries.fast.bits import bits_of, f32_of, to_f32

NAN_BITS = 0x7FC00000
# The share of the last row's k-th value (as a step in its bits: half an octave) at which the next row's search
# begins.
SLACK = 1 << 22


@jit()
def kth_key(keys: Any, n: Any, k: Any, spare: Any, hist: Any) -> Any:
    """(key, ties): the k-th largest of `keys[:n]` (int32 > 0, n ≥ k ≥ 1), and how many that equal it are among the
    k largest. `spare` (int32, n) is overwritten, `keys` is not. hist: int32 [2048]."""
    shift = np.int32(20)
    source = keys
    need = k
    prefix = np.int32(0)
    width = n
    for level in range(3):
        mask = np.int32(0x7FF) if level < 2 else np.int32(0x1FF)
        hist[:] = 0
        for i in range(width):
            hist[(source[i] >> shift) & mask] += 1
        digit = mask
        while hist[digit] < need:
            need -= hist[digit]
            digit -= 1
        prefix |= np.int32(digit) << shift
        kept = 0
        for i in range(width):
            key = source[i]
            spare[kept] = key
            if ((key >> shift) & mask) == digit:
                kept += 1
        source = spare
        width = kept
        shift = np.int32(0) if level == 1 else np.int32(9)
    return prefix, need


@jit()
def positive_keys(pre_n: Any, bias_n: Any, keys_n: Any) -> None:
    """ReLU, as keys: the bits of pre-activation + bias where that is positive or NaN, else 0."""
    for j in range(bias_n.shape[0]):
        value = to_f32(pre_n[j]) + bias_n[j]
        key = bits_of(value) if value > np.float32(0.0) else np.int32(0)
        keys_n[j] = np.int32(NAN_BITS) if value != value else key


@jit()
def select_rows(
    pre_bn: Any, bias_n: Any, k: Any, first: Any, indices_e: Any, values_e: Any, sizes_b: Any, counts_n: Any
) -> None:
    """Rows of `pre_bn` (bfloat16 bits or float32, without the bias) → entries of texts `first`, first + 1, …; those
    of text b begin at b · k: latents in ascending order, and values > 0. sizes_b: how many they are, at most k.
    counts_n gains one for each entry of its latent."""
    n = bias_n.shape[0]
    keys_n = np.empty(n, np.int32)
    near_m = np.empty(n + 1, np.int32)
    which_m = np.empty(n + 1, np.int32)
    spare_m = np.empty(n + 1, np.int32)
    hist = np.empty(2048, np.int32)
    guess = np.int32(1)
    for r in range(pre_bn.shape[0]):
        positive_keys(pre_bn[r], bias_n, keys_n)
        while True:
            m = 0
            for j in range(n):
                key = keys_n[j]
                near_m[m] = key
                which_m[m] = j
                m += np.int64(key >= guess)
            if m >= k or guess == 1:
                break
            guess = np.int32(1)
        b = first + r
        begin = b * k
        at = begin
        if m <= k:
            limit, ties = np.int32(1), k
            guess = np.int32(1)
        else:
            limit, ties = kth_key(near_m, m, k, spare_m, hist)
            guess = max(np.int32(1), limit - np.int32(SLACK))
        for i in range(m):
            key = near_m[i]
            if key > limit or (key == limit and ties > 0):
                if key == limit:
                    ties -= 1
                indices_e[at] = which_m[i]
                values_e[at] = f32_of(np.uint32(key))
                counts_n[which_m[i]] += 1
                at += 1
        sizes_b[b] = at - begin


@jit()
def starts_by_latent(counts_cn: Any, starts: Any) -> None:
    """counts_cn[c, n]: entries of each latent in each chunk of rows → where each chunk's run of each latent begins
    (in place), and `starts` [n + 1]: where each latent begins and ends. Chunks are consecutive rows, so the order
    of the entries does not depend on how the rows were cut."""
    at = 0
    for j in range(counts_cn.shape[1]):
        starts[j] = at
        for c in range(counts_cn.shape[0]):
            count = counts_cn[c, j]
            counts_cn[c, j] = at
            at += count
    starts[counts_cn.shape[1]] = at


@jit()
def fill_by_latent(
    indices_e: Any,
    values_e: Any,
    begins_b: Any,
    sizes_b: Any,
    lo: Any,
    hi: Any,
    next_n: Any,
    rows_e: Any,
    sorted_e: Any,
) -> None:
    """Put the entries of texts lo … hi − 1 where `next_n` says: the text and the value of each, sorted by latent."""
    for b in range(lo, hi):
        for e in range(begins_b[b], begins_b[b] + sizes_b[b]):
            j = indices_e[e]
            at = next_n[j]
            rows_e[at] = b
            sorted_e[at] = values_e[e]
            next_n[j] = at + 1
