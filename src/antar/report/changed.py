"""The features that changed: for each contrast the strongest, with label, verdict, effects and texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from antar.core.sites import DictionaryId
from antar.corpora.schema import facet_columns
from antar.report.blocks import (
    Block,
    Cards,
    Cell,
    Column,
    ExampleText,
    FeatureCard,
    Folded,
    Heading,
    Paragraph,
    Row,
    Section,
    Table,
    Value,
    verdict_badge,
)
from antar.report.effects import KINDS, MEANINGS, null_name, pooled_rows, thresholds
from antar.report.text import NOT_MEASURED, fixed, interval, number, percent, small
from antar.run import Run

FEATURES_SHOWN = 8
FEATURES_OPEN = 3
EXAMPLES_SHOWN = 5
FACET_VALUES_SHOWN = 30
_COMPARISON = ["contrast", "dictionary", "side_a", "side_b", "facet", "value", "language"]


def changed_section(run: Run) -> Section:
    title = "The features that changed"
    if not run.has("features/contrasts.parquet") or run.contrasts.is_empty():
        return Section(
            "changed", title, [Paragraph("No contrast has been measured, so no feature can be said to have changed.")]
        )
    book = FeatureBook(run)
    d, q = thresholds(run)
    blocks: list[Block] = [
        Paragraph(
            f"For each contrast the {FEATURES_SHOWN} features with the largest effect among those with q < {q:g}. "
            "They are ordered by their effect on the selection half of the documents and shown with their effect on "
            "the estimation half, so that none stands first by the luck of the very number that is shown. Beside "
            "each effect stands the 95% point of |d| on the nulls of the same comparison."
        )
    ]
    if not book.has_labels:
        blocks.append(
            Paragraph("The features of this run have no labels: nobody has said yet what they are about.", "note")
        )
    for kind in KINDS:
        blocks += _kind_blocks(run, book, kind, d, q)
    return Section("changed", title, blocks)


def _kind_blocks(run: Run, book: FeatureBook, kind: str, d: float, q: float) -> list[Block]:
    rows = run.contrasts.filter(pl.col("contrast") == kind)
    if rows.is_empty():
        return []
    pooled = pooled_rows(rows)
    passing = _passing(pooled, q)
    heading = Heading(f"{kind.capitalize()}: {MEANINGS[kind]}")
    counts = Paragraph(_count_sentence(pooled, d, q), "note")
    if passing.is_empty():
        return [heading, counts, Paragraph(f"No feature has q < {q:g} in this contrast.")]
    top = passing.unique("feature", keep="first", maintain_order=True).head(FEATURES_SHOWN)
    cards = [book.card(row["feature"], kind) for row in top.iter_rows(named=True)]
    blocks: list[Block] = [heading, counts, Cards(cards[:FEATURES_OPEN])]
    if cards[FEATURES_OPEN:]:
        blocks.append(
            Folded(f"{len(cards) - FEATURES_OPEN} more features of this contrast", [Cards(cards[FEATURES_OPEN:])])
        )
    if kind == "facet":
        blocks.append(_by_value(passing, book))
    return blocks


def _passing(pooled: pl.DataFrame, q: float) -> pl.DataFrame:
    """Real effects of the study's own dictionaries, chosen and ordered on the selection half."""
    order = pl.coalesce(pl.col("d_av_select").fill_nan(None), pl.col("d_av")).abs()
    own = (pl.col("null") == "") & ~pl.col("dictionary").str.contains(":")
    chosen = pl.coalesce(pl.col("q_select").fill_nan(None), pl.col("q")) < q
    return pooled.filter(own & chosen).sort(order, "feature", descending=[True, False])


def _count_sentence(pooled: pl.DataFrame, d: float, q: float) -> str:
    large = pooled.filter((pl.col("d_av").abs() > d) & (pl.col("q") < q))
    told: list[str] = []
    for null in sorted(pooled["null"].unique(), key=lambda null: (null != "", null)):
        count = large.filter(pl.col("null") == null)["feature"].n_unique()
        tested = pooled.filter(pl.col("null") == null)["feature"].n_unique()
        told.append(f"{null_name(null)}: {count:,} of {tested:,}")
    return f"Features with |d| > {d:g} and q < {q:g}, pooled over languages. " + "; ".join(told) + "."


