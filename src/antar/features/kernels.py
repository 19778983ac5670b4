"""Compiled loops over codes. Imported only where Numba is (core/jit.py); each has a numpy twin beside its caller."""

from __future__ import annotations

import numpy as np

from antar.core.jit import jit


@jit()
def keep_strongest(
    indices_nk: np.ndarray,
    values_nk: np.ndarray,
    kept_m: np.ndarray,
    best_values_ln: np.ndarray,
    best_rows_ln: np.ndarray,
    counts_l: np.ndarray,
    bar_l: np.ndarray,
) -> bool:
    """Fill, for each latent, the list of its `n` strongest firings in the rows `kept_m`, strongest first.

    kept_m: ascending, so that of equal values the earlier row is met first and stays in front
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
            best_rows_ln[latent, place] = row
            if count >= n - 1:
                bar_l[latent] = best_values_ln[latent, np.uintp(n - 1)]
    return True
