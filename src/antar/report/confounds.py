"""What is left of the effects when other things are held equal, and by a stricter account of luck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from antar.criteria.config import CriteriaConfig, fold
from antar.features.config import ContrastConfig
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table
from antar.report.effects import KINDS, null_name, pooled_rows, thresholds
from antar.report.text import number, percent, setting
from antar.run import Run

STRICT = 0.05
"""What p_max and the p of heterogeneity are compared with."""


@dataclass(frozen=True)
class _Bounds:
    """The study's own: |d|, q and |log-odds| of its fourth criterion, and the AUROC of `script_only`."""

    d: float
    q: float
    log_odds: float
    script_auroc: float
    within: str | None

    @classmethod
    def of(cls, run: Run) -> _Bounds:
        criteria, contrasts = (
            part if isinstance(part, Mapping) else {}
            for part in (run.study.get("criteria"), run.study.get("contrasts"))
        )
        return cls(
            *thresholds(run),
            float(criteria.get("log_odds", CriteriaConfig().log_odds)),
            float(contrasts.get("script_auroc", ContrastConfig().script_auroc)),
            contrasts.get("within"),
        )


def confounds_section(run: Run) -> Section:
    title = "What else could explain the effects"
    if not run.has("features/contrasts.parquet") or run.contrasts.is_empty():
        return Section("confounds", title, [Paragraph("No contrast has been measured in this run.")])
    rows = pooled_rows(run.contrasts)
    bounds = _Bounds.of(run)
    within = bounds.within
    blocks: list[Block] = [
        Paragraph(
            "Cultural texts may be longer than controls, be about other things or be written in another script. "
            "Labels are shuffled within a language and a bin of length, so p and q answer for both. Here the size of "
            "each effect is asked again: after length (least squares on log length and its square, in each language)"
            + (f" and among texts of the same {within} alone." if within else ".")
            + " A shift compares a text with itself, so length and topic are equal there."
        ),
        _table(rows, bounds),
    ]
    return Section("confounds", title, blocks)


def _table(rows: pl.DataFrame, bounds: _Bounds) -> Table:
    d, q, within = bounds.d, bounds.q, bounds.within
    large = rows.filter((pl.col("d_av").abs() > d) & (pl.col("q") < q))
    columns = [
        Column("contrast", False), Column("on", False), Column(f"|d| > {d:g}, q < {q:g}"),
        Column(f"p_max < {STRICT:g} too"), Column(f"still |d| > {d:g} after length"),
        *([Column(f"still within {within}")] if within else []),
        Column("languages differ"), Column("script only, of all"), Column(f"{fold(bounds.log_odds)} odds, q < {q:g}"),
    ]  # fmt: skip
    table: list[Row] = []
    for kind in KINDS:
        for null in sorted(
            rows.filter(pl.col("contrast") == kind)["null"].unique(), key=lambda one: (one != "", one)
        ):
            its = (pl.col("contrast") == kind) & (pl.col("null") == null)
            table.append(_row(kind, null, rows.filter(its), large.filter(its), bounds))
    return Table(
        "How many large effects are left",
        columns,
        table,
        "p_max is adjusted for all tests of its contrast at once (the chance of one false finding or more). "
        f"Languages differ: Cochran's Q with p < {STRICT:g} among the large effects. Script only: tells one language "
        f"from the others by whether it fires (AUROC {setting(bounds.script_auroc)}) and differs little within any. "
        f"{fold(bounds.log_odds)} odds: |log-odds of firing| > {setting(round(bounds.log_odds, 3))} with an interval "
        "clear of 0: how rare features are found, which no d shows. A dash: not defined, or not measured on that "
        "null.",
    )


def _row(kind: str, null: str, rows: pl.DataFrame, large: pl.DataFrame, bounds: _Bounds) -> Row:
    clear = (pl.col("log_odds_lo") > 0) | (pl.col("log_odds_hi") < 0)
    odds = rows.filter((pl.col("log_odds").abs() > bounds.log_odds) & clear & (pl.col("q") < bounds.q))
    cells: list[Cell] = [
        null_name(null),
        number(large.height),
        number(large.filter(pl.col("p_max") < STRICT).height),
        _left(large, "d_partial", bounds.d),
        *([_left(large, "d_within", bounds.d)] if bounds.within else []),
        _share(large, "het_p"),
        number(rows.filter(pl.col("script_only")).height),
        number(odds.height),
    ]
    return Row(kind, cells, null=null != "")


def _left(large: pl.DataFrame, column: str, d: float) -> Cell:
    measured = large.filter(pl.col(column).is_not_null())
    if measured.is_empty():
        return number(None)
    return number(measured.filter(pl.col(column).abs() > d).height)


def _share(large: pl.DataFrame, column: str) -> Cell:
    measured = large.filter(pl.col(column).is_not_null())
    if measured.is_empty():
        return number(None)
    return percent(measured.filter(pl.col(column) < STRICT).height / measured.height)
