"""CSV for spreadsheets: one person's sheet to fill in, and the whole table for analysis.

What a spreadsheet needs is in `core/sheets.py`. An import is checked whole before a row is kept.

One person's sheet is as blind as the pages are: the label of an item is in it only when the blind answers of that
item have been read in. So who works in a spreadsheet fills in `pattern` and `what`, imports, exports anew, and then
fills in `verdict`, `kind` and, under REVISE, `better_label`.
"""

from __future__ import annotations

import csv
import io
import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from antar.core.atomic import write_bytes
from antar.core.errors import UserError
from antar.core.sheets import csv_bytes, unescape_cell
from antar.people.fields import State, annotator_name, check_value
from antar.people.queue import items_for
from antar.people.schema import connect
from antar.people.store import Write, check_names, keep, known_annotator, state_in, states_in

COLUMNS = {
    "pattern": "pattern", "what": "what", "verdict": "verdict", "kind": "kind", "better_label": "label"
}  # fmt: skip
"""Column of a sheet → field. `label` in a sheet is the proposed one."""


def export_sheet(path: Path, annotator: str, target: Path) -> int:
    """Write one person's sheet to `target`: a row an item, in that person's order, with the answers so far."""
    who = known_annotator(path, annotator)
    items = items_for(path, who)
    n_texts = max((len(item.texts) for item in items), default=0)
    header = ["item", "annotator", *(f"text_{i + 1}" for i in range(n_texts)), "pattern", "what", "label",
              "verdict", "kind", "better_label"]  # fmt: skip
    rows = [
        [item.item, who, *(text.text for text in item.texts), *[""] * (n_texts - len(item.texts)),
         item.state.pattern, item.state.what, item.label or "", item.state.verdict, item.state.kind, item.state.label]
        for item in items
    ]  # fmt: skip
    write_bytes(target, csv_bytes(header, rows))
    return len(rows)


def import_sheet(path: Path, source: Path) -> int:
    """Read one person's sheet back; returns how many items of it are answered whole.

    What is filled in is written as if it had been typed: blind answers close when both are there, and an item is
    submitted when all is. What stands already is not written again, so the same file twice is once.

    Raises UserError, and stores nothing, for a file that is not UTF-8 CSV with the columns of a sheet, an unknown or
    repeated item, an answer outside the choices or before its time, or not exactly one annotator.
    """
    rows = _read_rows(source)
    if not rows:
        raise UserError(f"{source}: expected answers, found no rows; export the sheet and fill it in")
    done, who, seen = 0, "", dict[str, int]()
    with connect(path, write=True) as database:
        for line, row in rows:
            where = f"{source}, line {line}"
            if not plain(row.get("annotator")):
                raise UserError(f"{where}: expected the annotator's name, found nothing; fill the column annotator")
            name, item = annotator_name(plain(row["annotator"])), plain(row.get("item"))
            if who and name != who:
                raise UserError(f"{where}: expected the one annotator {who!r}, found {name!r}; import file by file")
            if item in seen:
                raise UserError(f"{where}: expected each item once, found {item} as in line {seen[item]}; keep one")
            who, seen[item] = name, line
            try:
                given = {field: plain(row.get(name)) for name, field in COLUMNS.items()}
                done += _fill(database, who, item, given, plain(row.get("label")))
            except UserError as error:
                raise UserError(f"{where}: {error}") from error
    return done


def _fill(database: sqlite3.Connection, who: str, item: str, given: Mapping[str, str], shown: str) -> bool:
    """Write what differs from what stands; True when the item is then submitted. An empty cell takes nothing back.

    shown: the label that the sheet had, empty in one that was exported before the blind answers were read in
    """
    check_names(database, who, item)

    def put(field: str, value: str) -> State:
        keep(database, Write(f"csv-{secrets.token_hex(12)}", who, item, field, value))
        return state_in(database, who, item)

    state = state_in(database, who, item)
    changed = {field: value for field, value in _folded(given).items() if value and value != getattr(state, field)}
    for field, value in changed.items():
        check_value(field, value, field)
    early = [field for field in ("verdict", "label", "kind") if field in changed]
    if early and not state.revealed and shown != _label_of(database, item):
        column = next(name for name, field in COLUMNS.items() if field == early[0])
        raise UserError(
            f"{column}: expected an answer to the label that the sheet shows, found one while it shows none; import "
            "pattern and what first, then export the sheet again"
        )
    if changed and state.submitted:
        state = put("submitted", "")
    for field in ("pattern", "what"):
        if field in changed:
            state = put(field, changed[field])
    if not state.revealed and state.missing_blind() is None:
        state = put("revealed", "yes")
    for field in ("verdict", "label", "kind"):
        if field in changed:
            state = put(field, changed[field])
    if not state.submitted and state.missing() is None:
        state = put("submitted", "yes")
    return bool(state.submitted)


def _label_of(database: sqlite3.Connection, item: str) -> str:
    ((label,),) = database.execute("SELECT label FROM items WHERE item = ?", (item,)).fetchall()
    return str(label).strip()


def _folded(given: Mapping[str, str]) -> dict[str, str]:
    """Spreadsheets and people change the case of what they choose."""
    case = {"verdict": str.upper, "kind": str.lower}
    return {field: case.get(field, str)(value) for field, value in given.items()}


def export_table(path: Path, target: Path) -> int:
    """Everything for analysis, blind to nothing: a row for each person and item begun, and for each ruling."""
    keys = (
        "role",
        "repeats",
        "feature",
        "label_of",
        "site",
        "language",
        "category",
        "verdict",
        "validator",
        "effect",
    )
    header = ["item", "annotator", "pattern", "what", "verdict", "kind", "better_label", "submitted", "seconds",
              "note", "label", *(f"llm_{key}" if key == "verdict" else key for key in keys)]  # fmt: skip
    with connect(path) as database:
        known = {
            item: rest
            for item, *rest in database.execute(
                f"SELECT item, label, {', '.join(keys)} FROM items JOIN keys USING (item)"
            )
        }
        names = [name for (name,) in database.execute("SELECT name FROM annotators ORDER BY name").fetchall()]
        rows = [
            [item, who, s.pattern, s.what, s.verdict, s.kind, s.label, s.submitted, f"{s.seconds:.1f}", "",
             *known[item]]
            for who in names
            for item, s in states_in(database, who).items()
        ]  # fmt: skip
        rulings = database.execute(
            "SELECT item, adjudicator, verdict, kind, label, note FROM consensus ORDER BY item"
        ).fetchall()
    rows += [
        [item, f"consensus ({who})", "", "", verdict, kind, label, "yes", "", note, *known[item]]
        for item, who, verdict, kind, label, note in rulings
    ]
    write_bytes(target, csv_bytes(header, rows))
    return len(rows)


def plain(cell: str | None) -> str:
    """What was written into a cell, less white space at its ends."""
    return unescape_cell(cell or "").strip()


def _read_rows(source: Path) -> list[tuple[int, dict[str, str | None]]]:
    if not source.is_file():
        raise UserError(f"{source}: expected a CSV of answers, found no file; export a sheet first")
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: expected UTF-8, found other bytes; save it as 'CSV UTF-8'") from error
    first = text.split("\n", 1)[0]
    # Spreadsheets write the list separator of the country.
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    missing = [column for column in ("item", "annotator", *COLUMNS) if column not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{source}: expected the column {missing[0]}, found none; keep the header of the export")
    try:
        return [(reader.line_num, dict(row)) for row in reader]
    except csv.Error as error:
        raise UserError(f"{source}, line {reader.line_num}: expected CSV, found {error}; export it again") from error
