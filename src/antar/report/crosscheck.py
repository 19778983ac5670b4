"""The cross-check: whether the chosen features fire on texts of a source that had no part in choosing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from antar.report.blocks import Block, Cell, Column, Folded, Paragraph, Row, Section, Table, Value
from antar.report.effects import null_name
from antar.report.sources import at, fixed, interval, number, percent, quoted, small
from antar.report.text import NOT_MEASURED
from antar.report.words import Prose, counted, listed, told
from antar.run import Run

Record = Mapping[str, Any]
FEATURES_SHOWN = 60


def crosscheck_section(run: Run) -> Section:
    title = "Cross-check"
    found = run.crosscheck
    if found is None:
        return Section(
            "crosscheck",
            title,
            [Paragraph("This study has no cross-check source (`split: crosscheck`).")],
            appendix=True,
        )
    sets = [(i, row) for i, row in enumerate(found["sets"]) if row["chosen"]]
    blocks: list[Block] = [
        Paragraph(
            "Features were chosen by the culture contrast on the selection half of the cultural corpus. Here they "
            "meet texts of a source that took no part in training, choosing or contrasting. A text's score is the "
            "mean over the chosen features of its code divided by that feature's mean code where it fires on the "
            "cultural corpus; AUROC is the chance that a cross-check text scores above a control of its own "
            "language and length (0.5 where the features tell nothing)."
        ),
        Paragraph(answer(found["sets"]), "answer"),
        *[Paragraph(_texts(row, i), "note") for i, row in enumerate(found["languages"])],
    ]
    if sets:
        blocks.append(_sets(sets))
    if any(row.get("masked") for _, row in sets):
        masked = [(i, row) for i, row in sets if row["masked"]]
        blocks += [Paragraph(_masking(found["languages"]), "note"), _masked(masked)]
    if found["features"]:
        real = [(i, row) for i, row in enumerate(found["features"]) if row["null"] == ""]
        blocks += [Folded("Every chosen feature", [_features(real)]), *_enriched(found["enriched"])]
    return Section("crosscheck", title, blocks, appendix=True)


_FILE = "features/crosscheck.json"


def answer(sets: Sequence[Record]) -> Prose:
    """One sentence: at how many sets of codes do the chosen features tell the cross-check apart, beyond chance?"""
    measured = [row for row in sets if row["null"] == "" and row["chosen"] and row["ci"] and row["auroc"] is not None]
    if not measured:
        return "No feature was chosen (or no control matched), so nothing was cross-checked."
    above = sum(row["ci"][0] > 0.5 for row in measured)
    beyond = sum(row["ci"][0] > 0.5 and _beats(row["ci"][0], row["random"]) for row in measured)
    return told(
        "At {} of {} of codes the chosen features fire more on the cross-check "
        "than on matched controls (the whole interval above 0.5); at {} the interval also lies above 97.5% of "
        "equally large random sets of live features.",
        number(above, f"{_FILE}#crosscheck_above"),
        counted(number(len(measured), f"{_FILE}#crosscheck_sets"), "set"),
        number(beyond, f"{_FILE}#crosscheck_beyond"),
    )


def _beats(low: float, null: Record) -> bool:
    return null["range"] is not None and low > null["range"][1]


def _texts(row: Record, i: int) -> Prose:
    def its(name: str) -> Any:
        return number(row[name], at(_FILE, "languages", i, name))

    return told(
        "{}: {} of {} (median {} words) against {} of {} from the estimation half (median {} words, compared within "
        "bins of length); {} more have no or too few controls of their length and are left out.",
        row["language"],
        counted(its("texts"), "text"),
        counted(its("documents"), "document"),
        its("median_words"),
        counted(its("controls"), "control"),
        counted(its("control_documents"), "document"),
        its("control_median_words"),
        its("unmatched"),
    )


def _masking(languages: Sequence[Record]) -> Prose:
    changed = [
        told(
            "{} of {} texts in {}",
            number(row["changed"], at(_FILE, "languages", i, "changed")),
            number(row["copies"], at(_FILE, "languages", i, "copies")),
            row["language"],
        )
        for i, row in enumerate(languages)
        if row["copies"]
    ]
    return told(
        "Masked copies: the artifact's name and every state's name (Rajasthani too) replaced by a neutral word. The "
        "mask changed {}; the others hold no such name, and their copies are equal to them. Names of "
        "cities, languages and peoples are not masked.",
        listed(changed),
    )


def _name(row: Record) -> str:
    side = "" if row["dictionary"].startswith(f"{row['side']}.") else f" @ {row['side']}"
    null = f" ({null_name(row['null'])})" if row["null"] else ""
    return f"{row['dictionary']}{side}{null}"


def _auroc(row: Record, *path: str | int) -> Value:
    return Value(fixed(row["auroc"], at(_FILE, *path, "auroc")), interval(row["ci"], at(_FILE, *path, "ci")))


def _sets(sets: Sequence[tuple[int, Record]]) -> Table:
    columns = [
        Column("codes", False),
        Column("language", False),
        Column("features"),
        Column("AUROC"),
        Column("random sets"),
        Column("p"),
        Column("shuffled labels"),
        Column("p"),
    ]
    rows = [
        Row(
            _name(row),
            [
                row["language"],
                number(row["chosen"], at(_FILE, "sets", i, "chosen")),
                _auroc(row, "sets", i),
                *_null(row["random"], "sets", i, "random"),
                *_null(row["shuffled"], "sets", i, "shuffled"),
            ],
            null=bool(row["null"]),
        )
        for i, row in sets
    ]
    return Table(
        "The chosen features on the cross-check, with 95% intervals by bootstrap over documents",
        columns,
        rows,
        "Random sets: as many live features, drawn anew each time; their mean and middle 95%. p: how often a null's "
        "AUROC is at least this. Shaded rows are features chosen on shams and baselines.",
    )


def _null(null: Record, *path: str | int) -> list[Cell]:
    mean, ends = fixed(null["mean"], at(_FILE, *path, "mean")), interval(null["range"], at(_FILE, *path, "range"))
    return [Value(mean, ends), small(null["p"], at(_FILE, *path, "p"))]


def _masked(sets: Sequence[tuple[int, Record]]) -> Table:
    columns = [
        Column("codes", False),
        Column("language", False),
        Column("as they are"),
        Column("masked"),
        Column("difference"),
        Column("changed texts only: as they are"),
        Column("masked"),
        Column("difference"),
    ]
    rows = [
        Row(
            _name(row),
            [
                row["language"],
                *_pair(row["masked"], "sets", i, "masked"),
                *_pair(row["masked"]["on_changed"], "sets", i, "masked", "on_changed"),
            ],
            null=bool(row["null"]),
        )
        for i, row in sets
    ]
    return Table("AUROC of the same texts, as they are and masked", columns, rows)


def _pair(pair: Record | None, *path: str | int) -> list[Cell]:
    if pair is None:
        return [NOT_MEASURED] * 3
    ends = interval(pair["difference_ci"], at(_FILE, *path, "difference_ci"))
    difference = Value(fixed(pair["difference"], at(_FILE, *path, "difference")), ends)
    return [fixed(pair["auroc_plain"], at(_FILE, *path, "auroc_plain")), _auroc(pair, *path), difference]


def _features(rows: Sequence[tuple[int, Record]]) -> Table:
    shown = sorted(rows, key=lambda one: -(one[1]["auroc"] or 0))[:FEATURES_SHOWN]
    masked = any(row["auroc_masked"] is not None for _, row in rows)
    columns = [
        Column("feature", False),
        Column("side", False),
        Column("language", False),
        Column("d_av of culture (estimation half)"),
        Column("fires on cross-check"),
        Column("on controls"),
        Column("AUROC"),
        *([Column("masked")] if masked else []),
    ]
    body: list[Row] = []
    for i, row in shown:
        here = ("features", i)
        cells: list[Cell] = [
            row["side"],
            row["language"],
            fixed(row["d_av"], at(_FILE, *here, "d_av")),
            percent(row["fire"], at(_FILE, *here, "fire")),
            percent(row["fire_controls"], at(_FILE, *here, "fire_controls")),
            _auroc(row, *here),
        ]
        if masked:
            cells.append(fixed(row["auroc_masked"], at(_FILE, *here, "auroc_masked")))
        body.append(Row(row["feature"], cells))
    note = "Only those of the highest AUROC." if len(shown) < len(rows) else ""
    return Table("Each chosen feature on the cross-check", columns, body, note)


def _enriched(enriched: Sequence[Record]) -> list[Block]:
    if not enriched:
        return [
            Paragraph(
                "No chosen feature is enriched in one value of a facet of the cross-check's own (q < 0.05), or no "
                "such facet is among contrasts.facets."
            )
        ]
    columns = [
        Column("feature", False),
        Column("side", False),
        Column("value", False),
        Column("texts"),
        Column("other texts"),
        Column("d_av"),
        Column("q"),
        Column("", False),
    ]
    rows: list[Row] = []
    for i, row in enumerate(enriched):
        here = ("enriched", i)
        ends = interval([row["d_lo"], row["d_hi"]], (at(_FILE, *here, "d_lo"), at(_FILE, *here, "d_hi")))
        cells: list[Cell] = [
            row["side"],
            told("{}: {}", row["facet"], quoted(row["value"], at(_FILE, *here, "value"))),
            number(row["n_b"], at(_FILE, *here, "n_b")),
            number(row["n_a"], at(_FILE, *here, "n_a")),
            Value(fixed(row["d_av"], at(_FILE, *here, "d_av")), ends),
            small(row["q"], at(_FILE, *here, "q")),
            "few texts" if row["few"] else "",
        ]
        rows.append(Row(row["feature"], cells))
    return [
        Table(
            "Where chosen features are enriched",
            columns,
            rows,
            "The facet contrast among the cross-check's own texts, estimation half, q < 0.05. “Few texts” marks a "
            "comparison with a side under contrasts.warn_under texts: its d_av is uncertain and large by chance.",
        )
    ]
