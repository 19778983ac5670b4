"""What is left of the effects when other things are held equal, and by a stricter account of luck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from antar.criteria.config import CriteriaConfig, fold
from antar.features.config import ContrastConfig
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table
from antar.report.effects import KINDS, large_rows, null_name, pooled_rows, threshold_words, thresholds
from antar.report.sources import CONTRASTS, Rows, at, number, percent, setting
from antar.report.text import NOT_MEASURED
from antar.report.words import Cited, told
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
        return Section("confounds", title, [Paragraph("No contrast has been measured in this run.")], appendix=True)
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
        _table(run, rows, bounds),
    ]
    return Section("confounds", title, blocks, appendix=True)


def _table(run: Run, rows: pl.DataFrame, bounds: _Bounds) -> Table:
    within, (at_d, at_q) = bounds.within, threshold_words(run)
    strict = f"{STRICT:g}"
    odds = Cited(fold(bounds.log_odds), f"{at('study.yaml', 'criteria', 'log_odds')}#fold")
    columns = [
        Column("contrast", False),
        Column("on", False),
        Column(told("|d| > {}, q < {}", at_d, at_q)),
        Column(f"p_max < {strict} too"),
        Column(told("still |d| > {} after length", at_d)),
        *([Column(f"still within {within}")] if within else []),
        Column("languages differ"),
        Column("script only, of all"),
        Column(told("{} odds, q < {}", odds, at_q)),
    ]
    large = rows.filter((pl.col("d_av").abs() > bounds.d) & (pl.col("q") < bounds.q))
    table: list[Row] = []
    for kind in KINDS:
        for null in sorted(
            rows.filter(pl.col("contrast") == kind)["null"].unique(), key=lambda one: (one != "", one)
        ):
            its = (pl.col("contrast") == kind) & (pl.col("null") == null)
            source = CONTRASTS.where("d_av", "pooled", contrast=kind, null=null)
            many = source.where(*large_rows(run))
            table.append(_row(kind, null, rows.filter(its), large.filter(its), bounds, source, many))
    return Table(
        "How many large effects are left",
        columns,
        table,
        told(
            "p_max is adjusted for all tests of its contrast at once (the chance of one false finding or more). "
            "Languages differ: Cochran's Q with p < {} among the large effects. Script only: tells one language "
            "from the others by whether it fires (AUROC {}) and differs little within any. "
            "{} odds: |log-odds of firing| > {} with an interval "
            "clear of zero: how rare features are found, which no d shows. Not measured: not defined, or not "
            "measured on "
            "that null.",
            strict,
            setting(bounds.script_auroc, at("study.yaml", "contrasts", "script_auroc")),
            odds,
            setting(round(bounds.log_odds, 3), at("study.yaml", "criteria", "log_odds")),
        ),
    )


def _row(
    kind: str, null: str, rows: pl.DataFrame, large: pl.DataFrame, bounds: _Bounds, source: Rows, many: Rows
) -> Row:
    clear = (pl.col("log_odds_lo") > 0) | (pl.col("log_odds_hi") < 0)
    odds = rows.filter((pl.col("log_odds").abs() > bounds.log_odds) & clear & (pl.col("q") < bounds.q))
    by_odds = source.where(f"|log_odds|>{bounds.log_odds!r}", "log_odds_lo>0;log_odds_hi<0", f"q<{bounds.q!r}")
    strict = large.filter(pl.col("p_max") < STRICT).height
    cells: list[Cell] = [
        null_name(null),
        number(large.height, many.get("count")),
        number(strict, many.where(f"p_max<{STRICT:g}").get("count")),
        _left(large, "d_partial", bounds.d, many),
        *([_left(large, "d_within", bounds.d, many)] if bounds.within else []),
        _share(large, "het_p", many),
        number(rows.filter(pl.col("script_only")).height, source.where("script_only").get("count")),
        number(odds.height, by_odds.get("count")),
    ]
    return Row(kind, cells, null=null != "")


def _left(large: pl.DataFrame, column: str, d: float, many: Rows) -> Cell:
    measured = large.filter(pl.col(column).is_not_null())
    if measured.is_empty():
        return NOT_MEASURED
    left = measured.filter(pl.col(column).abs() > d).height
    return number(left, many.where(column, f"|{column}|>{d!r}").get("count"))


def _share(large: pl.DataFrame, column: str, many: Rows) -> Cell:
    measured = large.filter(pl.col(column).is_not_null())
    if measured.is_empty():
        return NOT_MEASURED
    source = many.where(column).get(f"share:{column}<{STRICT:g}")
    return percent(measured.filter(pl.col(column) < STRICT).height / measured.height, source)
