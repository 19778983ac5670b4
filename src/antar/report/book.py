"""Everything that is known of a feature, as a card: label and verdict, effects beside their nulls, and its texts."""

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
    Cell,
    Column,
    ExampleText,
    FeatureCard,
    Row,
    Table,
    Value,
    verdict_badge,
)
from antar.report.effects import null_name, null_order
from antar.report.sources import (
    CONTRASTS,
    EXAMPLES,
    FEATURES,
    LABELS,
    TEXTS,
    VERDICTS,
    Rows,
    fixed,
    interval,
    number,
    percent,
    quoted,
    small,
)
from antar.report.text import NOT_MEASURED
from antar.report.words import Prose, joined, told
from antar.run import Run

EXAMPLES_SHOWN = 4
"""In each language."""
EFFECTS_SHOWN = 7
_COMPARISON = ["contrast", "dictionary", "side_a", "side_b", "facet", "value", "language"]
LANGUAGES = {"en": "English", "hi": "Hindi", "ta": "Tamil", "bn": "Bengali", "mr": "Marathi", "te": "Telugu"}


def language_name(code: str) -> str:
    return LANGUAGES.get(code, code)


@dataclass(frozen=True)
class NullPoints:
    """(contrast, facet, language, family, layer) → name of the null → 95% point of |d|."""

    points: Mapping[tuple[Any, ...], Mapping[str, float]]

    @classmethod
    def of(cls, contrasts: pl.DataFrame) -> NullPoints:
        # The same checkpoint on both sides gives zeros by construction, so it says nothing beside a single effect.
        tells = ~pl.col("null").is_in(["", "same_checkpoint"])
        frame = contrasts.filter(tells & pl.col("d_av").is_not_null() & pl.col("d_av").is_not_nan())
        frame = frame.with_columns(
            pl.col("dictionary").str.extract(r"^([a-z]+)").alias("family"),
            pl.col("dictionary").str.extract(r"\.layer(\d+)").cast(pl.Int64).alias("layer"),
        )
        keys = ["contrast", "facet", "language", "family", "layer", "null"]
        points: dict[tuple[Any, ...], dict[str, float]] = {}
        table = frame.group_by(keys).agg(pl.col("d_av").abs().quantile(0.95, "linear").alias("point"))
        for row in table.sort(keys).iter_rows(named=True):
            points.setdefault(tuple(row[key] for key in keys[:-1]), {})[row["null"]] = row["point"]
        return cls(points)

    def beside(self, row: Mapping[str, Any]) -> Prose:
        """The 95% points of |d| on the nulls of a row's comparison and site."""
        one = DictionaryId.parse(row["dictionary"])
        family = one.trained_on.split(":")[0]
        found = self.points.get((row["contrast"], row["facet"], row["language"], family, one.layer), {})
        return (
            joined(
                [
                    told("{} {}", null_name(null), fixed(point, self._rows(row, family, one.layer, null)))
                    for null, point in sorted(found.items(), key=lambda one: null_order(one[0]))
                ],
                "; ",
            )
            or NOT_MEASURED
        )

    @staticmethod
    def _rows(row: Mapping[str, Any], family: str, layer: int, null: str) -> str:
        its = CONTRASTS.where("d_av", contrast=row["contrast"], facet=row["facet"], language=row["language"])
        return its.where(family=family, layer=layer, null=null).get("q0.95:|d_av|")


def effect_rows(row: Mapping[str, Any]) -> Rows:
    """The one row of the contrasts that `row` is."""
    names = ("contrast", "feature", "side_a", "side_b", "facet", "value", "language", "null")
    return CONTRASTS.where(**{name: row[name] for name in names})


def effect_value(row: Mapping[str, Any], name: str = "d_av", ends: str = "d") -> Cell:
    """An effect with its interval; empty where it is not defined."""
    if row.get(name) is None:
        return ""
    its = effect_rows(row)
    low, high = f"{ends}_lo", f"{ends}_hi"
    return Value(fixed(row[name], its.get(name)), interval([row[low], row[high]], (its.get(low), its.get(high))))


