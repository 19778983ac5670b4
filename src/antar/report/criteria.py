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
from antar.report.sources import at, interval, number, pointer, quoted, setting
from antar.report.text import NOT_MEASURED
from antar.report.words import Prose, joined, told
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
    details = [_detail(criterion, i) for i, criterion in enumerate(criteria)]
    return Section("criteria", "The seven criteria", [criteria_table(criteria), *details])


def criteria_table(criteria: Sequence[Mapping[str, Any]]) -> Table:
    """The criteria as `criteria.json` has them, a row each."""
    return Table(
        "Each criterion beside its null: what the same number is where there is nothing to find. Intervals are 95%.",
        _COLUMNS,
        [_row(criterion, i) for i, criterion in enumerate(criteria)],
        stacked=True,
    )


def _row(criterion: Mapping[str, Any], i: int) -> Row:
    null, here = criterion.get("null"), ("criteria.json", "criteria", i)
    # What the study chose is written as chosen; a sham's upper end, which sets criterion 4's, is rounded.
    limit, limit_at = criterion["threshold"], at(*here, "threshold")
    threshold = setting(limit, limit_at) if len(f"{limit:g}") <= 4 else number(limit, limit_at)
    sign = _COMPARISONS.get(criterion["comparison"], criterion["comparison"])
    beside = Value(NOT_MEASURED, "no null in this run")
    if null:
        name = quoted(null["name"], at(*here, "null", "name"))
        ends = interval(null.get("ci"), at(*here, "null", "ci"))
        beside = Value(number(null["value"], at(*here, "null", "value")), joined([ends, name]))
    value = number(criterion["value"], at(*here, "value"))
    return Row(
        _name(criterion, i),
        [
            Value(value, interval(criterion.get("ci"), at(*here, "ci"))),
            beside,
            f"{sign} " + threshold if criterion["verdict"] != "not measured" or limit else NOT_MEASURED,
            verdict_badge(criterion["verdict"]),
        ],
        remark=quoted(criterion["sentence"], at(*here, "sentence")),
    )


def _detail(criterion: Mapping[str, Any], i: int) -> Folded:
    here = ("criteria.json", "criteria", i)
    blocks: list[Block] = [Paragraph(quoted(criterion["question"], at(*here, "question")))]
    names = f"criteria.json#keys:{pointer('criteria', i, 'beside')}"
    facts: list[tuple[Prose, Prose]] = [
        (quoted(name, names), _beside(value, at(*here, "beside", name)))
        for name, value in (criterion.get("beside") or {}).items()
    ]
    if criterion.get("published"):
        facts.insert(0, ("as published", quoted(criterion["published"], at(*here, "published"))))
    if facts:
        blocks.append(Facts(facts))
    rows = criterion.get("per_dictionary") or []
    if rows:
        source = at(*here, "per_dictionary")
        blocks.append(records_table(f"{criterion['name'].capitalize()} by dictionary", rows, source))
    return Folded(_name(criterion, i) + ": what stands beside it", blocks)


def _name(criterion: Mapping[str, Any], i: int) -> Prose:
    here = ("criteria.json", "criteria", i)
    return told(
        "{}. {}", number(criterion["number"], at(*here, "number")), quoted(criterion["name"], at(*here, "name"))
    )


def _beside(value: Any, source: str) -> Prose:
    return quoted(value, source) if isinstance(value, str) else number(value, source)


def records_table(caption: str, records: Sequence[Mapping[str, Any]], source: str) -> Table:
    """A table of JSON records at `source`: the first key is the row's head; columns that are empty all over go."""
    names = list(dict.fromkeys(name for record in records for name in record))
    first = names[0]
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
                str(record.get(first)),
                [
                    ""
                    if words[name] and record.get(name) is None
                    else _cell(record.get(name), counts[name], f"{source}{pointer(i, name)}")
                    for name in kept
                ],
            )
            for i, record in enumerate(records)
        ],
    )


def _is_cell(records: Sequence[Mapping[str, Any]], name: str) -> bool:
    return not any(isinstance(record.get(name), Mapping | list) for record in records)


def _is_count(values: Sequence[Any]) -> bool:
    """Whole numbers that are not shares: JSON writes 32 latents as 32.0."""
    found = [value for value in values if isinstance(value, int | float)]
    return all(float(value).is_integer() for value in found) and any(abs(value) > 1 for value in found)


def _cell(value: Any, count: bool, source: str) -> Prose:
    if isinstance(value, str):
        return quoted(value, source)
    return number(int(value) if count and isinstance(value, float) else value, source)


def _title(name: str) -> str:
    short = {"fvu": "FVU", "mse": "MSE", "pca": "PCA", "l0": "L0", "ci": "CI"}
    return " ".join(short.get(part, part) for part in name.split("_"))
