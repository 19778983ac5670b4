"""What one person is shown, and in which order: the blind side of the sheet.

Nothing here reads `keys` but the order, which must know what repeats what; and a label leaves the database only when
the person's blind answers to its item are closed. Pages and exports for annotators are made of this alone.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from antar.core.errors import UserError
from antar.core.seeds import numpy_rng
from antar.people.fields import State
from antar.people.schema import connect
from antar.people.store import check_names, state_in, states_in


@dataclass(frozen=True)
class ShownText:
    text: str
    language: str


@dataclass(frozen=True)
class Item:
    """An item as a person sees it. `label` is None until it may be seen; place counts from 1."""

    item: str
    place: int
    total: int
    texts: tuple[ShownText, ...]
    state: State
    label: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Progress:
    """How far a person is: items in their order, whether each is submitted, and the next to answer."""

    order: tuple[str, ...]
    submitted: frozenset[str]
    seconds: float

    @property
    def next(self) -> str | None:
        return next((item for item in self.order if item not in self.submitted), None)


def progress_of(path: Path, annotator: str) -> Progress:
    with connect(path) as database:
        order = _order(database, annotator)
        states = states_in(database, annotator)
    submitted = frozenset(item for item, state in states.items() if state.submitted)
    return Progress(order, submitted, sum(state.seconds for state in states.values()))


def item_for(path: Path, annotator: str, item: str) -> Item:
    """One item as this person may see it now. Raises UserError for one that is not on the sheet."""
    with connect(path) as database:
        check_names(database, annotator, item)
        return _item(database, annotator, item, _order(database, annotator))


def items_for(path: Path, annotator: str) -> list[Item]:
    """All items in this person's own order."""
    with connect(path) as database:
        order = _order(database, annotator)
        return [_item(database, annotator, item, order) for item in order]


def _item(database: sqlite3.Connection, annotator: str, item: str, order: tuple[str, ...]) -> Item:
    texts = database.execute(
        "SELECT text, language FROM item_texts WHERE item = ? ORDER BY place", (item,)
    ).fetchall()
    state = state_in(database, annotator, item)
    label = None
    if state.revealed:
        (label,) = database.execute("SELECT label FROM items WHERE item = ?", (item,)).fetchone()
    place = order.index(item)
    return Item(
        item=item,
        place=place + 1,
        total=len(order),
        texts=tuple(ShownText(*text) for text in texts),
        state=state,
        label=label,
        before=order[place - 1] if place else None,
        after=order[place + 1] if place + 1 < len(order) else None,
    )


def _order(database: sqlite3.Connection, annotator: str) -> tuple[str, ...]:
    """A shuffle seeded by the person's name, so that no two people tire on the same items.

    What comes twice comes first in the first third and again in the last, so that a third lies between.
    """
    fact = database.execute("SELECT value FROM facts WHERE name = 'seed'").fetchone()
    if fact is None:
        raise UserError("annotations: expected a drawn sheet, found an empty one; `antar annotate init RUN` draws it")
    rng = numpy_rng(json.loads(fact[0]), "people", "order", annotator)
    repeats = dict(database.execute("SELECT item, repeats FROM keys WHERE repeats IS NOT NULL ORDER BY item"))
    firsts = sorted(repeats.values())
    others = [
        item for (item,) in database.execute("SELECT item FROM items ORDER BY item")
        if item not in repeats and item not in set(firsts)
    ]  # fmt: skip
    others = [others[i] for i in rng.permutation(len(others))]
    # The outer parts are of one size with what they were given; the middle takes what is left.
    outer = max(0, (len(others) + 2 * len(firsts)) // 3 - len(firsts))
    parts = (
        firsts + others[:outer],
        others[outer : len(others) - outer],
        others[len(others) - outer :] + list(repeats),
    )
    return tuple(part[i] for part in parts for i in rng.permutation(len(part)))
