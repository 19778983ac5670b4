"""One row of facts for each latent: is it live, how often does it fire and on what, how strongly.

Everything is a sum or a maximum over texts, gathered in one pass over the codes, part by part.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from antar.core.sites import DictionaryId, feature_id
from antar.core.sparse import CodeSource
from antar.features.config import FeatureConfig
from antar.features.examples import contrast_rows, crosscheck_rows


def features_frame(
    dictionary: DictionaryId,
    codes: CodeSource,
    texts: pl.DataFrame,
    train_rows: np.ndarray | None = None,
    config: FeatureConfig | None = None,
) -> pl.DataFrame:
    """The rows of `features.parquet` for one dictionary: one for each latent, dead ones too.

    codes: of all texts at the dictionary's own side, in the order of `texts`
    train_rows: index or boolean array of the texts that the dictionary was trained on; by default the train split
    Rates are shares of texts; a rate over no texts at all is null, as are `mean_active` and `max_active` of a latent
    that never fires. A cross-check's texts are not counted anywhere.
    """
    config = config or FeatureConfig()
    unseen, group = contrast_rows(texts), texts["group"].to_numpy()
    trained = np.zeros(texts.height, dtype=bool)
    trained[texts["split"].to_numpy() == "train" if train_rows is None else train_rows] = True
    sets = {
        "own": ~crosscheck_rows(texts),
        "train": trained,
        "cultural": unseen & (group == "cultural"),
        "control": unseen & (group == "control"),
    }
    fired, total, largest = _sums(codes, sets)
    rates = {name: _rate(fired[name], int(rows.sum())) for name, rows in sets.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_active = total / fired["own"]
    n = codes.n_latents
    return pl.DataFrame(
        {
            "feature": [feature_id(dictionary, latent) for latent in range(n)],
            "dictionary": [str(dictionary)] * n,
            "trained_on": [dictionary.trained_on] * n,
            "layer": np.full(n, dictionary.layer, dtype=np.int64),
            "latent": np.arange(n, dtype=np.int64),
            "live": fired["train" if config.live_on == "train" else "own"] >= config.live_texts,
            "firing_rate": rates["own"],
            "firing_rate_train": rates["train"],
            "firing_rate_cultural": rates["cultural"],
            "firing_rate_control": rates["control"],
            "mean_active": mean_active,
            "max_active": np.where(fired["own"] > 0, largest.astype(np.float64), np.nan),
        }
    ).with_columns(pl.selectors.float().fill_nan(None))


def _sums(codes: CodeSource, sets: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(set of texts → how many of them fire each latent, sum and maximum of the values in the set `own`)."""
    n = codes.n_latents
    fired = {name: np.zeros(n, dtype=np.int64) for name in sets}
    total, largest = np.zeros(n), np.zeros(n, dtype=np.float32)
    for first, part in codes.parts():
        for name, rows in sets.items():
            fired[name] += part.rows(rows[first : first + len(part)]).firing_counts()
        own = part.rows(sets["own"][first : first + len(part)])
        there = own.values_nk > 0
        latents, values = own.indices_nk[there], own.values_nk[there]
        total += np.bincount(latents, values, minlength=n)
        np.maximum.at(largest, latents, values)
    return fired, total, largest


def _rate(fired: np.ndarray, texts: int) -> np.ndarray:
    """Share of `texts` texts; NaN over none."""
    return fired / texts if texts else np.full(len(fired), np.nan)
