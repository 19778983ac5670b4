"""Sampling controls that resemble the cultural texts in language and length.

The lengths (words) of the cultural texts are cut into quantile bins; each control source is sampled so that its
texts fall into these bins in the cultural texts' shares. A bin that has too few controls stays short: filling it
from other bins would undo the match. Controls outside the cultural range are never taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from antar.corpora.config import MatchConfig
from antar.corpora.records import Candidate

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def word_quantiles(texts: list[Candidate]) -> dict[str, float] | None:
    """Quantiles of the texts' lengths in words; None for no texts."""
    if not texts:
        return None
    values = np.quantile([text.words for text in texts], QUANTILES)
    return {f"{q:g}": round(float(value), 1) for q, value in zip(QUANTILES, values, strict=True)}


def bin_edges(words_n: np.ndarray, bins: int) -> np.ndarray:
    """Distinct quantiles of `words_n`: b+1 edges of b ≤ `bins` bins [edge, next), the last one closed."""
    edges = np.unique(np.quantile(words_n, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.array([edges[0], edges[0]])


def bin_of(words_n: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """int64 `[n]`: the bin of each length; -1 outside the edges."""
    inside = (words_n >= edges[0]) & (words_n <= edges[-1])
    bins_n = np.minimum(np.searchsorted(edges, words_n, side="right") - 1, len(edges) - 2)
    return np.where(inside, bins_n, -1)


def apportion(shares_b: np.ndarray, n: int) -> np.ndarray:
    """int64 `[b]` with sum `n`, as near to `shares_b` · n as whole numbers go (largest remainders)."""
    exact_b = shares_b / shares_b.sum() * n
    counts_b = np.floor(exact_b).astype(np.int64)
    order = np.argsort(-(exact_b - counts_b), kind="stable")
    counts_b[order[: n - int(counts_b.sum())]] += 1
    return counts_b


def matched_draw(
    controls: list[Candidate], cultural: list[Candidate], n: int | None, cfg: MatchConfig
) -> tuple[list[Candidate], dict[str, Any]]:
    """(taken, facts) for the controls of one source and language, given in random order.

    `cultural` are the cultural texts to resemble (of the same language when `cfg.on` says so); where there are
    none, nothing is matched and the first `n` are taken. Otherwise `n` None takes as many as there are cultural
    texts. The facts hold the lengths before and after, and how many bins were left short.
    """
    wanted = n if n is not None else len(cultural) or len(controls)
    if "length" not in cfg.on or not cultural or not controls:
        taken, short = controls[:wanted], 0
    else:
        words_n = np.array([text.words for text in cultural])
        edges = bin_edges(words_n, cfg.bins)
        shares_b = np.bincount(bin_of(words_n, edges), minlength=len(edges) - 1)
        left_b = apportion(shares_b, wanted)
        taken = []
        for text, place in zip(controls, bin_of(np.array([text.words for text in controls]), edges), strict=True):
            if place >= 0 and left_b[place] > 0:
                left_b[place] -= 1
                taken.append(text)
        short = int((left_b > 0).sum())
    return taken, {
        "wanted": wanted,
        "taken": len(taken),
        "short_bins": short,
        "words_cultural": word_quantiles(cultural),
        "words_before": word_quantiles(controls),
        "words_after": word_quantiles(taken),
    }
