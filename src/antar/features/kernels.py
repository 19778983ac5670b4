"""Compiled loops over codes. Imported only where Numba is (core/jit.py); each has a numpy twin beside its caller."""

from __future__ import annotations

import numpy as np

from antar.core.jit import REASSOCIATE, jit


@jit()
def keep_strongest(
    indices_nk: np.ndarray,
    values_nk: np.ndarray,
    kept_m: np.ndarray,
    first: int,
    best_values_ln: np.ndarray,
    best_rows_ln: np.ndarray,
    counts_l: np.ndarray,
    bar_l: np.ndarray,
) -> bool:
    """Fill, for each latent, the list of its `n` strongest firings in the rows `kept_m`, strongest first.

    kept_m: ascending, so that of equal values the earlier row is met first and stays in front
    first: what row 0 is called in the lists. Later rows may be added to the same lists by another call
    best_values_ln, best_rows_ln: `[n_latents, n]`; the first `counts_l[latent]` entries of a latent are its list
    bar_l: float32 `[n_latents]` of zeros at the start: what a firing must exceed to enter a list (0 until it is full)

    Most firings fail at the bar, which is one load and one comparison; a NaN always does. The others are inserted
    from the back, so a list is sorted at any time. Returns False, with nothing of use, if an index is out of range.
    """
    n_latents, n = best_values_ln.shape
    width = indices_nk.shape[1]
    for at in range(len(kept_m)):
        row = np.uintp(kept_m[at])
        for slot in range(width):
            # A negative index becomes a huge unsigned one; signed indexing would cost a branch at each access.
            latent = np.uintp(indices_nk[row, slot])
            if latent >= np.uintp(n_latents):
                return False
            value = values_nk[row, slot]
            if not value > bar_l[latent]:
                continue
            count = counts_l[latent]
            if count < n:
                counts_l[latent] = count + 1
                place = np.uintp(count)
            else:
                place = np.uintp(n - 1)
            while place > np.uintp(0) and best_values_ln[latent, place - np.uintp(1)] < value:
                best_values_ln[latent, place] = best_values_ln[latent, place - np.uintp(1)]
                best_rows_ln[latent, place] = best_rows_ln[latent, place - np.uintp(1)]
                place -= np.uintp(1)
            best_values_ln[latent, place] = value
            best_rows_ln[latent, place] = first + np.int64(row)
            if count >= n - 1:
                bar_l[latent] = best_values_ln[latent, np.uintp(n - 1)]
    return True


@jit(fastmath=REASSOCIATE)
def group_differences(
    starts_l: np.ndarray,
    unit_c: np.ndarray,
    value_c: np.ndarray,
    size_u: np.ndarray,
    member_ub: np.ndarray,
    n_b: np.ndarray,
    units_b: np.ndarray,
    squares_b: np.ndarray,
    difference_lb: np.ndarray,
    variance_lb: np.ndarray,
) -> None:
    """Difference of means and its cluster-robust variance, for each latent under each labelling.

    starts_l:  int64 `[n_latents + 1]`, where each latent's cells start; unit_c, value_c: `[c]`, a cell's unit and sum
    size_u:    float64 `[n_units]`; member_ub: uint8 `[n_units, b]`, 1 where a labelling puts the unit into group b
    n_b, units_b, squares_b: float64 `[b]`: texts, units and squared unit sizes of group b under each labelling
    difference_lb, variance_lb: float64 `[n_latents, b]`, filled; not finite where a group is empty

    One pass over the cells: a cell adds its sum, its square and its sum times its unit's size to each labelling in
    whose group b it is; group a has the rest of the totals.
    """
    n_labellings = member_ub.shape[1]
    n_units = member_ub.shape[0]
    texts, total_squares = size_u.sum(), (size_u * size_u).sum()
    first, second, third = np.empty(n_labellings), np.empty(n_labellings), np.empty(n_labellings)
    for latent in range(len(starts_l) - 1):
        first[:] = 0.0
        second[:] = 0.0
        third[:] = 0.0
        whole1 = whole2 = whole3 = 0.0
        for cell in range(starts_l[latent], starts_l[latent + 1]):
            x = value_c[cell]
            unit = np.uintp(unit_c[cell])
            square, sized = x * x, x * size_u[unit]
            whole1 += x
            whole2 += square
            whole3 += sized
            row = member_ub[unit]
            for b in range(n_labellings):
                member = np.float64(row[b])
                first[b] += member * x
                second[b] += member * square
                third[b] += member * sized
        for b in range(n_labellings):
            n, units, squares = n_b[b], units_b[b], squares_b[b]
            mean = first[b] / n
            total = max(second[b] - 2 * mean * third[b] + mean * mean * squares, 0.0)
            variance = total / (n * n) * (units / (units - 1))
            rest, rest_units = texts - n, n_units - units
            rest_mean = (whole1 - first[b]) / rest
            total = (whole2 - second[b]) - 2 * rest_mean * (whole3 - third[b])
            total = max(total + rest_mean * rest_mean * (total_squares - squares), 0.0)
            difference_lb[latent, b] = mean - rest_mean
            variance_lb[latent, b] = variance + total / (rest * rest) * (rest_units / (rest_units - 1))


@jit(fastmath=REASSOCIATE)
def signed_means(
    starts_l: np.ndarray,
    unit_c: np.ndarray,
    value_c: np.ndarray,
    size_u: np.ndarray,
    sign_ub: np.ndarray,
    mean_lb: np.ndarray,
    variance_lb: np.ndarray,
) -> None:
    """Mean change and its cluster-robust variance, for each latent under each choice of signs (int8 `[n_units, b]`).

    The arrays are those of `group_differences`; a unit's sign multiplies its sum.
    """
    n_labellings = sign_ub.shape[1]
    n, units, squares = size_u.sum(), np.float64(len(size_u)), (size_u * size_u).sum()
    first, third = np.empty(n_labellings), np.empty(n_labellings)
    for latent in range(len(starts_l) - 1):
        first[:] = 0.0
        third[:] = 0.0
        whole2 = 0.0
        for cell in range(starts_l[latent], starts_l[latent + 1]):
            x = value_c[cell]
            unit = np.uintp(unit_c[cell])
            sized = x * size_u[unit]
            whole2 += x * x
            row = sign_ub[unit]
            for b in range(n_labellings):
                sign = np.float64(row[b])
                first[b] += sign * x
                third[b] += sign * sized
        for b in range(n_labellings):
            mean = first[b] / n
            total = max(whole2 - 2 * mean * third[b] + mean * mean * squares, 0.0)
            mean_lb[latent, b] = mean
            variance_lb[latent, b] = total / (n * n) * (units / (units - 1))


@jit()
def order_within(starts_l: np.ndarray, value_e: np.ndarray, order_e: np.ndarray) -> None:
    """Fill `order_e` with the entries of each latent by value, ascending; equal values keep their order.

    starts_l: int64 `[n_latents + 1]`, where each latent's entries start
    """
    for latent in range(len(starts_l) - 1):
        lo, hi = starts_l[latent], starts_l[latent + 1]
        order_e[lo:hi] = lo + np.argsort(value_e[lo:hi], kind="mergesort")
