"""From the error to the next weights, latent by latent, in two passes over the weights.

First pass (`pulls`): for each entry the product of its text's error with the decoder row, which is the gradient of
the code and, weighted by the codes, the part of the decoder's gradient along its row. Second pass (`update_encoder`,
`update_decoder`): the gradient row of a latent from its entries, Adam, the unit length or the low-precision copy,
while the row is in the cache; no gradient of the weights is stored.

Clipping needs the norm of the whole gradient before the second pass. The first one gives a bound on it for next to
nothing; where the bound lies below the clip, as it nearly always does, the norm does not matter. Where it does not,
the gradients are stored after all (`store_gradients`), and the second pass reads them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from antar.core.jit import REASSOCIATE, jit
from antar.dictionaries.fast.bits import put, put_random, to_f32


class Entries(NamedTuple):
    """The codes of a batch sorted by latent. starts `[n + 1]`: where each latent's entries begin and end; of each
    entry its text (rows), value and pull (∂ loss / ∂ value); of each latent along_n = Σ value · pull, the decoder
    gradient's part along its row, and bias_n = Σ pull, AuxK's included."""

    starts: Any
    rows: Any
    values: Any
    pulls: Any
    along: Any
    bias: Any


class Adam(NamedTuple):
    """A parameter with its two moments, all of one shape."""

    weights: Any
    first: Any
    second: Any


class Aux(NamedTuple):
    """AuxK's gradient rows: slot_n is a latent's row in them, or −1; the decoder's are tangent already."""

    slot: Any
    encoder: Any
    decoder: Any


@jit(fastmath=REASSOCIATE)
def dot(a: Any, b: Any) -> Any:
    """Σ a · b over the length of a; b may be in low precision, and longer."""
    total = np.float32(0)
    for c in range(a.shape[0]):
        total += a[c] * to_f32(b[c])
    return total


@jit(fastmath=REASSOCIATE)
def pulls(
    lo: Any, hi: Any, decoder_nd: Any, low_nd: Any, error_bd: Any, entries: Any, scale: Any, squares: Any, back_d: Any
) -> Any:
    """For the latents lo … hi − 1: pulls = scale · ⟨error of the entry's text, decoder row⟩, `along`, and `bias`,
    which gains the sum of its pulls; back_d gains Σ bias · encoder row (for the decoder bias, through x − b_dec).

    squares: ‖x − b_dec‖² and ‖error‖² of each text. Returns what the squared length of both gradients of these
    latents cannot exceed (Cauchy and Schwarz: ‖Σ a_b x_b‖² ≤ m Σ a_b² ‖x_b‖² over a latent's m entries)."""
    starts, rows_e, values_e, pull_e = entries.starts, entries.rows, entries.values, entries.pulls
    d, bound = decoder_nd.shape[1], 0.0
    for j in range(lo, hi):
        row = decoder_nd[j]
        begin, end = starts[j], starts[j + 1]
        e = begin
        while e + 4 <= end:
            x0, x1 = error_bd[rows_e[e]], error_bd[rows_e[e + 1]]
            x2, x3 = error_bd[rows_e[e + 2]], error_bd[rows_e[e + 3]]
            s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for c in range(d):
                w = row[c]
                s0 += w * to_f32(x0[c])
                s1 += w * to_f32(x1[c])
                s2 += w * to_f32(x2[c])
                s3 += w * to_f32(x3[c])
            pull_e[e] = scale * s0
            pull_e[e + 1] = scale * s1
            pull_e[e + 2] = scale * s2
            pull_e[e + 3] = scale * s3
            e += 4
        while e < end:
            pull_e[e] = scale * dot(row, error_bd[rows_e[e]])
            e += 1
        along, total, own = np.float32(0), entries.bias[j], np.float32(0)
        for e in range(begin, end):
            along += values_e[e] * pull_e[e]
            total += pull_e[e]
            own += pull_e[e] * pull_e[e] * squares[0, rows_e[e]]
            own += scale * scale * values_e[e] * values_e[e] * squares[1, rows_e[e]]
        bound += (end - begin) * own
        entries.along[j] = along
        entries.bias[j] = total
        if total != 0:
            low = low_nd[j]
            for c in range(d):
                back_d[c] += total * to_f32(low[c])
    return bound


