"""The cross-check: whether the chosen features fire on texts of a source that had no part in choosing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from antar.report.blocks import Block, Cell, Column, Folded, Paragraph, Row, Section, Table, Value
from antar.report.effects import null_name
from antar.report.text import fixed, interval, listing, number, percent, plural, small
from antar.run import Run

Record = Mapping[str, Any]
FEATURES_SHOWN = 60


def crosscheck_section(run: Run) -> Section:
    title = "Cross-check"
    found = run.crosscheck
    if found is None:
        return Section(
            "crosscheck", title, [Paragraph("This study has no cross-check source (`split: crosscheck`).")]
        )
    sets: list[Record] = [row for row in found["sets"] if row["chosen"]]
    blocks: list[Block] = [
        Paragraph(
            "Features were chosen by the culture contrast on the selection half of the cultural corpus. Here they "
            "meet texts of a source that took no part in training, choosing or contrasting. A text's score is the "
            "mean over the chosen features of its code divided by that feature's mean code where it fires on the "
            "cultural corpus; AUROC is the chance that a cross-check text scores above a control of its own "
            "language and length (0.5 where the features tell nothing)."
        ),
        Paragraph(answer(found["sets"]), "answer"),
        *[Paragraph(_texts(row), "note") for row in found["languages"]],
    ]
    if sets:
        blocks.append(_sets(sets))
    if any(row.get("masked") for row in sets):
        blocks += [Paragraph(_masking(found["languages"]), "note"), _masked([row for row in sets if row["masked"]])]
    if found["features"]:
        real = [row for row in found["features"] if row["null"] == ""]
        blocks += [Folded("Every chosen feature", [_features(real)]), *_enriched(found["enriched"], real)]
    return Section("crosscheck", title, blocks)


def answer(sets: Sequence[Record]) -> str:
    """One sentence: at how many sets of codes do the chosen features tell the cross-check apart, beyond chance?"""
    measured = [row for row in sets if row["null"] == "" and row["chosen"] and row["ci"] and row["auroc"] is not None]
    if not measured:
        return "No feature was chosen (or no control matched), so nothing was cross-checked."
    above = sum(row["ci"][0] > 0.5 for row in measured)
    beyond = sum(row["ci"][0] > 0.5 and _beats(row["ci"][0], row["random"]) for row in measured)
    return (
        f"At {above} of {plural(len(measured), 'set')} of codes the chosen features fire more on the cross-check "
        f"than on matched controls (the whole interval above 0.5); at {beyond} the interval also lies above 97.5% of "
        "equally large random sets of live features."
    )


def _beats(low: float, null: Record) -> bool:
    return null["range"] is not None and low > null["range"][1]


def _texts(row: Record) -> str:
    return (
        f"{row['language']}: {plural(row['texts'], 'text')} of {plural(row['documents'], 'document')} (median "
        f"{number(row['median_words'])} words) against {plural(row['controls'], 'control')} of "
        f"{plural(row['control_documents'], 'document')} from the estimation half (median "
        f"{number(row['control_median_words'])} words, compared within bins of length); "
        f"{row['unmatched']:,} more have no or too few controls of their length and are left out."
    )


def _masking(languages: Sequence[Record]) -> str:
    told = [
        f"{row['changed']:,} of {row['copies']:,} texts in {row['language']}" for row in languages if row["copies"]
    ]
    return (
        "Masked copies: the artifact's name and every state's name (Rajasthani too) replaced by a neutral word. The "
        f"mask changed {listing(told)}; the others hold no such name, and their copies are equal to them. Names of "
        "cities, languages and peoples are not masked."
    )


def _name(row: Record) -> str:
    side = "" if row["dictionary"].startswith(f"{row['side']}.") else f" @ {row['side']}"
    null = f" ({null_name(row['null'])})" if row["null"] else ""
    return f"{row['dictionary']}{side}{null}"


def _auroc(row: Record) -> Value:
    return Value(fixed(row["auroc"]), interval(row["ci"]))


def _sets(sets: Sequence[Record]) -> Table:
    columns = [Column("codes", False), Column("language", False), Column("features"), Column("AUROC"),
               Column("random sets"), Column("p"), Column("shuffled labels"), Column("p")]  # fmt: skip
    rows = [
        Row(
            _name(row),
            [row["language"], number(row["chosen"]), _auroc(row), *_null(row["random"]), *_null(row["shuffled"])],
            null=bool(row["null"]),
        )
        for row in sets
    ]
    return Table(
        "The chosen features on the cross-check, with 95% intervals by bootstrap over documents", columns, rows,
        "Random sets: as many live features, drawn anew each time; their mean and middle 95%. p: how often a null's "
        "AUROC is at least this. Shaded rows are features chosen on shams and baselines.",
    )  # fmt: skip


def _null(null: Record) -> list[Cell]:
    return [Value(fixed(null["mean"]), interval(null["range"])), small(null["p"])]


def _masked(sets: Sequence[Record]) -> Table:
    columns = [Column("codes", False), Column("language", False), Column("as they are"), Column("masked"),
               Column("difference"), Column("changed texts only: as they are"), Column("masked"),
               Column("difference")]  # fmt: skip
    rows = [
        Row(
            _name(row),
            [row["language"], *_pair(row["masked"]), *_pair(row["masked"]["on_changed"])],
            null=bool(row["null"]),
        )
        for row in sets
    ]
    return Table("AUROC of the same texts, as they are and masked", columns, rows)


def _pair(pair: Record | None) -> list[Cell]:
    if pair is None:
        return [number(None)] * 3
    difference = Value(fixed(pair["difference"]), interval(pair["difference_ci"]))
    return [fixed(pair["auroc_plain"]), Value(fixed(pair["auroc"]), interval(pair["ci"])), difference]


def _features(rows: Sequence[Record]) -> Table:
    shown = sorted(rows, key=lambda row: -(row["auroc"] or 0))[:FEATURES_SHOWN]
    masked = any(row["auroc_masked"] is not None for row in rows)
    columns = [Column("feature", False), Column("side", False), Column("language", False),
               Column("d_av of culture (estimation half)"), Column("fires on cross-check"), Column("on controls"),
               Column("AUROC"), *([Column("masked")] if masked else [])]  # fmt: skip
    body = [
        Row(
            row["feature"],
            [row["side"], row["language"], fixed(row["d_av"]), percent(row["fire"]), percent(row["fire_controls"]),
             _auroc(row), *([fixed(row["auroc_masked"])] if masked else [])],
        )
        for row in shown
    ]  # fmt: skip
    note = f"The {len(shown):,} highest of {len(rows):,}." if len(shown) < len(rows) else ""
    return Table("Each chosen feature on the cross-check", columns, body, note)


def _enriched(enriched: Sequence[Record], features: Sequence[Record]) -> list[Block]:
    told, asked = ({(row["feature"], row["side"]) for row in rows} for rows in (enriched, features))
    if not told:
        return [
            Paragraph(
                "No chosen feature is enriched in one value of a facet of the cross-check's own (q < 0.05), or no "
                "such facet is among contrasts.facets."
            )
        ]
    columns = [Column("feature", False), Column("side", False), Column("value", False), Column("texts"),
               Column("other texts"), Column("d_av"), Column("q"), Column("", False)]  # fmt: skip
    rows = [
        Row(
            row["feature"],
            [row["side"], f"{row['facet']}: {row['value']}", number(row["n_b"]), number(row["n_a"]),
             Value(fixed(row["d_av"]), interval([row["d_lo"], row["d_hi"]])), small(row["q"]),
             "few texts" if row["few"] else ""],
        )
        for row in enriched
    ]  # fmt: skip
    return [
        Table(
            f"Where chosen features are enriched ({len(told):,} of {len(asked):,})",
            columns, rows,
            "The facet contrast among the cross-check's own texts, estimation half, q < 0.05. “Few texts” marks a "
            "comparison with a side under contrasts.warn_under texts: its d_av is uncertain and large by chance.",
        )
    ]  # fmt: skip
