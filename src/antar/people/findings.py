"""What a sheet says: how far its people agree, with each other, with themselves and with the validator.

Only submitted items count, and for agreement only those under their own label: agreement on planted wrong labels is
easy and would raise the number. Those, and what came twice, are reported beside it and enter nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from antar.core.hashing import sha256_json
from antar.people.agreement import BOOTSTRAPS, Agreement, Level, Statistic, agreement, share
from antar.people.fields import KINDS, PATTERNS, VERDICTS, State
from antar.people.schema import connect
from antar.people.store import states_in

QUESTIONS: Mapping[str, tuple[tuple[str, ...], Level]] = {
    "verdict": (VERDICTS, "nominal"),
    "kind": (KINDS, "nominal"),
    "pattern": (PATTERNS, "ordinal"),
}
SPLITS = ("site", "language", "category")
NOT_GIVEN = "not given"


@dataclass(frozen=True)
class Key:
    """What the sheet knows of an item and its people did not; see `keys` in schema.py."""

    item: str
    role: str
    repeats: str | None
    feature: str
    site: str
    language: str
    category: str
    verdict: str
    validator: str


@dataclass(frozen=True)
class Person:
    """One annotator beside what is known, and beside themselves.

    submitted: items; median_seconds: active time on one. refused: known-wrong labels that were not kept.
    repeated: the same verdict when an item came again. validator: agreement with the LLM's verdicts, by `of`.
    """

    submitted: int
    median_seconds: float | None
    refused: Statistic
    wrong_labels: int
    repeated: Mapping[str, Agreement]
    repeats: int
    validator: Agreement


@dataclass(frozen=True)
class Findings:
    """questions: question → agreement of all; split: split → its value → question → agreement.

    validator_name: who gave the verdicts that people are compared with; consensus: rulings against them, as an
    agreement of two; ruled: items with a ruling
    """

    questions: Mapping[str, Agreement]
    split: Mapping[str, Mapping[str, Mapping[str, Agreement]]]
    people: Mapping[str, Person]
    validator_name: str
    consensus: Agreement
    ruled: int


def findings_of(path: Path, *, seed: int, bootstraps: int = BOOTSTRAPS) -> Findings:
    """Everything that the sheet at `path` says so far."""
    with connect(path) as database:
        keys = _keys(database)
        done = submitted_in(database)
        ruled = dict(database.execute("SELECT item, verdict FROM consensus").fetchall())
    own = {item: key for item, key in keys.items() if key.role == "own"}
    judged = {item: key.verdict for item, key in own.items() if key.verdict}

    def agree(question: str, items: Iterable[str]) -> Agreement:
        choices, level = QUESTIONS[question]
        wanted = set(items)
        answers = {
            who: {item: getattr(state, question) for item, state in states.items() if item in wanted}
            for who, states in done.items()
        }
        return agreement(answers, choices, seed=seed, level=level, bootstraps=bootstraps)

    def against_validator(verdicts: Mapping[str, str]) -> Agreement:
        both = {item: verdict for item, verdict in verdicts.items() if item in judged}
        pair = {"people": both, "validator": {item: judged[item] for item in both}}
        return agreement(pair, VERDICTS, seed=seed, bootstraps=bootstraps)

    return Findings(
        questions={question: agree(question, own) for question in QUESTIONS},
        split={name: _split(own, name, agree) for name in SPLITS},
        people={
            who: Person(
                submitted=len(states),
                median_seconds=median(state.seconds for state in states.values()) if states else None,
                refused=_refused(keys, states)[0],
                wrong_labels=_refused(keys, states)[1],
                repeated=_repeated(keys, states, seed, bootstraps),
                repeats=sum(key.repeats in states and item in states for item, key in keys.items()),
                validator=against_validator({i: s.verdict for i, s in states.items() if i in own}),
            )
            for who, states in done.items()
        },
        validator_name=next((key.validator for key in own.values() if key.validator), ""),
        consensus=against_validator({item: verdict for item, verdict in ruled.items() if item in own}),
        ruled=len(ruled),
    )


def submitted_in(database: sqlite3.Connection) -> dict[str, dict[str, State]]:
    """person → item → answers, of the items that they submitted."""
    names = [name for (name,) in database.execute("SELECT name FROM annotators ORDER BY name").fetchall()]
    return {name: {item: s for item, s in states_in(database, name).items() if s.submitted} for name in names}


def digest(path: Path) -> str:
    """A sha256 of what decides the findings: the sheet, the submitted answers, the rulings; not who looked when."""
    with connect(path) as database:
        answers = [
            [who, item, state.pattern, state.verdict, state.kind]
            for who, states in submitted_in(database).items()
            for item, state in states.items()
        ]
        rulings = database.execute("SELECT item, verdict, kind FROM consensus ORDER BY item").fetchall()
        keys = database.execute("SELECT * FROM keys ORDER BY item").fetchall()
    return sha256_json([answers, rulings, keys])


def _keys(database: sqlite3.Connection) -> dict[str, Key]:
    rows = database.execute(
        "SELECT item, role, repeats, feature, site, language, category, verdict, validator FROM keys ORDER BY item"
    )
    return {row[0]: Key(*row) for row in rows}


def _split(
    own: Mapping[str, Key], name: str, agree: Callable[[str, Iterable[str]], Agreement]
) -> dict[str, dict[str, Agreement]]:
    parts: dict[str, list[str]] = {}
    for item, key in own.items():
        parts.setdefault(getattr(key, name) or NOT_GIVEN, []).append(item)
    return {
        value: {question: agree(question, items) for question in QUESTIONS} for value, items in sorted(parts.items())
    }


def _refused(keys: Mapping[str, Key], states: Mapping[str, State]) -> tuple[Statistic, int]:
    wrong = [state.verdict for item, state in states.items() if keys[item].role == "wrong_label"]
    return share(sum(verdict != "KEEP" for verdict in wrong), len(wrong)), len(wrong)


def _repeated(
    keys: Mapping[str, Key], states: Mapping[str, State], seed: int, bootstraps: int
) -> dict[str, Agreement]:
    """question → the first answers against those at the second sight, as if they were two people's."""
    pairs = [(key.repeats, item) for item, key in keys.items() if key.repeats in states and item in states]
    found: dict[str, Agreement] = {}
    for question, (choices, level) in QUESTIONS.items():
        first = {old: getattr(states[old], question) for old, _ in pairs if old}
        again = {old: getattr(states[new], question) for old, new in pairs if old}
        found[question] = agreement(
            {"first": first, "again": again}, choices, seed=seed, level=level, bootstraps=bootstraps
        )
    return found
