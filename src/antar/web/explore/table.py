"""What a reader asks of the table of features, as it stands in the address; and the rows that answer.

Nothing that is typed is an error: what cannot be meant is left out. A view is its address, so it can be shared, kept,
and carried along by the links to its features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import polars as pl

from antar.web.explore.index import Index
from antar.web.explore.summary import KINDS

PAGE_ROWS = 50
MOST_CHARACTERS = 200
EFFECTS = {"effect": "strongest", **{kind: kind for kind in KINDS}}
SORTS = {
    "effect": "effect, largest first",
    "q": "q, smallest first",
    "coherence": "coherence",
    "prediction": "prediction score",
    "firing": "firing rate",
    "label": "label",
    "verdict": "verdict",
    "feature": "feature",
}
ASCENDING = ("q", "label", "verdict", "feature")
"""Sorts that begin with the smallest; the others begin with the largest."""
BOUNDS = {
    "d_min": "effect_d", "q_max": "effect_q", "coherence_min": "coherence", "prediction_min": "prediction",
    "firing_min": "firing_rate", "firing_max": "firing_rate",
    "culture_min": "culture_d", "culture_max": "culture_d", "shift_min": "shift_d", "shift_max": "shift_d",
}  # fmt: skip
"""Name of a bound → the column that it bounds; `d_min` bounds |d|, and `d_min` and `q_max` the effect asked `of`."""


@dataclass(frozen=True)
class Query:
    """A view. Empty strings mean all; `of` says whose effect is shown, bounded and sorted by."""

    text: str = ""
    site: str = ""
    layer: str = ""
    dictionary: str = ""
    language: str = ""
    verdict: str = ""
    changed: str = ""
    cultural: str = ""
    dead: str = ""
    of: str = "effect"
    d_min: str = ""
    q_max: str = ""
    coherence_min: str = ""
    prediction_min: str = ""
    firing_min: str = ""
    firing_max: str = ""
    culture_min: str = ""
    culture_max: str = ""
    shift_min: str = ""
    shift_max: str = ""
    sort: str = "effect"
    reverse: str = ""
    page: int = 1

    @classmethod
    def of_address(cls, asked: Mapping[str, str]) -> Query:
        words = {one.name: asked.get(one.name, "").strip()[:MOST_CHARACTERS] for one in fields(cls)}
        page = whole(words.pop("page"))
        for name in BOUNDS:
            words[name] = words[name] if bound(words[name]) is not None else ""
        for name in ("changed", "cultural", "dead", "reverse"):
            words[name] = "1" if words[name] else ""
        words["sort"] = words["sort"] if words["sort"] in SORTS else "effect"
        words["of"] = words["of"] if words["of"] in EFFECTS else "effect"
        words["layer"] = words["layer"] if whole(words["layer"]) is not None else ""
        return cls(**words, page=page or 1)

    def address(self, path: str = "/features", **changes: str | int) -> str:
        """The address of this view, or of one that differs from it by `changes`, at `path`."""
        asked, usual = replace(self, **changes), Query()
        kept = {f.name: getattr(asked, f.name) for f in fields(self)}
        kept = {name: value for name, value in kept.items() if value != getattr(usual, name)}
        return path + (f"?{urlencode(kept)}" if kept else "")

    def sorted_by(self, sort: str) -> str:
        """The address of this view sorted by `sort`, the other way round where it is already."""
        return self.address(sort=sort, reverse="" if sort != self.sort or self.reverse else "1", page=1)

    @property
    def descends(self) -> bool:
        return (self.sort not in ASCENDING) != bool(self.reverse)

    @property
    def filters(self) -> int:
        """How many filters beside the words are set."""
        plain = {"text", "of", "sort", "reverse", "page"}
        return sum(bool(getattr(self, one.name)) for one in fields(self) if one.name not in plain)


@dataclass(frozen=True)
class Answer:
    """rows: of one page, as dicts; numbers: all features of the view, in order."""

    rows: Sequence[Mapping[str, Any]]
    total: int
    page: int
    pages: int
    first: int


def bound(text: str) -> float | None:
    """The number that was typed; None for what is none. A comma is a point, U+2212 is a minus, `5%` is 0.05."""
    share = text.endswith("%")
    try:
        value = float(text.removesuffix("%").replace(",", ".").replace("\u2212", "-"))
    except ValueError:
        return None
    return value / (100 if share else 1) if math.isfinite(value) else None


def not_numbers(asked: Mapping[str, str]) -> list[str]:
    """What was typed as a bound and is no number, so that it bounds nothing."""
    typed = [asked.get(name, "").strip()[:MOST_CHARACTERS] for name in BOUNDS]
    return [text for text in typed if text and bound(text) is None]


def whole(text: str) -> int | None:
    """The whole number that was typed, of at most seven digits; None for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def view(index: Index, query: Query) -> pl.DataFrame:
    """Every feature of a view, in its order, with all that is known of it."""
    return index.frame[view_numbers(index, query)]