@jit(fastmath=REASSOCIATE)
def add_weighted(out: Any, x_bw: Any, rows_e: Any, weights_e: Any, begin: Any, end: Any, scale: Any) -> None:
    """out += Σ over entries of scale · weight · x[row], four texts at a time."""
    n = out.shape[0]
    e = begin
    while e + 4 <= end:
        x0, x1, x2, x3 = x_bw[rows_e[e]], x_bw[rows_e[e + 1]], x_bw[rows_e[e + 2]], x_bw[rows_e[e + 3]]
        a0, a1 = scale * weights_e[e], scale * weights_e[e + 1]
        a2, a3 = scale * weights_e[e + 2], scale * weights_e[e + 3]
        for c in range(n):
            out[c] += (a0 * to_f32(x0[c]) + a1 * to_f32(x1[c])) + (a2 * to_f32(x2[c]) + a3 * to_f32(x3[c]))
        e += 4
    while e < end:
        x0, a0 = x_bw[rows_e[e]], scale * weights_e[e]
        for c in range(n):
            out[c] += a0 * to_f32(x0[c])
        e += 1


@jit(fastmath=REASSOCIATE)
def encoder_gradient(j: Any, x_bd: Any, entries: Any, aux: Any, factor: Any, g: Any) -> None:
    """Latent j's encoder gradient × factor, into g."""
    for c in range(g.shape[0]):
        g[c] = np.float32(0)
    add_weighted(g, x_bd, entries.rows, entries.pulls, entries.starts[j], entries.starts[j + 1], factor)
    slot = aux.slot[j]
    if slot >= 0:
        add_scaled(g, aux.encoder[slot], factor)


@jit(fastmath=REASSOCIATE)
def decoder_gradient(
    j: Any, row: Any, error_bd: Any, entries: Any, aux: Any, factor: Any, scale: Any, g: Any
) -> None:
    """The same for the decoder, tangent to the unit sphere at `row`."""
    along = -factor * entries.along[j]
    for c in range(g.shape[0]):
        g[c] = along * row[c]
    begin, end = entries.starts[j], entries.starts[j + 1]
    add_weighted(g, error_bd, entries.rows, entries.values, begin, end, factor * scale)
    slot = aux.slot[j]
    if slot >= 0:
        add_scaled(g, aux.decoder[slot], factor)


@jit(fastmath=REASSOCIATE)
def add_scaled(out: Any, row: Any, factor: Any) -> None:
    for c in range(out.shape[0]):
        out[c] += factor * row[c]


@jit(fastmath=REASSOCIATE)
def adam_row(w: Any, m: Any, v: Any, g: Any, a: Any, key: Any) -> None:
    """One AdamW step on a row; `g` is overwritten with the step. a: [1 − β₁, β₂, 1 − β₂, 1 − lr·decay,
    lr / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ), ε] float32. Two loops: a compiler checks only so many arrays for overlap before it
    vectorises.

    Moments may be kept in bfloat16. The second then changes by less than half of its last place in most steps and
    would stand still, so it is rounded at random; key (uint32) is that row's own in this step."""
    new1, b2, new2, keep, rate, root, eps = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
    for c in range(g.shape[0]):
        old = to_f32(m[c])
        first = old + new1 * (g[c] - old)
        second = b2 * to_f32(v[c]) + new2 * (g[c] * g[c])
        put(m, c, first)
        put_random(v, c, second, key)
        g[c] = first / (np.sqrt(second) * root + eps)
    for c in range(g.shape[0]):
        w[c] = w[c] * keep - rate * g[c]


@jit()
def row_key(step: Any, row: Any) -> Any:
    """A number for each row and step, for rounding at random."""
    key = np.uint32(np.uint32(step) * np.uint32(0x85EBCA6B)) ^ np.uint32(np.uint32(row) * np.uint32(0xC2B2AE35))
    return np.uint32(key ^ (key >> np.uint32(15)))