def _by_value(passing: pl.DataFrame, book: FeatureBook) -> Table:
    """For each facet value its strongest feature: a pooled effect hides what is about one concept only."""
    best = passing.unique(["facet", "value"], keep="first", maintain_order=True).head(FACET_VALUES_SHOWN)
    rows = [
        Row(
            f"{row['facet']}: {row['value']}",
            [
                row["feature"],
                book.label(row["feature"]) or "no label",
                Value(fixed(row["d_av"]), interval([row["d_lo"], row["d_hi"]])),
                book.nulls.beside(row),
                small(row["q"]),
                number(row["n_b"]),
            ],
        )
        for row in best.iter_rows(named=True)
    ]
    columns = [
        Column("value", False),
        Column("feature", False),
        Column("label", False),
        Column("d"),
        Column("null: 95% of |d|", False),
        Column("q"),
        Column("texts"),
    ]
    return Table("The strongest feature of each facet value", columns, rows, stacked=True)


@dataclass(frozen=True)
class NullPoints:
    """(contrast, facet, language, layer) → name of the null → 95% point of |d|."""

    points: Mapping[tuple[Any, ...], Mapping[str, float]]

    @classmethod
    def of(cls, contrasts: pl.DataFrame) -> NullPoints:
        # The same checkpoint on both sides gives zeros by construction, so it says nothing beside a single effect.
        tells = ~pl.col("null").is_in(["", "same_checkpoint"])
        frame = contrasts.filter(tells & pl.col("d_av").is_not_null() & pl.col("d_av").is_not_nan())
        frame = frame.with_columns(_family("dictionary"), _layer("dictionary"))
        keys = ["contrast", "facet", "language", "family", "layer", "null"]
        points: dict[tuple[Any, ...], dict[str, float]] = {}
        table = frame.group_by(keys).agg(pl.col("d_av").abs().quantile(0.95, "linear").alias("point"))
        for row in table.sort(keys).iter_rows(named=True):
            points.setdefault(tuple(row[key] for key in keys[:-1]), {})[row["null"]] = row["point"]
        return cls(points)

    def beside(self, row: Mapping[str, Any]) -> str:
        one = DictionaryId.parse(row["dictionary"])
        key = (row["contrast"], row["facet"], row["language"], one.trained_on.split(":")[0], one.layer)
        found = self.points.get(key, {})
        return "; ".join(f"{null_name(null)} {fixed(point)}" for null, point in found.items()) or NOT_MEASURED


def _family(column: str) -> pl.Expr:
    return pl.col(column).str.extract(r"^([a-z]+)").alias("family")


def _layer(column: str) -> pl.Expr:
    return pl.col(column).str.extract(r"\.layer(\d+)").cast(pl.Int64).alias("layer")


