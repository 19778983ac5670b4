"""By how much the best delta features beat what needs no dictionary, and how many features need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from antar.criteria.baselines import WORDS, CultureCount, culture_counts, over_layers
from antar.criteria.config import CriteriaConfig
from antar.criteria.study import live_counts
from antar.features.beyond import BASELINES as BASELINES_SHOWN
from antar.features.beyond import MEAN_DIFFERENCE
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table, Value
from antar.report.effects import large_rows, null_name, thresholds
from antar.report.geometry import side_name
from antar.report.sources import BASELINES, CONTRASTS, FEATURES, Rows, fixed, interval, number, percent
from antar.report.text import NOT_MEASURED
from antar.report.words import Prose, told
from antar.run import Run

NAMES = {
    MEAN_DIFFERENCE: "mean difference",
    "pca": "best PCA direction",
    "random": "best random direction",
    "neurons": "best neuron",
}
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
        blocks.append(_culture(run, counts))
    return Section("baselines", title, blocks, appendix=True)


def answer(table: pl.DataFrame) -> Prose:
    """One sentence: at how many layers is the best feature above every baseline, and how often on the shams?"""
    judged = table.filter(pl.col("beyond").is_not_null() & (pl.col("language") == POOLED))
    real, its = judged.filter(pl.col("null") == ""), BASELINES.where("beyond", language=POOLED, null="")
    if real.is_empty():
        return "No delta dictionary was held against the baselines."
    above, below = (
        number(int((real["stands"] == stands).sum()), its.where(stands=stands).get("count"))
        for stands in ("above", "below")
    )
    least, most = (
        _signed(value, its.get(f"{name}:beyond"))
        for name, value in (("min", real["beyond"].min()), ("max", real["beyond"].max()))
    )
    said = told(
        "Pooled over languages, the best feature of a delta dictionary stands above every baseline, interval "
        "against interval, at {} of {} (below at {}); its d exceeds the largest baseline's by {} to {}.",
        above,
        number(real.height, its.get("count")) + (" place" if real.height == 1 else " places"),
        below,
        least,
        most,
    )
    shams = judged.filter(pl.col("null").str.starts_with("sham:"))
    if shams.height:
        # The shams have no baseline dictionaries of their own: they are held against their own mean difference.
        theirs = BASELINES.where("beyond", "null~sham:", language=POOLED)
        n = int((shams["stands"] == "above").sum())
        said = said + told(
            " On the shams' deltas, against their own mean difference alone, it does at {} of {}.",
            number(n, theirs.where(stands="above").get("count")),
            number(shams.height, theirs.get("count")),
        )
    return said


def _signed(value: Any, source: str) -> Prose:
    shown = fixed(value, source)
    return shown if value is None or value < 0 else told("+{}", shown)


def _effects(table: pl.DataFrame, names: Mapping[str, str]) -> Table:
    rows: list[Row] = []
    for row in table.filter(pl.col("beyond").is_not_null()).sort(_order(), "layer", "language").to_dicts():
        beside = {one["method"]: one for one in table.filter(_same_place(row)).to_dicts()}
        cells: list[Cell] = [row["feature"], _d(row)]
        cells += [_d(beside.get(method)) for method in BASELINES_SHOWN]
        lens = beside.get(MEAN_DIFFERENCE)
        cells += [
            _signed(row["beyond"], _rows(row).get("beyond")),
            row["stands"],
            number(row["auroc"], _rows(row).get("auroc")),
        ]
        cells.append(number(lens["auroc"], _rows(lens).get("auroc")) if lens else NOT_MEASURED)
        rows.append(Row(_place(row, names), cells, null=row["null"] != ""))
    columns = [
        Column("where", False),
        Column("best feature", False),
        Column("its d"),
        *(Column(NAMES[method]) for method in BASELINES_SHOWN),
        Column("beyond the largest"),
        Column("intervals", False),
        Column("AUROC"),
        Column("of the mean difference"),
    ]
    note = (
        "d_av with its 95% interval (documents are clusters) on the estimation half, turned to the sign that it has "
        "on the selection half. The largest baseline is chosen on the estimation half, which favours it. Shaded rows "
        "are nulls."
    )
    return Table("Cultural against control texts: the best feature beside the baselines", columns, rows, note)


def _vectors(table: pl.DataFrame, names: Mapping[str, str]) -> Table:
    lens = table.filter(pl.col("method") == MEAN_DIFFERENCE).sort(_order(), "layer", "language")
    rows = [
        Row(
            _place(row, names),
            [
                number(row["norm"], _rows(row).get("norm")),
                percent(row["share"], _rows(row).get("share")),
                fixed(row["cosine"], _rows(row).get("cosine")),
                _d(row),
                number(row["auroc"], _rows(row).get("auroc")),
            ],
            null=row["null"] != "",
        )
        for row in lens.to_dicts()
    ]
    columns = [
        Column("where", False),
        Column("norm"),
        Column("share of the held-out difference"),
        Column("cosine"),
        Column("d"),
        Column("AUROC"),
    ]
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


def _rows(row: Mapping[str, Any]) -> Rows:
    """The one row that `row` is."""
    return BASELINES.where(
        **{name: row[name] for name in ("side", "layer", "language", "null", "method", "dictionary")}
    )


def _d(row: Mapping[str, Any] | None) -> Cell:
    if row is None or row["d_av"] is None:
        return NOT_MEASURED
    its, ends = _rows(row), None if row["d_lo"] is None else (row["d_lo"], row["d_hi"])
    return Value(fixed(row["d_av"], its.get("d_av")), interval(ends, (its.get("d_lo"), its.get("d_hi"))))


def _counts(run: Run) -> list[CultureCount]:
    if not (run.has("features/contrasts.parquet") and run.has("features/features.parquet")):
        return []
    d, q = thresholds(run)
    return culture_counts(run.contrasts, live_counts(run.features), CriteriaConfig(d=d, q=q))


def _culture(run: Run, counts: Sequence[CultureCount]) -> Table:
    rows: list[Row] = []
    for one in [*over_layers(counts), *counts]:
        where = WORDS[one.null] + (", all layers" if one.layer < 0 else f", layer {one.layer}")
        flagged, live = _culture_sources(run, one)
        cells: list[Cell] = [number(one.flagged, flagged), number(one.live, live)]
        cells.append(percent(one.flagged / one.live, f"{flagged} / {live}") if one.live else NOT_MEASURED)
        rows.append(Row(where, cells, null=one.null != ""))
    columns = [
        Column("dictionaries of", False),
        Column("features that count"),
        Column("live features"),
        Column("share"),
    ]
    note = (
        "Cultural and control texts differ on their surface, and a model that was never trained sees that too. A "
        "feature counts by the thresholds of the effect criterion on |d| and q. "
        + (
            ""
            if any(one.null == "random_weights" for one in counts)
            else "This study has no model of random weights (`models: random_weights: true`)."
        )
    )
    return Table("How many features separate cultural from control texts", columns, rows, note)


def _culture_sources(run: Run, one: CultureCount) -> tuple[str, str]:
    """Of the features that count, and of the live ones; at one layer, or over all."""
    family = "untrained" if one.null == "random_weights" else "base"
    features = FEATURES.where("live", family=family)
    features = features.where(kind=one.null) if one.null in ("pca", "random", "neurons") else features.where("own")
    place: dict[str, Any] = {} if one.layer < 0 else {"layer": one.layer}
    rows = CONTRASTS.where(
        contrast="culture", language="pooled", null=one.null, family=family, side_b=family, **place
    )
    frame = run.contrasts.filter(
        (pl.col("contrast") == "culture")
        & (pl.col("language") == "pooled")
        & (pl.col("null") == one.null)
        & pl.col("dictionary").str.starts_with(family)
        & (pl.col("side_b") == family)
    )
    if one.layer >= 0:
        frame = frame.filter(pl.col("dictionary").str.contains(f".layer{one.layer:02d}", literal=True))
    # All live ones were tested, or some fire on no compared text.
    live = rows if frame.height == one.live else features.where(**place)
    return rows.where(*large_rows(run)).get("count"), live.get("count")
