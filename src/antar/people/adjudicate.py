"""Where two people differ, side by side, and the rulings on it: kept apart from what anybody answered alone.

A ruling changes no answer and enters no agreement between people: it is what the study then goes on with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from antar.core.errors import UserError
from antar.people.fields import KINDS, VERDICTS, State, annotator_name, check_value
from antar.people.findings import submitted_in
from antar.people.queue import ShownText
from antar.people.schema import connect
from antar.people.store import check_id, next_time

FAR_APART = 2
"""Patterns of 1–5 that differ by so much are a disagreement."""


@dataclass(frozen=True)
class Ruling:
    """What was decided of an item. `ruling` is an id made by who sends it; the same id twice is once."""

    ruling: str
    item: str
    adjudicator: str
    verdict: str
    kind: str
    label: str = ""
    note: str = ""


@dataclass(frozen=True)
class Case:
    """An item that two people or more have submitted. differs: the questions on which they do not agree."""

    item: str
    label: str
    texts: tuple[ShownText, ...]
    answers: Mapping[str, State]
    differs: tuple[str, ...]
    ruling: Ruling | None


def cases_of(path: Path) -> list[Case]:
    """Every item on which people differ, and every one with a ruling, those without a ruling first.

    Items under a planted wrong label and second sights are not among them: there is nothing to decide.
    """
    with connect(path) as database:
        done = submitted_in(database)
        ruled = {ruling.item: ruling for ruling in _consensus(database)}
        items = database.execute(
            "SELECT item, label FROM items JOIN keys USING (item) WHERE role = 'own' ORDER BY item"
        ).fetchall()
        cases: list[Case] = []
        for item, label in items:
            answers = {who: states[item] for who, states in done.items() if item in states}
            differs = differences(answers)
            if (len(answers) >= 2 and differs) or item in ruled:
                texts = database.execute(
                    "SELECT text, language FROM item_texts WHERE item = ? ORDER BY place", (item,)
                ).fetchall()
                shown = tuple(ShownText(*text) for text in texts)
                cases.append(Case(item, label, shown, answers, differs, ruled.get(item)))
    return sorted(cases, key=lambda case: case.ruling is not None)


def differences(answers: Mapping[str, State]) -> tuple[str, ...]:
    """The questions on which these answers differ: another verdict, another kind, patterns two or more apart."""
    states = list(answers.values())
    found = [question for question in ("verdict", "kind") if len({getattr(s, question) for s in states}) > 1]
    patterns = [int(state.pattern) for state in states]
    if patterns and max(patterns) - min(patterns) >= FAR_APART:
        found.append("pattern")
    return tuple(found)


def rule(path: Path, ruling: Ruling) -> None:
    """Keep a ruling; a later one on the item replaces it, and the earlier stays in the file.

    Raises UserError for an unknown item, a name or an answer that cannot be, or REVISE without a better label.
    """
    check_id(ruling.ruling)
    who = annotator_name(ruling.adjudicator)
    for field, value, choices in (("verdict", ruling.verdict, VERDICTS), ("kind", ruling.kind, KINDS)):
        if value not in choices:
            raise UserError(f"{field}: expected {', '.join(choices)}, found {value!r}; choose one")
    for text in (ruling.label, ruling.note):
        check_value("label", text, "ruling")
    if ruling.verdict == "REVISE" and not ruling.label.strip():
        raise UserError("label: expected a better label under REVISE, found nothing; write one")
    content = (ruling.item, who, ruling.verdict, ruling.kind, ruling.label, ruling.note)
    with connect(path, write=True) as database:
        kept = database.execute(
            "SELECT item, adjudicator, verdict, kind, label, note FROM rulings WHERE ruling = ?", (ruling.ruling,)
        ).fetchone()
        if kept == content:
            return
        if kept is not None:
            raise UserError(f"ruling {ruling.ruling}: expected what was sent under this id before, found another one")
        if not database.execute("SELECT 1 FROM items WHERE item = ?", (ruling.item,)).fetchone():
            raise UserError(
                f"item: expected an item of this sheet, found {ruling.item[:60]!r}; is it of another run?"
            )
        at = next_time(database, "rulings")
        database.execute("INSERT INTO rulings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (ruling.ruling, *content, at))


def _consensus(database: sqlite3.Connection) -> list[Ruling]:
    rows = database.execute("SELECT ruling, item, adjudicator, verdict, kind, label, note FROM consensus").fetchall()
    return [Ruling(*row) for row in rows]
