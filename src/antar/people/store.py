"""Answers in and out of the sheet, one by one: each write is a transaction of its own, and twice is once.

A write carries an id that its maker chose. Sent again, after a broken connection or a crash, it changes nothing.
Times are this machine's, and each is later than all before it in the file, so the order of writes is never in doubt.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from antar.core.errors import UserError
from antar.people.fields import UNDOABLE, Refused, State, annotator_name, check_allowed, check_value
from antar.people.schema import connect


@dataclass(frozen=True)
class Write:
    """One answer of one person to one field of an item. `write` is its id: 8 to 64 characters, made once."""

    write: str
    annotator: str
    item: str
    field: str
    value: str


def record(path: Path, write: Write) -> State:
    """Keep `write`, and return what then stands of its item.

    Raises UserError for an unknown item or annotator or a value that the field cannot have, and Refused (a UserError)
    when the state of the item does not allow it.
    """
    with connect(path, write=True) as database:
        keep(database, write)
        return state_in(database, write.annotator, write.item)


def record_all(path: Path, writes: Iterable[Write]) -> int:
    """Keep `writes` in their order, all or none; returns how many there were."""
    count = 0
    with connect(path, write=True) as database:
        for write in writes:
            keep(database, write)
            count += 1
    return count


def keep(database: sqlite3.Connection, write: Write) -> None:
    """`record` inside a transaction that is open."""
    check_id(write.write)
    check_value(write.field, write.value, write.field)
    check_names(database, write.annotator, write.item)
    if _is_kept(database, write):
        return
    check_allowed(state_in(database, write.annotator, write.item), write.field, write.value)
    _append(database, write, undoes=None)


def undo(path: Path, write: str, annotator: str) -> str | None:
    """Take back this person's last key; `write` is the undo's own id. Returns the item, None when nothing is left.

    Raises Refused when the last key is a blind answer to an item whose label has been seen.
    """
    check_id(write)
    with connect(path, write=True) as database:
        before = database.execute("SELECT item FROM writes WHERE write = ?", (write,)).fetchone()
        if before:
            return before[0]
        last = _last_key(database, annotator)
        if last is None:
            return None
        undone, item, field, former = last
        if field == "pattern" and state_in(database, annotator, item).revealed:
            raise Refused("nothing to undo here: the label has been seen, so the answers before it are closed")
        _append(database, Write(write, annotator, item, field, former), undoes=undone)
        return item


def _last_key(database: sqlite3.Connection, annotator: str) -> tuple[str, str, str, str] | None:
    """(write, item, field, value before it) of the newest key that changed something and is not undone."""
    marks = ", ".join("?" * len(UNDOABLE))
    keys = database.execute(
        "SELECT write, item, field, value, undoes, "
        "lag(value, 1, '') OVER (PARTITION BY item, field ORDER BY at, write) "
        f"FROM writes WHERE annotator = ? AND field IN ({marks}) ORDER BY at DESC, write DESC",
        (annotator, *UNDOABLE),
    ).fetchall()
    undone = {key[4] for key in keys}
    for write, item, field, value, undoes, former in keys:
        if undoes is None and write not in undone and value != former:
            return write, item, field, former
    return None


def state_of(path: Path, annotator: str, item: str) -> State:
    with connect(path) as database:
        check_names(database, annotator, item)
        return state_in(database, annotator, item)


def states_of(path: Path, annotator: str) -> dict[str, State]:
    """item → what stands, for the items of which this person has answered anything."""
    with connect(path) as database:
        return states_in(database, annotator)


def state_in(database: sqlite3.Connection, annotator: str, item: str) -> State:
    return _states(database, "annotator = ? AND item = ?", annotator, item).get(item, State())


def states_in(database: sqlite3.Connection, annotator: str) -> dict[str, State]:
    """item → what stands, for the items of which this person has written anything, by item."""
    return _states(database, "annotator = ?", annotator)


def _states(database: sqlite3.Connection, where: str, *values: str) -> dict[str, State]:
    seconds = dict(
        database.execute(
            "SELECT item, sum(CASE field WHEN 'seconds' THEN CAST(value AS REAL) ELSE 0.0 END) FROM writes "
            f"WHERE {where} GROUP BY item ORDER BY item",
            values,
        ).fetchall()
    )
    standing: dict[str, dict[str, str]] = {item: {} for item in seconds}
    for item, field, value in database.execute(f"SELECT item, field, value FROM answers WHERE {where}", values):
        standing[item][field] = value
    return {item: State(**fields, seconds=seconds[item]) for item, fields in standing.items()}


def annotators_of(path: Path) -> list[str]:
    """The people of the sheet, by name."""
    with connect(path) as database:
        return [name for (name,) in database.execute("SELECT name FROM annotators ORDER BY name")]


def known_annotator(path: Path, annotator: str) -> str:
    """The name as the sheet has it; UserError, with the names that it has, when it has none such."""
    name, names = annotator_name(annotator), annotators_of(path)
    if name not in names:
        raise UserError(f"annotator: expected one of {', '.join(names)}, found {name!r}; `init` names the people")
    return name


def check_id(write: str) -> None:
    if not (8 <= len(write) <= 64 and write.isascii() and write.isprintable()):
        raise UserError(f"write: expected an id of 8 to 64 ASCII characters, found {write[:70]!r}; make a new one")


def check_names(database: sqlite3.Connection, annotator: str, item: str) -> None:
    if not database.execute("SELECT 1 FROM annotators WHERE name = ?", (annotator,)).fetchone():
        raise UserError(f"annotator: expected a person of this sheet, found {annotator[:60]!r}; `init` names them")
    if not database.execute("SELECT 1 FROM items WHERE item = ?", (item,)).fetchone():
        raise UserError(f"item: expected an item of this sheet, found {item[:60]!r}; is it from another run?")


def next_time(database: sqlite3.Connection, table: str) -> int:
    """Now in ms, or just after the newest row of `table` where the clock has gone back."""
    (newest,) = database.execute(f"SELECT coalesce(max(at), 0) FROM {table}").fetchone()
    return max(time.time_ns() // 1_000_000, newest + 1)


def _is_kept(database: sqlite3.Connection, write: Write) -> bool:
    row = database.execute(
        "SELECT annotator, item, field, value FROM writes WHERE write = ?", (write.write,)
    ).fetchone()
    if row is None:
        return False
    if row != (write.annotator, write.item, write.field, write.value):
        raise UserError(f"write {write.write}: expected what was sent under this id before, found another answer")
    return True


def _append(database: sqlite3.Connection, write: Write, undoes: str | None) -> None:
    at = next_time(database, "writes")
    database.execute(
        "INSERT INTO writes VALUES (?, ?, ?, ?, ?, ?, ?)",
        (write.write, write.annotator, write.item, write.field, write.value, at, undoes),
    )
