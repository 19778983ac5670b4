"""The features that changed: of each comparison of the two models the strongest, as cards, and as one short table.

What changed is asked in four ways, none of which compares latents of dictionaries trained apart: the same texts
before and after (`shift`), whether that is larger on cultural texts (`interaction`), and, on a dictionary of the
difference, cultural against control texts (`culture`) and one value of a facet against the rest (`facet`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from antar.report.blocks import (
    Block,
    Cards,
    Cell,
    Column,
    Folded,
    Heading,
    Paragraph,
    Row,
    Section,
    Table,
    verdict_badge,
)
from antar.report.book import FeatureBook, comparison_words, effect_rows, effect_value
from antar.report.effects import KINDS, large_rows, null_name, null_order, pooled_rows, threshold_words, thresholds
from antar.report.sources import CONTRASTS, Rows, number, small
from antar.report.text import listing
from antar.report.words import Prose, joined, told
from antar.run import Run

FEATURES_SHOWN = 8
FEATURES_OPEN = 3
FACET_VALUES_SHOWN = 30
QUESTIONS = {
    "shift": "fire otherwise on the same texts after than before",
    "interaction": "changed more on cultural texts than on controls",
    "culture": "read the difference of the two models, and tell cultural texts from controls",
    "facet": "read the difference of the two models, and single out one {}",
}
"""What each kind of change is (features that …), for a reader who knows no contrast by name."""


def question(run: Run, kind: str) -> str:
    """What a kind asks, with the study's facets by name."""
    facets = (
        run.contrasts.filter((pl.col("contrast") == "facet") & (pl.col("null") == ""))["facet"].unique().drop_nulls()
    )
    return QUESTIONS[kind].replace("{}", listing(sorted(facets), "or") if len(facets) else "value of a facet")


def change_rows(contrasts: pl.DataFrame) -> pl.DataFrame:
    """The rows that compare the two models (or a null's stand-in), pooled where they have been."""
    of_delta = pl.col("dictionary").str.starts_with("delta")
    rows = contrasts.filter(pl.col("contrast").is_in(["shift", "interaction"]) | of_delta)
    return pooled_rows(rows)


def change_source(kind: str, **equal: Any) -> Rows:
    """The same rows of one kind, as a source."""
    rows = CONTRASTS.where("d_av", "pooled", contrast=kind, **equal)
    return rows if kind in ("shift", "interaction") else rows.where(family="delta")


def change_kinds(rows: pl.DataFrame) -> list[str]:
    return [kind for kind in ("shift", "interaction", "culture", "facet") if kind in set(rows["contrast"])]


def top_features(rows: pl.DataFrame, kind: str, q: float) -> pl.DataFrame:
    """One row a feature with q below the study's on the selection half, the largest effect there first. The numbers
    that are shown are of the other half, so that none stands first by the luck of the very number that is shown."""
    return _chosen(rows, kind, q).unique("feature", keep="first", maintain_order=True)


def top_values(rows: pl.DataFrame, q: float) -> pl.DataFrame:
    """As `top_features`, one row a value of a facet: the feature that singles it out most."""
    return _chosen(rows, "facet", q).unique(["facet", "value"], keep="first", maintain_order=True)


def _chosen(rows: pl.DataFrame, kind: str, q: float) -> pl.DataFrame:
    order = pl.coalesce(pl.col("d_av_select").fill_nan(None), pl.col("d_av")).abs()
    chosen = pl.coalesce(pl.col("q_select").fill_nan(None), pl.col("q")) < q
    mine = rows.filter((pl.col("contrast") == kind) & (pl.col("null") == "") & chosen)
    return mine.sort(order, "feature", "value", descending=[True, False, False])


def changed_section(run: Run) -> Section:
    title = "The features that changed most"
    if not run.has("features/contrasts.parquet") or run.contrasts.is_empty():
        nothing = Paragraph("No contrast has been measured, so no feature can be said to have changed.")
        return Section("changed", title, [nothing])
    book, rows, (d, q) = FeatureBook(run), change_rows(run.contrasts), threshold_words(run)
    blocks: list[Block] = [
        Paragraph(
            told(
                "Of each way in which a feature can change, the largest effects among those with q < {}: chosen on "
                "one half of the documents, shown as measured on the other. A feature counts as changed where |d| > "
                "{} "
                "too. Read each effect against what the nulls reach beside it.",
                q,
                d,
            )
        ),
    ]
    if not book.has_labels:
        blocks.append(
            Paragraph("The features of this run have no labels: nobody has said yet what they are about.", "note")
        )
    if (table := top_table(run, book)).rows:
        blocks.append(table)
    for kind in KINDS:
        blocks += _kind_blocks(run, book, rows, kind)
    return Section("changed", title, blocks)