def view_numbers(index: Index, query: Query) -> np.ndarray:
    """The rows of the index's frame that a view holds, in its order: two columns are sorted, not fifty."""
    frame = index.frame.lazy()
    found = index.search(query.text) if query.text else None
    if found is not None:
        frame = frame.filter(pl.Series(found))
    frame = frame.filter(_kept(query))
    if query.site == "" and query.dictionary == "":
        frame = frame.filter(~pl.col("of_null"))  # features of nulls are no findings: they are asked for by name
    ordered = frame.select("number", _order(query).alias("key"))
    ordered = ordered.sort("key", "number", descending=[query.descends, False], nulls_last=True)
    return ordered.select("number").collect()["number"].to_numpy()


def ask(index: Index, query: Query) -> Answer:
    """The rows of one page. A page past the end is the last one."""
    numbers = view_numbers(index, query)
    pages = max(1, -(-len(numbers) // PAGE_ROWS))
    page = min(max(1, query.page), pages)
    first = (page - 1) * PAGE_ROWS
    return Answer(index.frame[numbers[first : first + PAGE_ROWS]].to_dicts(), len(numbers), page, pages, first)


def neighbours(index: Index, query: Query, number: int) -> tuple[str | None, str | None, int, int]:
    """(previous, next, place, total) of a feature in a view; place 0 where the view does not hold it."""
    numbers = view_numbers(index, query)
    at = np.flatnonzero(numbers == number)
    if len(at) == 0:
        return None, None, 0, len(numbers)
    place = int(at[0])
    names = [
        index.frame["feature"][int(numbers[i])] if 0 <= i < len(numbers) else None for i in (place - 1, place + 1)
    ]
    return names[0], names[1], place + 1, len(numbers)


def _kept(query: Query) -> pl.Expr:
    conditions = [pl.lit(True)]
    if not query.dead:
        conditions.append(pl.col("live"))
    asked = {name: getattr(query, name) for name in ("site", "dictionary", "language")}
    conditions += [pl.col(name) == wanted for name, wanted in asked.items() if wanted]
    if query.verdict:
        conditions.append(
            pl.col("verdict").is_null() if query.verdict == "none" else pl.col("verdict") == query.verdict
        )
    if query.layer:
        conditions.append(pl.col("layer") == whole(query.layer))
    conditions += [pl.col(name) for name in ("changed", "cultural") if getattr(query, name)]
    for name, column in BOUNDS.items():
        value = bound(getattr(query, name))
        if value is None:
            continue
        column = column.replace("effect_", f"{query.of}_")
        if column == "firing_rate" and value > 1:
            value /= 100  # it is shown in percent, and no share is above 1
        size = pl.col(column).abs() if name == "d_min" else pl.col(column)
        conditions.append(size >= value if name.endswith("_min") else size <= value)
    return pl.all_horizontal(conditions).fill_null(False)


def _order(query: Query) -> pl.Expr:
    columns = {
        "effect": pl.col(f"{query.of}_d").abs(),
        "q": pl.col(f"{query.of}_q"),
        "firing": pl.col("firing_rate"),
        "label": pl.col("label").str.to_lowercase(),
        "feature": pl.col("number"),
    }
    return columns.get(query.sort, pl.col(query.sort))
