"""Does the best feature of a delta dictionary separate the groups better than what needs no dictionary?

For each delta, layer and language, one row for the mean difference vector (meandiff.py), one for the best feature of
each trained dictionary and one for the best of each baseline dictionary. A feature is the best by its effect on the
select half, and every number is of the estimate half, so that the best of 8,192 owes nothing to having been chosen.
The feature is then compared with whichever baseline has the largest effect on the estimate half: that baseline is
flattered by a choice among four, the feature is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from antar.core.sites import BASELINE_KINDS, DictionaryId

MEAN_DIFFERENCE = "mean_difference"
BASELINES = (MEAN_DIFFERENCE, *BASELINE_KINDS)
STANDS = ("above", "not apart", "below")
SCHEMA = {
    "side": pl.String, "layer": pl.Int64, "language": pl.String, "null": pl.String, "method": pl.String,
    "dictionary": pl.String, "feature": pl.String, "candidates": pl.Int64, "n_a": pl.Int64, "n_b": pl.Int64,
    "norm": pl.Float64, "cosine": pl.Float64, "share": pl.Float64, "d_av_select": pl.Float64, "d_av": pl.Float64,
    "d_lo": pl.Float64, "d_hi": pl.Float64, "auroc": pl.Float64, "best_baseline": pl.String, "beyond": pl.Float64,
    "stands": pl.String,
}  # fmt: skip
"""The columns of `baselines.parquet`.

side, layer, language: where; null: "", `sham:<name>` or `shuffled`, as in the contrasts
method:     `mean_difference`, a baseline's kind, or the kind of a trained dictionary
candidates: latents among which the best was chosen
d_av … auroc: of the estimate half, turned to the sign that the effect has on the select half
beyond, best_baseline, stands: of a trained dictionary's row only; `stands` compares the two 95% intervals
"""


def best_features(contrasts: pl.DataFrame) -> pl.DataFrame:
    """The culture contrast's strongest latent by |d_av_select| of every delta dictionary, language and null: the
    columns of `SCHEMA` that it has. A tie goes to the lower latent."""
    keys = ["dictionary", "language", "null"]
    rows = contrasts.filter(
        (pl.col("contrast") == "culture")
        & pl.col("dictionary").str.starts_with("delta")
        & pl.col("d_av_select").is_not_null()
        & pl.col("d_av").is_not_null()
    ).sort(pl.col("d_av_select").abs(), pl.col("latent"), descending=[True, False], maintain_order=True)
    best = rows.group_by(keys, maintain_order=True).agg(pl.len().alias("candidates"), pl.all().first())
    turned = pl.col("d_av_select") < 0
    ends = [pl.when(turned).then(-pl.col(other)).otherwise(pl.col(one)).alias(one)
            for one, other in (("d_lo", "d_hi"), ("d_hi", "d_lo"))]  # fmt: skip
    records = [_of_dictionary(row) for row in best.with_columns(
        *ends,
        pl.when(turned).then(-pl.col("d_av")).otherwise(pl.col("d_av")).alias("d_av"),
        pl.when(turned).then(1 - pl.col("auroc")).otherwise(pl.col("auroc")).alias("auroc"),
        pl.col("d_av_select").abs(),
    ).iter_rows(named=True)]  # fmt: skip
    return pl.DataFrame(records, schema=SCHEMA)


def _of_dictionary(row: Mapping[str, Any]) -> dict[str, Any]:
    one = DictionaryId.parse(row["dictionary"])
    taken = {name: row[name] for name in SCHEMA if name in row}
    # A baseline's null is its own name; its place is beside the real features, whose baseline it is.
    null = "" if one.is_baseline else row["null"]
    return taken | {"side": one.trained_on, "layer": one.layer, "method": one.kind or "topk", "null": null}


def beyond_baselines(mean_differences: pl.DataFrame, contrasts: pl.DataFrame) -> pl.DataFrame:
    """The table that `SCHEMA` describes, sorted by side, layer, language, null, method.

    mean_differences: rows of `meandiff.SCHEMA` with `side` and `layer`, the shams' with null `sham:<name>`
    """
    lens = mean_differences.with_columns(method=pl.lit(MEAN_DIFFERENCE))
    columns = [
        (pl.col(name) if name in lens.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in SCHEMA.items()
    ]
    table = pl.concat([lens.select(columns), best_features(contrasts)])
    place = ["side", "layer", "language", "null"]
    rows = table.sort([*place, "method", "dictionary"], nulls_last=True).to_dicts()
    by_place: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_place.setdefault(tuple(row[key] for key in place), []).append(row)
    for ones in by_place.values():
        baselines = [row for row in ones if row["method"] in BASELINES and row["d_av"] is not None]
        best = max(baselines, key=lambda row: row["d_av"], default=None)
        for row in ones:
            if best is not None and row["method"] not in BASELINES:
                row |= compared(row, best)
    return pl.DataFrame(rows, schema=SCHEMA)


def compared(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
    """By how much a feature's effect exceeds a baseline's, and whether their intervals are apart."""
    stands = "not apart"
    if row["d_lo"] is not None and baseline["d_hi"] is not None and row["d_lo"] > baseline["d_hi"]:
        stands = "above"
    elif row["d_hi"] is not None and baseline["d_lo"] is not None and row["d_hi"] < baseline["d_lo"]:
        stands = "below"
    return {"best_baseline": baseline["method"], "beyond": row["d_av"] - baseline["d_av"], "stands": stands}
