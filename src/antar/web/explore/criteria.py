"""The seven criteria, each beside its null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from antar.web.explore.figures import criterion_strip
from antar.web.explore.index import Opened
from antar.web.shell import Shell

TONES = {"pass": "good", "fail": "bad", "passes by construction": "mild"}
SIGNS = {">=": "≥", "<=": "≤"}


def page(shell: Shell, request: Request, opened: Opened) -> Response:
    if not opened.run.has("criteria.json"):
        return shell.told(
            request, "No criteria", "The criteria have not been measured: `antar measure STUDY` does.", 404
        )
    report = opened.run.criteria
    shown = [(one, _strip(one), *_records(one.get("per_dictionary") or [])) for one in report["criteria"]]
    return shell.page(
        request, "criteria.html.j2", headline=report.get("headline") or [], criteria=shown, tones=TONES, signs=SIGNS
    )


def _strip(one: Mapping[str, Any]) -> Any:
    null = one.get("null") or {}
    return criterion_strip(
        one.get("value"), one.get("ci"), null.get("value"), null.get("ci"), one.get("threshold"), one["name"]
    )


def _records(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], Sequence[Mapping[str, Any]]]:
    """(columns that say something in some row, the rows)."""
    names = list(dict.fromkeys(name for record in records for name in record))
    plain = [name for name in names if any(_is_cell(record.get(name)) for record in records)]
    return [name for name in plain if all(_is_cell(r.get(name)) or r.get(name) is None for r in records)], records


def _is_cell(value: object) -> bool:
    return isinstance(value, str | int | float)
