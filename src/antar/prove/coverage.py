"""Which intervals of a contrast hold the population's value, and how often each feature fires there."""

from __future__ import annotations

import numpy as np
import polars as pl

from antar.organisms.vectors import LANGUAGES, Truth, population_auroc, population_log_odds

MEASURED = {"d_av": ("d_lo", "d_hi"), "log_odds": ("log_odds_lo", "log_odds_hi"), "auroc": ("auroc_lo", "auroc_hi")}
"""Measure → the ends of its interval."""
BANDS = {"under 1%": (0.0, 0.0099), "1-3%": (0.0099, 0.03), "3-10%": (0.03, 0.1), "10-30%": (0.1, 0.3),
         "30-60%": (0.3, 0.61)}  # fmt: skip
"""Firing rates, both sides' mean in the population."""


def with_truth(rows: pl.DataFrame, contrast: str, truth: Truth) -> pl.DataFrame:
    """Columns contrast, language, measure, rate, covered: does a row's interval hold the population's value?

    Rows without an interval, and log-odds that are infinite in the population, are left out.
    """
    sizes = {
        row["language"]: (row["n_a"], row["n_b"])
        for row in rows.unique("language").iter_rows(named=True)
        if row["language"] in LANGUAGES
    }
    # The weights by which the contrast pools languages (docs/method.md).
    weights = {
        language: n_a if contrast == "shift" else n_a * n_b / (n_a + n_b) for language, (n_a, n_b) in sizes.items()
    }
    d_of = truth.shift_d if contrast == "shift" else truth.culture_d
    rates_of = truth.shift_rates if contrast == "shift" else truth.culture_rates
    total = sum(weights.values())
    frames: list[pl.DataFrame] = []
    for language, its in {**{one: {one: 1.0} for one in weights}, "pooled": weights}.items():
        of = {one: rates_of(one) for one in its}
        share = {one: weight / sum(its.values()) for one, weight in its.items()} if total else {}
        rate = np.sum([share[one] * (a + b) / 2 for one, (a, b, _) in of.items()], axis=0)
        # Woolf's weights depend on the sample: a pooled log-odds is known only where the languages agree.
        odds = np.stack([population_log_odds(a, b) for a, b, _ in of.values()])
        with np.errstate(invalid="ignore"):
            odds = np.where(np.isfinite(odds).all(axis=0) & (np.ptp(odds, axis=0) < 1e-9), odds[0], np.nan)
        truths = {
            "d_av": d_of(its),
            "log_odds": odds,
            "auroc": np.sum([share[one] * population_auroc(*parts) for one, parts in of.items()], axis=0),
        }
        part = rows.filter(pl.col("language") == language)
        latent = part["latent"].to_numpy()
        for measure, (low, high) in MEASURED.items():
            true = pl.Series(truths[measure][latent], dtype=pl.Float64).fill_nan(None)
            frames.append(
                part.select(
                    "contrast", "language", pl.lit(measure).alias("measure"),
                    pl.Series("rate", rate[latent], dtype=pl.Float64),
                    true.alias("true").is_between(part[low], part[high]).alias("covered"),
                ).filter(pl.col("covered").is_not_null())
            )  # fmt: skip
    return pl.concat(frames)
