"""Answers in and out of the annotation database: one by one, or as one person's CSV for a spreadsheet.

The CSV is UTF-8 with a byte-order mark, without which spreadsheets garble Devanagari. A cell that a spreadsheet
would run as a formula is written with an apostrophe before it. An import is checked whole before a row is kept.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from antar.core.atomic import write_bytes
from antar.core.errors import UserError
from antar.people.queue import annotator_name, items_for
from antar.people.schema import QUESTIONS, connect

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ANSWER_COLUMNS = ("item", "annotator", "theme", "fits", "note")


@dataclass(frozen=True)
class Answer:
    """One person's answers to one item; an empty string is no answer yet."""

    item: str
    annotator: str
    theme: str = ""
    fits: str = ""
    note: str = ""


def save_answers(path: Path, answers: Iterable[Answer]) -> int:
    """Store answers in the sheet at `path`, all or none; a person's later answer replaces the earlier one."""
    rows = [(a.item, annotator_name(a.annotator), a.theme, a.fits, a.note) for a in answers]
    with connect(path) as database:
        known = _known_items(database)
        for place, answer in enumerate(rows, start=1):
            _check(answer, known, f"answer {place}")
        _store(database, rows)
    return len(rows)


def answers_of(path: Path, annotator: str) -> dict[str, Answer]:
    """item → what this person answered."""
    with connect(path) as database:
        rows = database.execute(
            "SELECT item, annotator, theme, fits, note FROM answers WHERE annotator = ?", (annotator_name(annotator),)
        ).fetchall()
    return {row[0]: Answer(*row) for row in rows}


def export_csv(path: Path, annotator: str, target: Path) -> int:
    """Write one person's sheet to `target`: a row an item, in that person's order, with the answers so far."""
    who = annotator_name(annotator)
    items, answered = items_for(path, who), answers_of(path, who)
    n_texts = max((len(item.texts) for item in items), default=0)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(
        ["item", "annotator", "label", *(f"text_{i + 1}" for i in range(n_texts)), "theme", "fits", "note"]
    )
    for item in items:
        answer = answered.get(item.item, Answer(item.item, who))
        texts = [text.text for text in item.texts] + [""] * (n_texts - len(item.texts))
        row = [item.item, who, item.label, *texts, answer.theme, answer.fits, answer.note]
        writer.writerow([escape_cell(cell) for cell in row])
    write_bytes(target, b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8"))
    return len(items)


def import_csv(path: Path, source: Path) -> int:
    """Read one person's answers from `source` into the sheet at `path`; returns how many items have an answer.

    Raises UserError, and stores nothing, for a file that is not UTF-8 CSV with the columns item, annotator, theme,
    fits and note, an unknown or repeated item, an answer outside the choices, or not exactly one annotator.
    """
    rows = _read_rows(source)
    answers: list[tuple[str, str, str, str, str]] = []
    with connect(path) as database:
        known = _known_items(database)
        seen: dict[str, int] = {}
        for line, row in rows:
            where = f"{source}, line {line}"
            item, who, theme, fits, note = (_plain(row.get(column)) for column in _ANSWER_COLUMNS)
            if not who:
                raise UserError(f"{where}: expected the annotator's name, found nothing; fill the column annotator")
            if answers and who != answers[0][1]:
                raise UserError(
                    f"{where}: expected the one annotator {answers[0][1]!r}, found {who!r}; import each person's file"
                )
            answer = (item, who, theme.casefold(), fits.casefold(), note)
            _check(answer, known, where)
            if item in seen:
                raise UserError(
                    f"{where}: expected each item once, found {item} as in line {seen[item]}; keep one row"
                )
            seen[item] = line
            answers.append(answer)
        if not answers:
            raise UserError(f"{source}: expected answers, found no rows; export the sheet and fill it in")
        filled = [answer for answer in answers if any(answer[2:])]
        _store(database, filled)
    return len(filled)


def escape_cell(cell: str) -> str:
    """`cell` with an apostrophe before it when a spreadsheet would read it as a formula."""
    return f"'{cell}" if _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    # Apostrophes in front are looked through, so that taking one off again gives back what was there.
    bare = cell.lstrip("'")
    return bare.startswith(_FORMULA) or bare.lstrip().startswith(_FORMULA)


def _plain(cell: str | None) -> str:
    text = cell or ""
    return (text[1:] if text.startswith("'") and _is_formula(text) else text).strip()


def _read_rows(source: Path) -> list[tuple[int, Mapping[str, str | None]]]:
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
    missing = [column for column in _ANSWER_COLUMNS if column not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{source}: expected the column {missing[0]}, found none; keep the header of the export")
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UserError(f"{source}, line {reader.line_num}: expected CSV, found {error}; export it again") from error


def _known_items(database: sqlite3.Connection) -> set[str]:
    return {item for (item,) in database.execute("SELECT item FROM items")}


def _check(answer: tuple[str, str, str, str, str], known: set[str], where: str) -> None:
    item, _, *given, _ = answer
    if item not in known:
        raise UserError(f"{where}: expected an item of this sheet, found {item!r}; import into the run it came from")
    for (question, choices), value in zip(QUESTIONS.items(), given, strict=True):
        if value and value not in choices:
            raise UserError(
                f"{where}: expected {', '.join(choices)} or nothing for {question}, found {value!r}; mend it"
            )


def _store(database: sqlite3.Connection, rows: Sequence[tuple[str, str, str, str, str]]) -> None:
    database.executemany(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?) ON CONFLICT (item, annotator) "
        "DO UPDATE SET theme = excluded.theme, fits = excluded.fits, note = excluded.note",
        rows,
    )
