"""One row for every feature of a run, live or not: what the table shows, sorts by and filters on.

Effects are those pooled over languages where a comparison has them, chosen on the selection half and stated on the
estimation half, so that none is large by the luck of the number that is shown. Beside each stands the 95% point of
|d| on the largest null of its own comparison and site.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from antar.core.sites import DictionaryId
from antar.run import Run

KINDS = ("culture", "shift", "interaction", "facet")
EFFECT = ("d", "lo", "hi", "q")
"""What is kept of the effect of each kind: `culture_d`, `culture_lo`, …"""
TELLING = ~pl.col("null").is_in(["", "same_checkpoint"])
"""The same checkpoint on both sides gives zeros by construction, so it says nothing beside a single effect."""
PUBLISHED_D, PUBLISHED_Q = 0.8, 0.05
COMPARISON = ("contrast", "dictionary", "side_a", "side_b", "facet", "value", "null")


def summarise(run: Run) -> pl.DataFrame:
    """The frame. Columns of what the run has not measured are there and null."""
    frame = run.features.with_row_index("number")
    facts = {one: DictionaryId.parse(one) for one in frame["dictionary"].unique()}
    frame = frame.with_columns(
        pl.col("dictionary").replace_strict({name: one.is_null for name, one in facts.items()}).alias("of_null"),
        pl.col("dictionary")
        .replace_strict({name: f"{one.trained_on} {one.kind or ''}".strip() for name, one in facts.items()})
        .alias("site"),
    )
    frame = _with_language(frame, run)
    frame = _with_labels(frame, run)
    frame = _with_scores(frame, run)
    return _with_marks(_with_effects(frame, run), run)


def thresholds(run: Run) -> tuple[float, float]:
    """(|d|, q) of the study's fourth criterion."""
    settings = run.study.get("criteria")
    settings = settings if isinstance(settings, Mapping) else {}
    return float(settings.get("d", PUBLISHED_D)), float(settings.get("q", PUBLISHED_Q))


def has_contrasts(run: Run) -> bool:
    return run.has("features/contrasts.parquet")


def scan_contrasts(run: Run) -> pl.LazyFrame:
    return pl.scan_parquet(run.folder / "features/contrasts.parquet")