def _kind_blocks(run: Run, book: FeatureBook, rows: pl.DataFrame, kind: str) -> list[Block]:
    heading = Heading(f"{kind.capitalize()}: features that {question(run, kind)}")
    if kind not in change_kinds(rows):
        return [heading, Paragraph(_MISSING[kind], "note")]
    at_q = threshold_words(run)[1]
    top = top_features(rows, kind, thresholds(run)[1])
    counts = Paragraph(count_sentence(run, rows, kind), "note")
    if top.is_empty():
        return [heading, counts, Paragraph(told("No feature has q < {} on the half that chooses.", at_q))]
    cards = [book.card(feature, kind) for feature in top["feature"].head(FEATURES_SHOWN)]
    blocks: list[Block] = [heading, counts, Cards(cards[:FEATURES_OPEN])]
    if cards[FEATURES_OPEN:]:
        blocks.append(Folded("More features of this kind", [Cards(cards[FEATURES_OPEN:])]))
    if kind == "facet":
        blocks.append(Folded("The strongest feature of each value", [_by_value(rows, thresholds(run)[1], book)]))
    return blocks


_MISSING = {
    "shift": "Not measured: it needs one dictionary that encodes both models, and this run has codes of one alone.",
    "interaction": (
        "Not measured here; where a dictionary was trained on the difference, culture on it asks the same."
    ),
    "culture": "Not measured: this run has no dictionary of the difference, or no controls beside cultural texts.",
    "facet": "Not measured: the study compares no facet, or has no dictionary of the difference.",
}


def nulls_of(rows: pl.DataFrame, kind: str) -> list[str]:
    """The nulls that a kind was measured on: shams first."""
    of_kind = rows.filter((pl.col("contrast") == kind) & (pl.col("null") != ""))
    return sorted(of_kind["null"].unique(), key=null_order)


def count_large(run: Run, rows: pl.DataFrame, kind: str, null: str) -> tuple[Prose, Prose]:
    """How many features of a kind are large and sure, and how many were tested, really or on a null."""
    d, q = thresholds(run)
    part = rows.filter((pl.col("contrast") == kind) & (pl.col("null") == null))
    large = part.filter((pl.col("d_av").abs() > d) & (pl.col("q") < q))
    source = change_source(kind, null=null)
    return (
        number(large["feature"].n_unique(), source.where(*large_rows(run)).get("distinct:feature")),
        number(part["feature"].n_unique(), source.get("distinct:feature")),
    )


def count_sentence(run: Run, rows: pl.DataFrame, kind: str) -> Prose:
    d, q = threshold_words(run)
    parts = [
        told("{}: {} of {}", null_name(null) if null else "this pair", *count_large(run, rows, kind, null))
        for null in ["", *nulls_of(rows, kind)]
    ]
    return told("Features with |d| > {} and q < {}. ", d, q) + joined(parts, "; ") + "."


def top_table(run: Run, book: FeatureBook) -> Table:
    """The first of each kind in one table, for the page, the appendix of a paper and the terminal."""
    rows, q = change_rows(run.contrasts), thresholds(run)[1]
    body = [
        Row(row["feature"], _top_cells(row, book))
        for kind in change_kinds(rows)
        for row in top_features(rows, kind, q).head(FEATURES_OPEN + 1).iter_rows(named=True)
    ]
    columns = [
        Column("feature", False),
        Column("comparison", False),
        Column("label", False),
        Column("verdict", False),
        Column("d"),
        Column("95% of |d| on the nulls", False),
        Column("q"),
    ]
    return Table("The largest changes of each kind", columns, body, stacked=True)


def _top_cells(row: Mapping[str, Any], book: FeatureBook) -> list[Cell]:
    label = book.label(row["feature"]) or "no label"
    verdict: Cell = verdict_badge(book.verdict(row["feature"]) or "not validated")
    return [comparison_words(row), label, verdict, *_numbers(row, book)]


def _numbers(row: Mapping[str, Any], book: FeatureBook) -> list[Cell]:
    return [effect_value(row), book.nulls.beside(row), small(row["q"], effect_rows(row).get("q"))]


def _by_value(rows: pl.DataFrame, q: float, book: FeatureBook) -> Table:
    """For each facet value its strongest feature: a pooled effect hides what is about one value only."""
    best = top_values(rows, q).head(FACET_VALUES_SHOWN)
    body = [
        Row(
            comparison_words(row),
            [
                row["feature"],
                book.label(row["feature"]) or "no label",
                *_numbers(row, book),
                number(row["n_b"], effect_rows(row).get("n_b")),
            ],
        )
        for row in best.iter_rows(named=True)
    ]
    columns = [
        Column("value", False),
        Column("feature", False),
        Column("label", False),
        Column("d"),
        Column("95% of |d| on the nulls", False),
        Column("q"),
        Column("texts"),
    ]
    return Table("The strongest feature of each value, in the difference of the models", columns, body, stacked=True)