class FeatureBook:
    """Everything that is known of a feature, looked up by its name."""

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

    def label(self, feature: str) -> Prose:
        """The label that stands: a validator's revision before the labeller's own. Empty where there is none."""
        label, verdict = self._labels.get(feature, {}).get("label"), self._verdicts.get(feature, {})
        if verdict.get("verdict") == "REVISE" and verdict.get("label"):
            return quoted(verdict["label"], VERDICTS.where(feature=feature).get("label"))
        return quoted(label, LABELS.where(feature=feature).get("label")) if label else ""

    def label_state(self, feature: str) -> Prose:
        if not self.has_labels:
            return "no label: this run was not labelled"
        if feature not in self._labels:
            return "no label: it was not among the features that were labelled"
        if self._labels[feature].get("failed"):
            failed = quoted(self._labels[feature]["failed"], LABELS.where(feature=feature).get("failed"))
            return told("not labelled: the call failed ({})", failed)
        return "" if self._labels[feature].get("label") else "incoherent: no common theme was found in its texts"

    def verdict(self, feature: str) -> str | None:
        return self._verdicts.get(feature, {}).get("verdict")

    def card(self, feature: str, kind: str, examples: int = EXAMPLES_SHOWN) -> FeatureCard:
        """The card of `feature`: its effects in the contrast `kind` and its strongest texts in each language."""
        record = self._verdicts.get(feature, {})
        rows = self._effects(feature, kind)
        return FeatureCard(
            feature=feature,
            anchor=anchor_of(feature, kind),
            label=self.label(feature),
            label_state=self.label_state(feature),
            verdict=verdict_badge(record.get("verdict") or ("failed" if record.get("failed") else "not validated")),
            reason=self._reason(feature),
            facts=self._facts(feature),
            effects=self._table(rows),
            examples=self._examples(feature, examples),
            more=[_details(rows)] if rows else [],
        )

    def _reason(self, feature: str) -> Prose:
        judged, labelled = self._verdicts.get(feature, {}), self._labels.get(feature, {})
        for rows, record, name in (
            (VERDICTS, judged, "failed"),
            (VERDICTS, judged, "reason"),
            (LABELS, labelled, "reason"),
        ):
            if record.get(name):
                return quoted(record[name], rows.where(feature=feature).get(name))
        return ""

    def _facts(self, feature: str) -> list[tuple[Prose, Prose]]:
        found = self._run.features.filter(pl.col("feature") == feature)
        category = self._labels.get(feature, {}).get("category")
        facts: list[tuple[Prose, Prose]] = []
        if category:
            facts.append(("category", quoted(category, LABELS.where(feature=feature).get("category"))))
        if found.is_empty():
            return facts
        row, its = found.row(0, named=True), FEATURES.where(feature=feature)
        for name, column in (
            ("fires on", "firing_rate"),
            ("on unseen cultural texts", "firing_rate_cultural"),
            ("on unseen controls", "firing_rate_control"),
        ):
            facts.append(
                (
                    name,
                    percent(row[column], its.get(column)) + told(" of texts" if column == "firing_rate" else "")
                    if row[column] is not None
                    else NOT_MEASURED,
                )
            )
        return facts

    def _effects(self, feature: str, kind: str) -> list[dict[str, Any]]:
        if self._real is None:
            return []
        rows = self._real.filter((pl.col("feature") == feature) & (pl.col("contrast") == kind))
        strongest = pl.col("d_av").abs().max().over("contrast", "facet", "value", "side_b")
        order = [True] + [False] * len(_COMPARISON)
        rows = rows.filter(pl.col("d_av").is_not_null() & pl.col("d_av").is_not_nan())
        return rows.sort(strongest, *_COMPARISON, descending=order, nulls_last=True).head(EFFECTS_SHOWN).to_dicts()

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> Table | None:
        if not rows:
            return None
        columns = [
            Column("comparison", False),
            Column("effect d, with its 95% interval"),
            Column("95% of |d| on the nulls", False),
            Column("q"),
            Column("texts"),
        ]
        body: list[Row] = []
        for row in rows:
            its = effect_rows(row)
            sizes = told("{} / {}", number(row["n_a"], its.get("n_a")), number(row["n_b"], its.get("n_b")))
            cells: list[Cell] = [
                effect_value(row),
                self.nulls.beside(row),
                small(row["q"], its.get("q")),
                sizes + (" (few)" if row.get("few") else ""),
            ]
            remark = "tells the languages' scripts apart and nothing else" if row.get("script_only") else ""
            body.append(Row(comparison_words(row), cells, remark=remark))
        return Table("Effects on the estimation half", columns, body, stacked=True)

    def _examples(self, feature: str, most: int) -> list[tuple[str, list[ExampleText]]]:
        """The strongest texts of each language of the corpus; a text that is there twice is shown once."""
        run = self._run
        if not run.has("features/examples.parquet"):
            return []
        rows = run.examples.filter(pl.col("feature") == feature).sort("activation", "row", descending=[True, False])
        found: dict[str, list[ExampleText]] = {language: [] for language in sorted(run.texts["language"].unique())}
        seen = set[str]()
        largest = float(rows["activation"].max() or 0.0)  # pyright: ignore[reportArgumentType]  (a float column)
        for row in rows.iter_rows(named=True):
            text = run.texts.row(row["row"], named=True)
            if text["text"] in seen or len(found[text["language"]]) == most:
                continue
            seen.add(text["text"])
            found[text["language"]].append(self._example(feature, row, text, largest))
        return [(language_name(language), texts) for language, texts in found.items()]

    def _example(self, feature: str, row: Mapping[str, Any], text: Mapping[str, Any], largest: float) -> ExampleText:
        its, place = TEXTS.where(f"@{row['row']}"), EXAMPLES.where(feature=feature, row=row["row"], pool=row["pool"])
        facets = [
            told("{}: {}", name, quoted(text[name], its.get(name))) for name in self._facets if text[name] is not None
        ]
        return ExampleText(
            text=quoted(text["text"], its.get("text")),
            language=text["language"],
            text_id=text["text_id"],
            activation=number(float(row["activation"]), place.get("activation")),
            share=round(float(row["activation"]) / largest, 3) if largest else 0.0,
            group=text["group"],
            facets=joined(facets, ", "),
            seen=row["pool"] == "select",
        )


