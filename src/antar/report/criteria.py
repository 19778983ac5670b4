"""The seven criteria beside their nulls, and the check against a planted truth where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from antar.report.blocks import (
    Block,
    Column,
    Facts,
    Folded,
    Paragraph,
    Row,
    Section,
    Table,
    Value,
    verdict_badge,
)
from antar.report.text import NOT_MEASURED, interval, number, setting, shown
from antar.run import Run

_COMPARISONS = {">=": "≥", "<=": "≤"}
_COLUMNS = (
    Column("criterion", False),
    Column("value"),
    Column("its null"),
    Column("threshold"),
    Column("verdict", False),
)


def criteria_section(run: Run) -> Section:
    if not run.has("criteria.json"):
        return Section(
            "criteria", "The seven criteria", [Paragraph("The criteria have not been measured in this run.")]
        )
    criteria = run.criteria["criteria"]
    details = [_detail(criterion) for criterion in criteria]
    return Section("criteria", "The seven criteria", [criteria_table(criteria), *details])


def criteria_table(criteria: Sequence[Mapping[str, Any]]) -> Table:
    """The criteria as `criteria.json` has them, a row each."""
    return Table(
        "Each criterion beside its null: what the same number is where there is nothing to find. Intervals are 95%.",
        _COLUMNS,
        [_row(criterion) for criterion in criteria],
        stacked=True,
    )


def _row(criterion: Mapping[str, Any]) -> Row:
    null = criterion.get("null")
    # What the study chose is written as chosen; a sham's upper end, which sets criterion 4's, is rounded.
    limit = criterion["threshold"]
    threshold = setting(limit) if len(f"{limit:g}") <= 4 else number(limit)
    sign = _COMPARISONS.get(criterion["comparison"], criterion["comparison"])
    return Row(
        f"{criterion['number']}. {criterion['name']}",
        [
            Value(number(criterion["value"]), interval(criterion.get("ci"))),
            Value(number(null["value"]), " ".join(filter(None, [interval(null.get("ci")), null["name"]])))
            if null
            else Value(NOT_MEASURED, "no null in this run"),
            f"{sign} {threshold}",
            verdict_badge(criterion["verdict"]),
        ],
        remark=criterion["sentence"],
    )


def _detail(criterion: Mapping[str, Any]) -> Folded:
    blocks: list[Block] = [Paragraph(criterion["question"])]
    facts = [(name, number(value)) for name, value in (criterion.get("beside") or {}).items()]
    if criterion.get("published"):
        facts.insert(0, ("as published", criterion["published"]))
    if facts:
        blocks.append(Facts(facts))
    rows = criterion.get("per_dictionary") or []
    if rows:
        blocks.append(records_table(f"{criterion['name'].capitalize()} by dictionary", rows))
    return Folded(f"{criterion['number']}. {criterion['name']}: what stands beside it", blocks)


def records_table(caption: str, records: Sequence[Mapping[str, Any]], head: str | None = None) -> Table:
    """A table of JSON records: the first key (or `head`) is the row's head; columns that are empty all over go."""
    names = list(dict.fromkeys(name for record in records for name in record))
    first = head or names[0]
    kept = [
        name
        for name in names
        if name != first and any(record.get(name) is not None for record in records) and _is_cell(records, name)
    ]
    words = {name: any(isinstance(record.get(name), str) for record in records) for name in kept}
    counts = {name: _is_count([record.get(name) for record in records]) for name in kept}
    return Table(
        caption,
        [Column(_title(first), False), *(Column(_title(name), not words[name]) for name in kept)],
        [
            Row(
                shown(record.get(first)),
                [
                    "" if words[name] and record.get(name) is None else _cell(record.get(name), counts[name])
                    for name in kept
                ],
            )
            for record in records
        ],
    )


def _is_cell(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    return not any(isinstance(record.get(name), Mapping | list) for record in records)


def _is_count(values: Sequence[Any]) -> bool:
    """Whole numbers that are not shares: JSON writes 32 latents as 32.0."""
    found = [value for value in values if isinstance(value, int | float)]
    return all(float(value).is_integer() for value in found) and any(abs(value) > 1 for value in found)


def _cell(value: Any, count: bool) -> str:
    return number(int(value)) if count and isinstance(value, float) else number(value)


def _title(name: str) -> str:
    short = {"fvu": "FVU", "mse": "MSE", "pca": "PCA", "l0": "L0", "ci": "CI"}
    return " ".join(short.get(part, part) for part in name.split("_"))