def _with_language(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    """The language of a feature's examples: one where it has four of five of them, else `mixed`."""
    if not run.has("features/examples.parquet"):
        return frame.with_columns(pl.lit(None, pl.String).alias("language"))
    spoken = run.texts.with_row_index("row").select(pl.col("row").cast(pl.Int64), pl.col("language"))
    counts = (
        run.examples.lazy()
        .select("feature", pl.col("row").cast(pl.Int64))
        .join(spoken.lazy(), on="row", how="left")
        .group_by("feature", "language")
        .len()
        .with_columns((pl.col("len") / pl.col("len").sum().over("feature")).alias("share"))
        .sort("share", "language", descending=[True, False])
        .unique("feature", keep="first", maintain_order=True)
        .select(
            "feature", pl.when(pl.col("share") >= 0.8).then("language").otherwise(pl.lit("mixed")).alias("language")
        )
        .collect()
    )
    return frame.join(counts, on="feature", how="left", maintain_order="left")


def _with_labels(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    """The label that stands (a validator's revision before the labeller's own), and what is said of it."""
    if not run.has("interpret/labels.jsonl"):
        return frame.with_columns(
            *(pl.lit(None, pl.String).alias(name) for name in ("label", "category", "verdict", "reason")),
            pl.lit("no label").alias("state"),
        )
    labels = run.labels.unique("feature", keep="last").select(
        "feature", "label", "category", pl.col("reason").alias("said"), pl.col("failed").alias("label_failed")
    )
    frame = frame.join(labels, on="feature", how="left", maintain_order="left")
    labelled = pl.col("feature").is_in(labels["feature"].implode())
    if run.has("interpret/verdicts.jsonl"):
        verdicts = run.verdicts.unique("feature", keep="last").select(
            "feature", "verdict", pl.col("reason").alias("judged"), pl.col("label").alias("revised"), "failed"
        )
    else:
        names = ("feature", "verdict", "judged", "revised", "failed")
        verdicts = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    frame = frame.join(verdicts, on="feature", how="left", maintain_order="left")
    revised = (pl.col("verdict") == "REVISE") & pl.col("revised").is_not_null()
    state = (
        pl.when(~labelled)
        .then(pl.lit("no label"))
        .when(pl.col("label_failed").is_not_null())
        .then(pl.format("not labelled: the call failed ({})", pl.col("label_failed").fill_null("")))
        .when(pl.col("label").is_null())
        .then(pl.lit("incoherent: no common theme was found in its texts"))
        .otherwise(pl.lit(""))
    )
    return frame.with_columns(
        pl.when(revised).then("revised").otherwise("label").alias("label"),
        state.alias("state"),
        pl.coalesce("failed", "judged", "said").alias("reason"),
    ).drop("said", "judged", "revised", "failed", "label_failed")


def _with_scores(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    """`prediction`: balanced accuracy on held-out texts from the label alone. `coherence`: of the examples."""
    prediction = pl.DataFrame(schema={"feature": pl.String, "prediction": pl.Float64})
    if run.has("interpret/predictions.jsonl") and run.predictions.height:
        from antar.interpret.scores import balanced_accuracies  # scipy: only where there is something to score

        prediction = balanced_accuracies(run.predictions).rename({"balanced_accuracy": "prediction"})
    coherence = run.coherence.select("feature", "coherence")
    for scores in (prediction, coherence):
        scores = scores.with_columns(pl.col(scores.columns[1]).fill_nan(None)).unique("feature", keep="last")
        frame = frame.join(scores, on="feature", how="left", maintain_order="left")
    return frame


def _with_effects(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    """For each kind of contrast the effect that is largest on the selection half, as estimated on the other."""
    if not has_contrasts(run):
        nothing = [pl.lit(None, pl.Float64).alias(f"{kind}_{name}") for kind in KINDS for name in (*EFFECT, "null")]
        return frame.with_columns(*nothing, pl.lit(None, pl.String).alias("facet_value"))
    for kind in KINDS:
        frame = frame.join(_best(run, kind), on="feature", how="left", maintain_order="left")
    return frame


def _best(run: Run, kind: str) -> pl.DataFrame:
    """One row a feature: `<kind>_d, _lo, _hi, _q, _null`, and `facet_value` where the kind is facet."""
    columns = [*COMPARISON, "language", "feature", "d_av", "d_lo", "d_hi", "q", "d_av_select"]
    rows = pooled(scan_contrasts(run).filter((pl.col("contrast") == kind) & (pl.col("null") == "")).select(columns))
    home = pl.col("dictionary").str.extract(r"^([a-z:0-9]+)\.")
    # A dictionary may be read on several sides: culture and facets are those of the side that it was trained on.
    away = pl.when(pl.lit(kind in ("culture", "facet"))).then(
        pl.when(pl.col("side_b") == home).then(0).when(pl.col("side_b") == "base").then(1).otherwise(2)
    )
    chosen = pl.coalesce(pl.col("d_av_select").fill_nan(None), pl.col("d_av")).abs()
    best = (
        rows.with_columns(away.fill_null(0).alias("away"), chosen.alias("chosen"))
        .sort("away", "chosen", "value", "language", descending=[False, True, False, False], nulls_last=True)
        .unique("feature", keep="first", maintain_order=True)
        .collect()
    )
    best = best.join(_null_of(null_points(run, kind), best), on="feature", how="left")
    kept = [pl.col("feature"), *(pl.col(f"d_{n}" if n != "q" else n).alias(f"{kind}_{n}") for n in ("lo", "hi", "q"))]
    kept += [pl.col("d_av").alias(f"{kind}_d"), pl.col("point").alias(f"{kind}_null")]
    if kind == "facet":
        kept.append(pl.format("{}: {}", "facet", "value").alias("facet_value"))
    return best.select(kept)


def pooled(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with an effect: those pooled over languages where a comparison has them, else those of each language."""
    rows = rows.filter(pl.col("d_av").is_not_null() & pl.col("d_av").is_not_nan())
    has_pooled = (pl.col("language") == "pooled").any().over(COMPARISON)
    return rows.filter(~has_pooled | (pl.col("language") == "pooled"))


def null_points(run: Run, kind: str | None = None) -> pl.DataFrame:
    """The 95% point of |d| on each null: `contrast, facet, language, family, layer, null, point, n`.

    Pooled over the values of a facet and over the features of the dictionaries of a family (`base`, `delta`, …) at a
    layer.
    """
    rows = scan_contrasts(run).filter(TELLING & pl.col("d_av").is_not_null() & pl.col("d_av").is_not_nan())
    if kind is not None:
        rows = rows.filter(pl.col("contrast") == kind)
    keys = ["contrast", "facet", "language", "family", "layer", "null"]
    rows = rows.select("contrast", "facet", "language", *_family(), "null", pl.col("d_av").abs())
    points = rows.group_by(keys).agg(pl.col("d_av").quantile(0.95, "linear").alias("point"), pl.len().alias("n"))
    return points.sort(keys).collect()


def _family() -> list[pl.Expr]:
    return [
        pl.col("dictionary").str.extract(r"^([a-z]+)").alias("family"),
        pl.col("dictionary").str.extract(r"\.layer(\d+)").cast(pl.Int64).alias("layer"),
    ]


def _null_of(points: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """`feature, point`: the largest null of each row's own comparison."""
    keys = ["contrast", "facet", "language", "family", "layer"]
    largest = points.group_by(keys).agg(pl.col("point").max())
    return (
        rows.with_columns(*_family()).join(largest, on=keys, how="left", nulls_equal=True).select("feature", "point")
    )


def _with_marks(frame: pl.DataFrame, run: Run) -> pl.DataFrame:
    """`effect`, the largest of a feature's effects; `changed` and `cultural`: does one of its effects pass.

    A feature changed where its shift or interaction passes |d| and q of criterion 4; on a delta dictionary culture
    and facets are about the change already. It is cultural where culture or a facet passes.
    """
    d, q = thresholds(run)

    def passes(kind: str) -> pl.Expr:
        return ((pl.col(f"{kind}_d").abs() > d) & (pl.col(f"{kind}_q") < q)).fill_null(False)

    cultural = passes("culture") | passes("facet")
    of_delta = pl.col("trained_on").str.starts_with("delta")
    sizes = [pl.col(f"{kind}_d").abs() for kind in KINDS]
    largest = pl.max_horizontal(sizes)
    which: Any = pl.when(pl.lit(False)).then(pl.lit(None, pl.String))
    for kind, size in zip(KINDS, sizes, strict=True):
        which = which.when(size == largest).then(pl.lit(kind))
    frame = frame.with_columns(
        which.otherwise(None).alias("effect_kind"),
        (passes("shift") | passes("interaction") | (of_delta & cultural)).alias("changed"),
        cultural.alias("cultural"),
    )
    strongest = [
        pl.coalesce(pl.when(pl.col("effect_kind") == kind).then(pl.col(f"{kind}_{name}")) for kind in KINDS).alias(
            f"effect_{name}"
        )
        for name in (*EFFECT, "null")
    ]
    return frame.with_columns(strongest)
