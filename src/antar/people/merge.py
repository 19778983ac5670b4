"""Two copies of a sheet made one, and the log as JSON lines.

The log is append-only and each line of it has an id of its own, so a merge is the union of two logs: nothing is lost,
and the order of merging does not matter. The rule for conflicts is the one that holds inside a sheet: of two answers
of one person to one field, the later stands (by the clocks of the machines); but a blind answer that came after its
label was seen, on either machine, never does. The earlier answer stays in the log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antar.core.atomic import write_text
from antar.core.errors import UserError
from antar.people.fields import KINDS, MOST_CHARACTERS, VERDICTS, annotator_name, check_value
from antar.people.schema import SHEET, connect
from antar.people.store import check_id

WRITE_COLUMNS: tuple[str, ...] = ("write", "annotator", "item", "field", "value", "at", "undoes")
RULING_COLUMNS: tuple[str, ...] = ("ruling", "item", "adjudicator", "verdict", "kind", "label", "note", "at")
_TABLES = {"write": ("writes", WRITE_COLUMNS), "ruling": ("rulings", RULING_COLUMNS)}


@dataclass(frozen=True)
class Merged:
    """new: log lines that were not here; known: that were; conflicts: fields of one person with another answer on
    either side, of which the later now stands; people: who was not on this sheet before."""

    new: int
    known: int
    conflicts: int
    people: tuple[str, ...]


@dataclass(frozen=True)
class _Log:
    """Rows of both tables in the order of their columns, and who may have written them."""

    sheet: str
    people: tuple[str, ...]
    writes: tuple[tuple[Any, ...], ...]
    rulings: tuple[tuple[Any, ...], ...]


def export_log(path: Path, target: Path, annotator: str | None = None) -> int:
    """Write the log to `target` as JSON lines: a header, then the writes and rulings, or one person's writes."""
    log = _read_sheet(path)
    people = log.people if annotator is None else tuple(name for name in log.people if name == annotator)
    if annotator is not None and not people:
        raise UserError(f"annotator: expected one of {', '.join(log.people)}, found {annotator!r}")
    lines: list[dict[str, Any]] = [{"antar": "annotations", "sheet": log.sheet, "people": people}]
    lines += [dict(zip(WRITE_COLUMNS, row, strict=True)) for row in log.writes if row[1] in people]
    if annotator is None:
        lines += [dict(zip(RULING_COLUMNS, row, strict=True)) for row in log.rulings]
    write_text(target, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines) - 1


def merge(path: Path, other: Path) -> Merged:
    """Put the log of `other` (a run folder, a sheet, or JSON lines of one) into the sheet at `path`. All or none.

    Raises UserError for a sheet with other items, a damaged file, or one id with two contents.
    """
    log = _read_other(other)
    with connect(path, write=True) as database:
        sheet = _fact(database, "sheet")
        if log.sheet != sheet:
            raise UserError(
                f"{other}: expected answers to this sheet ({sheet[:8]}), found another sheet's ({log.sheet[:8]}); "
                "two machines share a sheet when one copies it, or both draw it from the same run and study"
            )
        before = _standing(database)
        known_people = {name for (name,) in database.execute("SELECT name FROM annotators").fetchall()}
        people = tuple(name for name in log.people if name not in known_people)
        database.executemany("INSERT INTO annotators VALUES (?)", [(name,) for name in people])
        new = _union(database, "write", log.writes, other)
        new_rulings = _union(database, "ruling", log.rulings, other)
    theirs, touched = _newest(log.writes), {(who, item, field) for _, who, item, field, *_ in new}
    conflicts = sum(before[place] != theirs[place] for place in touched & before.keys() & theirs.keys())
    n_new = len(new) + len(new_rulings)
    return Merged(n_new, len(log.writes) + len(log.rulings) - n_new, conflicts, people)


def _union(
    database: sqlite3.Connection, kind: str, rows: Sequence[tuple[Any, ...]], source: Path
) -> list[tuple[Any, ...]]:
    """Insert the rows that are not here; returns them."""
    table, columns = _TABLES[kind]
    new: list[tuple[Any, ...]] = []
    for row in rows:
        here = database.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {kind} = ?", (row[0],)).fetchone()
        if here is None:
            _check(database, kind, row, source)
            database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", row)
            new.append(row)
        elif here != row:
            raise UserError(f"{source}: expected {kind} {row[0]} as it is here, found other content; was it edited?")
    return new


