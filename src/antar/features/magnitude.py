"""How large the shift is, in activation units, with intervals: the number that a delta dictionary cannot show.

A dictionary on differences rescales any drift to unit variance, so effect sizes say nothing about magnitude. Two
magnitudes are given. The *whole* shift is the root mean square of a text's difference; any training moves that. The
*cultural* shift is the distance between the mean difference of the cultural texts and that of the controls, in one
language: what moved culture and nothing else. `energy.py` has the same distances facet by facet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from antar.core.seeds import numpy_rng

REPLICATES = 200
HELDOUT_CULTURAL = (pl.col("split") == "heldout") & (pl.col("group") == "cultural")


@dataclass(frozen=True)
class Magnitude:
    """One side's shift at one layer in one language, in activation units; intervals by bootstrap over documents.

    whole:    sqrt(mean ‖Δ‖²) over held-out cultural texts
    cultural: ‖mean Δ of held-out cultural texts − mean Δ of held-out controls‖, less what noise adds; None without
              controls
    base:     sqrt(mean ‖x‖²) of base on the same texts
    """

    side: str
    layer: int
    language: str
    texts: int
    whole: float
    whole_ci: tuple[float, float]
    cultural: float | None
    cultural_ci: tuple[float, float] | None
    base: float


def shift_magnitudes(
    side: str, layer: int, texts: pl.DataFrame, base_nd: np.ndarray, delta_nd: np.ndarray, seed: int
) -> list[Magnitude]:
    """The shift of one delta side at one layer, a row for each language with two held-out cultural texts or more.

    base_nd, delta_nd: `[n_texts, d_model]` in the order of `texts`.
    """
    return [
        _magnitude(side, layer, str(language), texts, base_nd, delta_nd, seed)
        for language in sorted(texts.filter(HELDOUT_CULTURAL)["language"].unique())
        if texts.filter(HELDOUT_CULTURAL & (pl.col("language") == language)).height > 1
    ]


def stands_above_shams(found: Sequence[Magnitude]) -> tuple[int, int]:
    """(k, n): at k of n layers and languages with a sham the cultural shift's interval is above every sham's."""
    by_place: dict[tuple[int, str], list[Magnitude]] = {}
    for one in found:
        by_place.setdefault((one.layer, one.language), []).append(one)
    above = compared = 0
    for ones in by_place.values():
        real = next((one.cultural_ci for one in ones if one.side == "delta"), None)
        shams = [one.cultural_ci for one in ones if one.side != "delta"]
        if real is None or not shams:
            continue
        compared += 1
        above += all(sham is not None and real[0] > sham[1] for sham in shams)
    return above, compared


def _magnitude(
    side: str, layer: int, language: str, texts: pl.DataFrame, base_nd: np.ndarray, delta_nd: np.ndarray, seed: int
) -> Magnitude:
    heldout = (pl.col("split") == "heldout") & (pl.col("language") == language)
    cultural = texts.select((heldout & (pl.col("group") == "cultural")).arg_true()).to_series().to_numpy()
    # Controls are only ever a reference here, so that those of the training split would do no harm; held-out ones
    # are taken all the same, as in the contrasts.
    control = texts.select((heldout & (pl.col("group") == "control")).arg_true()).to_series().to_numpy()
    documents = texts["document"].to_numpy()
    rng = numpy_rng(seed, "magnitude", side, layer, language)
    ours = _by_document(delta_nd, cultural, documents)
    draws_rg = _draws(len(ours.counts), rng)
    whole_r = np.sqrt(draws_rg @ ours.squares / (draws_rg @ ours.counts))
    whole = float(np.sqrt(ours.squares.sum() / ours.counts.sum()))
    base = float(np.sqrt(np.square(base_nd[cultural].astype(np.float64)).sum(axis=1).mean()))
    distance, ends = None, None
    if len(ours.counts) > 1 and len(np.unique(documents[control])) > 1:
        distance, ends = _distance(ours, _by_document(delta_nd, control, documents), draws_rg, rng)
    return Magnitude(side, layer, language, len(cultural), whole, _ends(whole_r), distance, ends, base)


def _distance(
    ours: _Documents, theirs: _Documents, draws_rg: np.ndarray, rng: np.random.Generator
) -> tuple[float, tuple[float, float]]:
    """‖mean of ours − mean of theirs‖ without what noise adds to it, and its interval.

    A squared norm of a mean overstates by the trace of the mean's covariance (V, over documents), and a bootstrap
    replicate of it by V once more. Both are taken off, or a noisy side would seem to have moved further.
    """
    noise = ours.mean_variance + theirs.mean_variance
    found = float(np.square(ours.mean - theirs.mean).sum()) - noise
    other_rg = _draws(len(theirs.counts), rng)
    moved_rd = ours.means(draws_rg) - theirs.means(other_rg)
    squares_r = np.square(moved_rd).sum(axis=1) - 2 * noise
    return float(np.sqrt(max(found, 0.0))), _ends(np.sqrt(np.maximum(squares_r, 0.0)))


@dataclass(frozen=True)
class _Documents:
    """Sums over the texts of each document: counts `[g]`, vectors `[g, d]`, squared norms `[g]`."""

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """`[d]`"""
        return self.sums.sum(axis=0) / self.counts.sum()

    @property
    def mean_variance(self) -> float:
        """Trace of the covariance of `mean`, documents being what varies (Liang & Zeger 1986, times g / (g − 1))."""
        g = len(self.counts)
        residuals = self.sums - self.counts[:, None] * self.mean
        return float(np.square(residuals).sum() / self.counts.sum() ** 2 * g / (g - 1))

    def means(self, draws_rg: np.ndarray) -> np.ndarray:
        """`[r, d]`: the mean under each draw of documents."""
        return draws_rg @ self.sums / (draws_rg @ self.counts)[:, None]


def _by_document(delta_nd: np.ndarray, rows: np.ndarray, documents: np.ndarray) -> _Documents:
    _, place = np.unique(documents[rows], return_inverse=True)
    chosen_nd = delta_nd[rows].astype(np.float64)
    sums = np.zeros((int(place.max()) + 1, delta_nd.shape[1]))
    np.add.at(sums, place, chosen_nd)
    return _Documents(np.bincount(place).astype(float), sums, np.bincount(place, np.square(chosen_nd).sum(axis=1)))


def _draws(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `n` documents is drawn, `[REPLICATES, n]`."""
    return rng.multinomial(n, np.full(n, 1 / n), size=REPLICATES).astype(np.float64)


def _ends(values_r: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values_r, [0.025, 0.975])
    return float(low), float(high)
