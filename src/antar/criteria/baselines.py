"""How many features separate cultural from control texts: on base, on a model that knows nothing, without training.

Cultural and control texts differ on their surface: words, length, script. A dictionary on a model of random weights
has features that tell them apart by that alone, and so have random directions and raw neurons. The count on base
means something only beside theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from antar.core.sites import UNTRAINED, DictionaryId
from antar.criteria.config import CriteriaConfig
from antar.criteria.intervals import clopper_pearson
from antar.criteria.types import Cell, Interval

WORDS = {
    "": "base",
    "random_weights": "a model of random weights",
    "pca": "PCA directions of base",
    "random": "random directions of base",
    "neurons": "raw neurons of base",
}


@dataclass(frozen=True)
class CultureCount:
    """Of `live` features of one null at one layer, `flagged` are over the thresholds of |d| and q."""

    null: str
    layer: int
    live: int
    flagged: int
    confidence: float

    @property
    def ci(self) -> Interval | None:
        return clopper_pearson(self.flagged, self.live, self.confidence)


def culture_counts(contrasts: pl.DataFrame, live: Mapping[str, int], cfg: CriteriaConfig) -> list[CultureCount]:
    """Counts of the culture contrast's pooled rows, at each layer: on base, on random weights, on base's baselines.

    Each dictionary is counted on the side that it was trained on, and a latent that fires on no compared text counts
    as live and not flagged. live: dictionary → live latents.
    """
    counts: dict[tuple[str, int], tuple[int, int]] = {}
    rows = contrasts.filter(
        (pl.col("contrast") == "culture") & (pl.col("language") == "pooled") & pl.col("null").is_in(list(WORDS))
    )
    flagged = (pl.col("d_av").abs() > cfg.d) & (pl.col("q") < cfg.q)
    tested = rows.group_by("null", "dictionary", "side_b", maintain_order=True).agg(
        pl.len().alias("tested"), flagged.fill_null(False).sum().alias("flagged")
    )
    for row in tested.iter_rows(named=True):
        one = DictionaryId.parse(row["dictionary"])
        if one.trained_on not in ("base", UNTRAINED) or row["side_b"] != one.trained_on:
            continue
        before = counts.get((row["null"], one.layer), (0, 0))
        alive = max(int(live.get(row["dictionary"], 0)), row["tested"])
        counts[row["null"], one.layer] = (before[0] + alive, before[1] + row["flagged"])
    order = {null: place for place, null in enumerate(WORDS)}
    return [
        CultureCount(null, layer, *counts[null, layer], cfg.confidence)
        for null, layer in sorted(counts, key=lambda key: (order[key[0]], key[1]))
    ]


def over_layers(counts: Sequence[CultureCount]) -> list[CultureCount]:
    """The same, summed over layers (layer −1): one a null."""
    return [
        CultureCount(
            null,
            -1,
            sum(one.live for one in counts if one.null == null),
            sum(one.flagged for one in counts if one.null == null),
            next(one.confidence for one in counts if one.null == null),
        )
        for null in dict.fromkeys(one.null for one in counts)
    ]


def culture_beside(contrasts: pl.DataFrame, live: Mapping[str, int], cfg: CriteriaConfig) -> dict[str, Cell]:
    """What stands beside criterion 4: the sums over layers."""
    beside: dict[str, Cell] = {}
    for one in over_layers(culture_counts(contrasts, live, cfg)):
        beside[f"culture on {WORDS[one.null]}: features that count"] = one.flagged
        beside[f"culture on {WORDS[one.null]}: live features"] = one.live
    return beside


def culture_sentence(counts: Sequence[CultureCount], cfg: CriteriaConfig) -> str | None:
    """One sentence; None where base and random weights were not both measured."""
    found = {one.null: one for one in over_layers(counts)}
    real, null = found.get(""), found.get("random_weights")
    if real is None or null is None:
        return None
    return (
        f"culture: {real.flagged:,} of {real.live:,} live features of base separate cultural from control texts "
        f"(|d| > {cfg.d:g}, q < {cfg.q:g}); on a random-weights model {null.flagged:,} of {null.live:,} do, by "
        "surface form alone."
    )
