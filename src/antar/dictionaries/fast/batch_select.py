"""BatchTopK's selection: the B·k largest pre-activations of a whole batch, exactly.

A radix select like that of `select`, but its three counts run over all texts, each thread on its own. The
pre-activations of the batch have to be kept until the limit is known. Ties go to the earlier text, then to the lower
latent."""

from __future__ import annotations

from typing import Any

import numpy as np

from antar.core.jit import jit
from antar.dictionaries.fast.bits import f32_of
from antar.dictionaries.fast.select import positive_keys
from antar.dictionaries.fast.team import Team

LEVELS = ((20, 11), (9, 11), (0, 9))
"""(shift, bits) of the three digits of a positive float's 31 bits."""


@jit()
def keys_of_rows(pre_bn: Any, bias_n: Any, keys_bn: Any) -> None:
    for b in range(pre_bn.shape[0]):
        positive_keys(pre_bn[b], bias_n, keys_bn[b])


@jit()
def count_digits(keys_bn: Any, above: Any, prefix: Any, shift: Any, mask: Any, hist: Any) -> None:
    """hist[digit] gains the positive keys whose bits from `above` up equal the prefix's."""
    hist[:] = 0
    for b in range(keys_bn.shape[0]):
        keys_n = keys_bn[b]
        for j in range(keys_n.shape[0]):
            key = keys_n[j]
            if key > 0 and (key >> above) == (prefix >> above):
                hist[(key >> shift) & mask] += 1


@jit()
def count_rows(keys_bn: Any, limit: Any, larger_b: Any, equal_b: Any) -> None:
    for b in range(keys_bn.shape[0]):
        keys_n, larger, equal = keys_bn[b], 0, 0
        for j in range(keys_n.shape[0]):
            larger += np.int64(keys_n[j] > limit)
            equal += np.int64(keys_n[j] == limit)
        larger_b[b] = larger
        equal_b[b] = equal


@jit()
def emit_rows(
    keys_bn: Any, limit: Any, ties_b: Any, begins_b: Any, indices_e: Any, values_e: Any, counts_n: Any
) -> None:
    for b in range(keys_bn.shape[0]):
        keys_n, ties, at = keys_bn[b], ties_b[b], begins_b[b]
        for j in range(keys_n.shape[0]):
            key = keys_n[j]
            if key > limit or (key == limit and ties > 0):
                if key == limit:
                    ties -= 1
                indices_e[at] = j
                values_e[at] = f32_of(np.uint32(key))
                counts_n[j] += 1
                at += 1


def kth_of_batch(team: Team, keys_bn: np.ndarray, spans: list[tuple[int, int]], wanted: int) -> tuple[int, int]:
    """(limit, ties): the key of the entry that is `wanted`-th of the batch, and how many that equal it are taken.
    (0, 0) where no more than `wanted` are positive: then all of those fire."""
    prefix, above, need = 0, 31, wanted
    for shift, bits in LEVELS:
        hists = np.empty((len(spans), 1 << bits), np.int64)
        mask = (1 << bits) - 1

        def count(
            part: tuple[int, tuple[int, int]],
            at: tuple[int, int, int] = (above, prefix, shift),
            mask: int = mask,
            hists: np.ndarray = hists,
        ) -> None:
            count_digits(keys_bn[slice(*part[1])], *at, mask, hists[part[0]])

        team.run(count, list(enumerate(spans)))
        # Number of keys with this digit or a larger one.
        from_top = np.cumsum(hists.sum(0)[::-1])[::-1]
        if above == 31 and from_top[0] <= wanted:
            return 0, 0
        digit = int(np.flatnonzero(from_top >= need)[-1])
        need -= int(from_top[digit + 1]) if digit < mask else 0
        prefix |= digit << shift
        above = shift
    return prefix, need


def select_batch(
    team: Team,
    keys_bn: np.ndarray,
    spans: list[tuple[int, int]],
    wanted: int,
    begins_b: np.ndarray,
    sizes_b: np.ndarray,
    indices_e: np.ndarray,
    values_e: np.ndarray,
    counts_cn: np.ndarray,
) -> None:
    """The `wanted` largest of the positive keys `[batch, n]`, text after text: where each text's entries begin, how
    many they are, latent (ascending) and value of each; counts_cn: entries of each latent in each span of texts."""
    limit, ties = kth_of_batch(team, keys_bn, spans, wanted)
    larger_b, equal_b = np.empty(len(keys_bn), np.int64), np.empty(len(keys_bn), np.int64)
    team.run(lambda s: count_rows(keys_bn[slice(*s)], limit, larger_b[slice(*s)], equal_b[slice(*s)]), spans)
    before_b = np.cumsum(equal_b) - equal_b
    ties_b = np.clip(ties - before_b, 0, equal_b)
    sizes_b[:] = larger_b + ties_b
    begins_b[:] = np.cumsum(sizes_b) - sizes_b

    def emit(part: tuple[int, tuple[int, int]]) -> None:
        texts = slice(*part[1])
        emit_rows(keys_bn[texts], limit, ties_b[texts], begins_b[texts], indices_e, values_e, counts_cn[part[0]])

    team.run(emit, list(enumerate(spans)))