def _check(database: sqlite3.Connection, kind: str, row: tuple[Any, ...], source: Path) -> None:
    where = f"{source}: {kind} {row[0]}"
    values: dict[str, Any] = dict(zip(_TABLES[kind][1], row, strict=True))
    check_id(values[kind])
    if not database.execute("SELECT 1 FROM items WHERE item = ?", (values["item"],)).fetchone():
        raise UserError(f"{where}: expected an item of this sheet, found {values['item']!r}; mend the file")
    if values["at"] < 0:
        raise UserError(f"{where}: expected a time after 1970, found {values['at']}; mend the file")
    if kind == "write":
        check_value(values["field"], values["value"], where)
        if not database.execute("SELECT 1 FROM annotators WHERE name = ?", (values["annotator"],)).fetchone():
            raise UserError(f"{where}: expected a person of its header, found {values['annotator']!r}; mend the file")
    elif (
        values["verdict"] not in VERDICTS
        or values["kind"] not in KINDS
        or max(len(values["label"]), len(values["note"])) > MOST_CHARACTERS
    ):
        raise UserError(f"{where}: expected a verdict, a kind and short texts, found something else; mend the file")
    else:
        annotator_name(values["adjudicator"])


def _standing(database: sqlite3.Connection) -> dict[tuple[str, str, str], str]:
    rows = database.execute("SELECT annotator, item, field, value FROM answers").fetchall()
    return {(who, item, field): value for who, item, field, value in rows}


def _newest(writes: Sequence[tuple[Any, ...]]) -> dict[tuple[str, str, str], str]:
    """What stands in a log on its own, the rule for blind answers apart."""
    found: dict[tuple[str, str, str], str] = {}
    for _, who, item, field, value, _, _ in sorted(writes, key=lambda row: (row[5], row[0])):
        if field != "seconds":
            found[who, item, field] = value
    return {place: value for place, value in found.items() if value}


def _read_other(other: Path) -> _Log:
    if other.is_dir():
        nested = other / "people" / SHEET
        return _read_sheet(nested if nested.is_file() else other / SHEET)
    if other.suffix == ".jsonl":
        return _read_lines(other)
    return _read_sheet(other)


def _read_sheet(path: Path) -> _Log:
    with connect(path) as database:
        return _Log(
            _fact(database, "sheet"),
            tuple(name for (name,) in database.execute("SELECT name FROM annotators ORDER BY name").fetchall()),
            tuple(database.execute(f"SELECT {', '.join(WRITE_COLUMNS)} FROM writes ORDER BY at, write").fetchall()),
            tuple(
                database.execute(f"SELECT {', '.join(RULING_COLUMNS)} FROM rulings ORDER BY at, ruling").fetchall()
            ),
        )


def _read_lines(path: Path) -> _Log:
    if not path.is_file():
        raise UserError(f"{path}: expected JSON lines of answers, found no file; `antar annotate export` writes them")
    try:
        *lines, torn = path.read_bytes().decode("utf-8").split("\n")
        records = [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{path}: expected JSON lines, found {' '.join(str(error).split())}; export again") from error
    if torn or not records or not isinstance(records[0], dict) or records[0].get("antar") != "annotations":
        raise UserError(f"{path}: expected the header and whole lines of an export, found neither; export again")
    header, rows = records[0], {"write": list[tuple[Any, ...]](), "ruling": list[tuple[Any, ...]]()}
    for number, record in enumerate(records[1:], start=2):
        kind = "ruling" if isinstance(record, dict) and "ruling" in record else "write"
        rows[kind].append(_row(record, kind, f"{path}, line {number}"))
    people = header.get("people")
    if not isinstance(people, list) or not isinstance(header.get("sheet"), str):
        raise UserError(f"{path}, line 1: expected the sheet and its people, found neither; export again")
    return _Log(header["sheet"], tuple(annotator_name(str(n)) for n in people), tuple(rows["write"]),
                tuple(rows["ruling"]))  # fmt: skip


def _row(record: Any, kind: str, where: str) -> tuple[Any, ...]:
    columns = _TABLES[kind][1]
    if not isinstance(record, dict) or set(record) != set(columns):
        raise UserError(f"{where}: expected {', '.join(columns)}, found other columns; export again")
    for name, value in record.items():
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{where}: expected whole characters for {name}, found half of one; mend it")
        wanted = isinstance(value, int) and not isinstance(value, bool) if name == "at" else isinstance(value, str)
        if not wanted and not (name == "undoes" and value is None):
            raise UserError(f"{where}: expected {'a number' if name == 'at' else 'text'} for {name}, found {value!r}")
    return tuple(record[name] for name in columns)


def _fact(database: sqlite3.Connection, name: str) -> str:
    row = database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise UserError("annotations: expected a drawn sheet, found an empty one; `antar annotate init RUN` draws it")
    return json.loads(row[0])