class FeatureBook:
    """Everything that is known of a feature, looked up by its name. The report and the browser show it alike."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.has_labels = run.has("interpret/labels.jsonl")
        self.has_verdicts = run.has("interpret/verdicts.jsonl")
        self._labels = _by_feature(run.labels) if self.has_labels else {}
        self._verdicts = _by_feature(run.verdicts) if self.has_verdicts else {}
        contrasts = run.contrasts if run.has("features/contrasts.parquet") else None
        self._real = None if contrasts is None else contrasts.filter(pl.col("null") == "")
        self.nulls = NullPoints({}) if contrasts is None else NullPoints.of(contrasts)
        self._facets = facet_columns(run.texts)

    def label(self, feature: str) -> str | None:
        """The label that stands: a validator's revision before the labeller's own."""
        label = self._labels.get(feature, {}).get("label")
        verdict = self._verdicts.get(feature, {})
        return verdict.get("label") or label if verdict.get("verdict") == "REVISE" else label

    def label_state(self, feature: str) -> str:
        if not self.has_labels or feature not in self._labels:
            return "no label"
        record = self._labels[feature]
        if record.get("failed"):
            return f"not labelled: the call failed ({record['failed']})"
        return "" if record.get("label") else "incoherent: no common theme was found in its texts"

    def verdict(self, feature: str) -> str | None:
        return self._verdicts.get(feature, {}).get("verdict")

    def card(self, feature: str, kind: str | None = None, examples: int = EXAMPLES_SHOWN) -> FeatureCard:
        """The card of `feature`: its effects in the contrast `kind` (in all, without one) and its strongest texts."""
        record = self._verdicts.get(feature, {})
        return FeatureCard(
            feature=feature,
            anchor=re.sub(r"[^a-z0-9]+", "-", f"{kind or 'feature'}-{feature}".lower()),
            label=self.label(feature),
            label_state=self.label_state(feature),
            verdict=verdict_badge(record.get("verdict") or ("failed" if record.get("failed") else "not validated")),
            reason=str(
                record.get("failed") or record.get("reason") or self._labels.get(feature, {}).get("reason") or ""
            ),
            facts=self._facts(feature),
            effects=self._effects(feature, kind),
            examples=self._examples(feature, examples),
        )

    def _facts(self, feature: str) -> list[tuple[str, str]]:
        found = self._run.features.filter(pl.col("feature") == feature)
        if found.is_empty():
            return []
        row = found.row(0, named=True)
        return [
            ("fires on cultural texts", percent(row["firing_rate_cultural"])),
            ("on control texts", percent(row["firing_rate_control"])),
            ("mean when it fires", number(row["mean_active"])),
        ]

    def _effects(self, feature: str, kind: str | None) -> Table | None:
        if self._real is None:
            return None
        rows = self._real.filter(pl.col("feature") == feature)
        if kind is not None:
            rows = rows.filter(pl.col("contrast") == kind)
        if rows.is_empty():
            return None
        strongest = pl.col("d_av").abs().max().over("contrast", "facet", "value", "side_b")
        rows = rows.sort(
            strongest, *_COMPARISON, descending=[True] + [False] * len(_COMPARISON), nulls_last=True
        ).head(9)
        columns = [Column("comparison", False), Column("d when chosen"), Column("d"),
                   Column("null: 95% of |d|", False), Column("q"), Column("after length"), Column("fires"),
                   Column("log-odds"), Column("AUROC"), Column("n")]  # fmt: skip
        effects = [self._effect(row) for row in rows.iter_rows(named=True)]
        return Table("Effects on the estimation half, beside the d on the half that chose it", columns, effects,
                     stacked=True)  # fmt: skip

    def _effect(self, row: Mapping[str, Any]) -> Row:
        what = f"{row['facet']} = {row['value']}" if row["contrast"] == "facet" else row["contrast"]
        side = (
            ""
            if row["side_a"] != row["side_b"] or row["side_b"] == row["dictionary"].split(".")[0]
            else f" on {row['side_b']}"
        )
        cells: Sequence[Cell] = [
            fixed(row["d_av_select"]),
            _with_ends(row, "d_av", "d"),
            self.nulls.beside(row),
            small(row["q"]),
            _with_ends(row, "d_partial", "partial"),
            f"{percent(row['fire_a'])} → {percent(row['fire_b'])}",
            _with_ends(row, "log_odds", "log_odds"),
            _with_ends(row, "auroc", "auroc"),
            f"{number(row['n_a'])} / {number(row['n_b'])}" + (" (few)" if row.get("few") else ""),
        ]
        remark = "tells the languages' scripts apart and nothing else" if row.get("script_only") else ""
        return Row(f"{what}{side}, {row['language']}", cells, remark=remark)

    def _examples(self, feature: str, most: int) -> list[ExampleText]:
        run = self._run
        if not run.has("features/examples.parquet"):
            return []
        rows = run.examples.filter(pl.col("feature") == feature).sort("activation", "row", descending=[True, False])
        found: list[ExampleText] = []
        seen_texts = set[str]()
        largest = float(rows["activation"].max() or 0.0)  # pyright: ignore[reportArgumentType]  (a float column)
        for row in rows.iter_rows(named=True):
            text = run.texts.row(row["row"], named=True)
            if text["text"] in seen_texts:
                continue
            seen_texts.add(text["text"])
            facets = ", ".join(f"{name}: {text[name]}" for name in self._facets if text[name] is not None)
            found.append(
                ExampleText(text["text"], text["language"], text["text_id"], float(row["activation"]), largest,
                            text["group"], facets, row["pool"] == "select")
            )  # fmt: skip
            if len(found) == most:
                break
        return found


def _with_ends(row: Mapping[str, Any], name: str, ends: str) -> Cell:
    if row[name] is None:
        return ""
    return Value(fixed(row[name]), interval([row[f"{ends}_lo"], row[f"{ends}_hi"]]))


def _by_feature(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["feature"]: row for row in frame.iter_rows(named=True)}