def anchor_of(feature: str, kind: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{feature}".lower())


def comparison_words(row: Mapping[str, Any]) -> Prose:
    """`shift, pooled`, `concept = diwali, hi`."""
    its = effect_rows(row)
    what: Prose = row["contrast"]
    if what == "facet":
        what = told("{} = {}", row["facet"], quoted(row["value"], its.get("value")))
    home = row["side_a"] != row["side_b"] or row["side_b"] == row["dictionary"].split(".")[0]
    return told("{}{}, {}", what, "" if home else f" on {row['side_b']}", row["language"])


def _details(rows: Sequence[Mapping[str, Any]]) -> Block:
    columns = [
        Column("comparison", False),
        Column("d on the half that chose it"),
        Column("d after length"),
        Column("fires", False),
        Column("log-odds of firing"),
        Column("AUROC"),
    ]
    body: list[Row] = []
    for row in rows:
        its = effect_rows(row)
        fires = told("{} → {}", percent(row["fire_a"], its.get("fire_a")), percent(row["fire_b"], its.get("fire_b")))
        cells: list[Cell] = [
            fixed(row["d_av_select"], its.get("d_av_select")),
            effect_value(row, "d_partial", "partial"),
            fires,
            effect_value(row, "log_odds", "log_odds"),
            effect_value(row, "auroc", "auroc"),
        ]
        body.append(Row(comparison_words(row), cells))
    return Table("The same effects, told otherwise", columns, body, stacked=True)


def _by_feature(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["feature"]: row for row in frame.iter_rows(named=True)}