@jit(fastmath=REASSOCIATE)
def update_encoder(
    lo: Any,
    hi: Any,
    encoder: Any,
    bias: Any,
    copy_nd: Any,
    x_bd: Any,
    entries: Any,
    aux: Any,
    stored: Any,
    factor: Any,
    adam: Any,
    step: Any,
) -> None:
    """Gradient and Adam for the encoder of the latents lo … hi − 1. encoder, bias: `Adam`; copy_nd: what the next
    encode reads, or none; stored: both gradients `[2, n, d]` if they were stored, else `[2, 0, 0]`; factor: what
    clipping leaves of a gradient; step: its number, for rounding at random."""
    g = np.empty(encoder.weights.shape[1], np.float32)
    for j in range(lo, hi):
        if stored.shape[1] > 0:
            scaled(g, stored[0, j], factor)
        else:
            encoder_gradient(j, x_bd, entries, aux, factor, g)
        row = encoder.weights[j]
        adam_row(row, encoder.first[j], encoder.second[j], g, adam, row_key(step, 2 * j))
        if copy_nd.shape[0] > 0:
            low = copy_nd[j]
            for c in range(g.shape[0]):
                put(low, c, row[c])
    g = np.empty(hi - lo, np.float32)
    scaled(g, entries.bias[lo:hi], factor)
    adam_row(bias.weights[lo:hi], bias.first[lo:hi], bias.second[lo:hi], g, adam, np.uint32(0))


@jit(fastmath=REASSOCIATE)
def update_decoder(
    lo: Any,
    hi: Any,
    decoder: Any,
    copy_qnw: Any,
    error_bd: Any,
    entries: Any,
    aux: Any,
    stored: Any,
    factor: Any,
    scale: Any,
    adam: Any,
    step: Any,
) -> None:
    """The same for the decoder, whose rows are brought back to unit length; copy_qnw: what the next
    decode reads, in blocks of columns, or none. scale: −2 / (batch · d). A pass of its
    own: three streams of memory at a time are read faster than six."""
    g = np.empty(decoder.weights.shape[1], np.float32)
    for j in range(lo, hi):
        row = decoder.weights[j]
        if stored.shape[1] > 0:
            scaled(g, stored[1, j], factor)
        else:
            decoder_gradient(j, row, error_bd, entries, aux, factor, scale, g)
        adam_row(row, decoder.first[j], decoder.second[j], g, adam, row_key(step, 2 * j + 1))
        length = np.float32(1) / max(np.sqrt(dot(row, row)), np.float32(1e-30))
        for c in range(g.shape[0]):
            row[c] *= length
        for q in range(copy_qnw.shape[0]):
            low, part = copy_qnw[q, j], row[q * copy_qnw.shape[2] : (q + 1) * copy_qnw.shape[2]]
            for c in range(part.shape[0]):
                put(low, c, part[c])


@jit(fastmath=REASSOCIATE)
def scaled(out: Any, row: Any, factor: Any) -> None:
    for c in range(out.shape[0]):
        out[c] = factor * row[c]


@jit(fastmath=REASSOCIATE)
def store_gradients(
    lo: Any, hi: Any, decoder_nd: Any, x_bd: Any, error_bd: Any, entries: Any, aux: Any, scale: Any, stored: Any
) -> Any:
    """Both gradients of the latents lo … hi − 1 into stored `[2, n, d]`; returns their sum of squares (float64)."""
    one, total = np.float32(1), 0.0
    for j in range(lo, hi):
        g = stored[0, j]
        encoder_gradient(j, x_bd, entries, aux, one, g)
        total += dot(g, g)
        g = stored[1, j]
        decoder_gradient(j, decoder_nd[j], error_bd, entries, aux, one, scale, g)
        total += dot(g, g)
    return total


@jit(fastmath=REASSOCIATE)
def make_tangent(rows_md: Any, decoder_nd: Any, dead_m: Any) -> None:
    """Take from each row its part along the unit decoder row of its latent."""
    for i in range(rows_md.shape[0]):
        g, row = rows_md[i], decoder_nd[dead_m[i]]
        along = dot(g, row)
        for c in range(g.shape[0]):
            g[c] -= along * row[c]
