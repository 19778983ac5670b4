"""By how much the best delta features beat what needs no dictionary, and how many features need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from antar.criteria.baselines import WORDS, CultureCount, culture_counts, over_layers
from antar.criteria.config import CriteriaConfig
from antar.criteria.study import live_counts
from antar.features.beyond import BASELINES, MEAN_DIFFERENCE
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table, Value
from antar.report.effects import null_name, thresholds
from antar.report.geometry import side_name
from antar.report.text import fixed, interval, number, percent, plural
from antar.run import Run

NAMES = {MEAN_DIFFERENCE: "mean difference", "pca": "best PCA direction", "random": "best random direction",
         "neurons": "best neuron"}  # fmt: skip
POOLED = "pooled"


def baselines_section(run: Run) -> Section:
    title = "Beyond the baselines"
    table = run.baselines
    blocks: list[Block] = []
    if table.is_empty():
        blocks.append(Paragraph("What needs no dictionary has not been measured in this run."))
    else:
        blocks += [
            Paragraph(
                "What does a dictionary find that needs none? The mean difference is the vector from the control "
                "texts' mean delta to the cultural texts', taken on one half of the documents and measured on the "
                "other (near kin to the activation difference lens). Beside it stand the best latent of dictionaries "
                "that were not trained: principal components, random directions, raw neurons. The best feature, like "
                "theirs, is chosen on the first half and measured on the second, and must beat the largest of them."
            ),
            Paragraph(answer(table), "answer"),
            _effects(table, run.names),
            _vectors(table, run.names),
        ]
    counts = _counts(run)
    if counts:
        blocks.append(_culture(counts))
    return Section("baselines", title, blocks)


def answer(table: pl.DataFrame) -> str:
    """One sentence: at how many layers is the best feature above every baseline, and how often on the shams?"""
    judged = table.filter(pl.col("beyond").is_not_null() & (pl.col("language") == POOLED))
    real = judged.filter(pl.col("null") == "")
    if real.is_empty():
        return "No delta dictionary was held against the baselines."
    above, below = (int((real["stands"] == stands).sum()) for stands in ("above", "below"))
    told = (
        f"Pooled over languages, the best feature of a delta dictionary stands above every baseline, interval "
        f"against interval, at {above} of {plural(real.height, 'place')} (below at {below}); its d exceeds the "
        f"largest baseline's by {_signed(real['beyond'].min())} to {_signed(real['beyond'].max())}."
    )
    shams = judged.filter(pl.col("null").str.starts_with("sham:"))
    if shams.height:
        # The shams have no baseline dictionaries of their own: they are held against their own mean difference.
        n = int((shams["stands"] == "above").sum())
        told += f" On the shams' deltas, against their own mean difference alone, it does at {n} of {shams.height}."
    return told


def _signed(value: Any) -> str:
    return fixed(value) if value is None or value < 0 else f"+{fixed(value)}"


def _effects(table: pl.DataFrame, names: Mapping[str, str]) -> Table:
    rows: list[Row] = []
    for row in table.filter(pl.col("beyond").is_not_null()).sort(_order(), "layer", "language").to_dicts():
        beside = {one["method"]: one for one in table.filter(_same_place(row)).to_dicts()}
        cells: list[Cell] = [row["feature"], _d(row)]
        cells += [_d(beside.get(method)) for method in BASELINES]
        cells += [_signed(row["beyond"]), row["stands"], number(row["auroc"])]
        cells.append(number(beside.get(MEAN_DIFFERENCE, {}).get("auroc")))
        rows.append(Row(_place(row, names), cells, null=row["null"] != ""))
    columns = [Column("where", False), Column("best feature", False), Column("its d"),
               *(Column(NAMES[method]) for method in BASELINES), Column("beyond the largest"),
               Column("intervals", False), Column("AUROC"), Column("of the mean difference")]  # fmt: skip
    note = (
        "d_av with its 95% interval (documents are clusters) on the estimation half, turned to the sign that it has "
        "on the selection half. The largest baseline is chosen on the estimation half, which favours it. Shaded rows "
        "are nulls."
    )
    return Table("Cultural against control texts: the best feature beside the baselines", columns, rows, note)


def _vectors(table: pl.DataFrame, names: Mapping[str, str]) -> Table:
    lens = table.filter(pl.col("method") == MEAN_DIFFERENCE).sort(_order(), "layer", "language")
    rows = [
        Row(_place(row, names), [number(row["norm"]), percent(row["share"]), fixed(row["cosine"]), _d(row),
                                 number(row["auroc"])], null=row["null"] != "")
        for row in lens.to_dicts()
    ]  # fmt: skip
    columns = [Column("where", False), Column("norm"), Column("share of the held-out difference"), Column("cosine"),
               Column("d"), Column("AUROC")]  # fmt: skip
    note = (
        "Norm in activation units. The share is how much of the squared norm of the estimation half's mean "
        "difference lies along the vector of the selection half: cosine squared."
    )
    return Table("The mean difference vector itself", columns, rows, note)


def _order() -> pl.Expr:
    """Real rows, then shams, then shuffled groups."""
    null = pl.col("null")
    return pl.when(null == "").then(0).when(null.str.starts_with("sham:")).then(1).otherwise(2)


def _same_place(row: Mapping[str, Any]) -> pl.Expr:
    return pl.all_horizontal(pl.col(key) == row[key] for key in ("side", "layer", "language", "null"))


def _place(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    shuffled = f", {null_name('shuffled')}" if row["null"] == "shuffled" else ""
    return f"{side_name(row['side'], names)}, layer {row['layer']}, {row['language']}{shuffled}"


def _d(row: Mapping[str, Any] | None) -> Cell:
    if row is None or row["d_av"] is None:
        return number(None)
    ends = None if row["d_lo"] is None else (row["d_lo"], row["d_hi"])
    return Value(fixed(row["d_av"]), interval(ends))


def _counts(run: Run) -> list[CultureCount]:
    if not (run.has("features/contrasts.parquet") and run.has("features/features.parquet")):
        return []
    d, q = thresholds(run)
    return culture_counts(run.contrasts, live_counts(run.features), CriteriaConfig(d=d, q=q))


def _culture(counts: Sequence[CultureCount]) -> Table:
    rows: list[Row] = []
    for one in [*over_layers(counts), *counts]:
        where = WORDS[one.null] + (", all layers" if one.layer < 0 else f", layer {one.layer}")
        share = one.flagged / one.live if one.live else None
        cells: list[Cell] = [number(one.flagged), number(one.live), Value(percent(share), interval(one.ci))]
        rows.append(Row(where, cells, null=one.null != ""))
    columns = [Column("dictionaries of", False), Column("features that count"), Column("live features"),
               Column("share")]  # fmt: skip
    note = (
        "Cultural and control texts differ on their surface, and a model that was never trained sees that too. A "
        "feature counts by the thresholds of criterion 4 on |d| and q; the interval takes features as independent. "
        + ("" if any(one.null == "random_weights" for one in counts) else
           "This study has no model of random weights (`models: random_weights: true`).")
    )  # fmt: skip
    return Table("How many features separate cultural from control texts", columns, rows, note)
