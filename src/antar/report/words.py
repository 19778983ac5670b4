"""Sentences whose numbers say where they come from.

A number that a run measured is `Cited`: what is shown, and the source from which anybody can derive it again
(`sources.py` has the language). A sentence that holds some is `Words`. The page carries the source of each number as
`data-from`, and a test walks the page and derives every one of them from the run's files anew. Nothing here is
markup: what comes from data sets stays a part, and is never read as a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Self


class _Sentence(str):
    """Text that stays in parts when it is put together with other text."""

    __slots__ = ()

    def __add__(self, other: str) -> Words:
        return Words((*parts_of(self), *parts_of(other)))

    def __radd__(self, other: str) -> Words:
        return Words((*parts_of(other), *parts_of(self)))


class Cited(_Sentence):
    """A number (or a text of the run) as it is shown, and where it comes from."""

    __slots__ = ("source",)
    source: str

    def __new__(cls, text: str, source: str) -> Self:
        made = super().__new__(cls, text)
        made.source = source
        return made


class Words(_Sentence):
    """Plain text and cited parts, in order. As a string it is the text alone."""

    __slots__ = ("parts",)
    parts: tuple[str, ...]

    def __new__(cls, parts: Sequence[str] = ()) -> Self:
        made = super().__new__(cls, "".join(str(part) for part in parts))
        made.parts = tuple(part for part in parts if part)
        return made


Prose = str
"""Text that may be `Cited` or `Words`, and is shown with its sources where it is."""


def parts_of(prose: Prose) -> tuple[str, ...]:
    """Plain and cited parts of a text; of a plain one, itself."""
    return prose.parts if isinstance(prose, Words) else (prose,)


def told(template: str, *parts: Prose) -> Words:
    """`template` with each `{}` replaced by the next of `parts`. Only the template is read as one."""
    found: list[str] = []
    waiting = list(parts)
    for literal, name, spec, conversion in Formatter().parse(template):
        if literal:
            found.append(literal)
        if name is not None:
            if name or spec or conversion or not waiting:
                raise ValueError(f"{template!r}: expected one {{}} for each of {len(parts)} parts")
            found += parts_of(waiting.pop(0))
    if waiting:
        raise ValueError(f"{template!r}: expected {len(parts)} places")
    return Words(tuple(found))


def joined(items: Sequence[Prose], between: str = " ") -> Words:
    """The items with `between` between them; empty ones are left out."""
    made = Words()
    for item in filter(None, items):
        made = made + between + item if made else made + item
    return made


def listed(items: Sequence[Prose], last: str = "and") -> Words:
    """`a, b and c`."""
    if len(items) < 2:
        return joined(items or ["none"])
    return joined(items[:-1], ", ") + f" {last} " + items[-1]


def counted(count: Cited, one: str, many: str | None = None) -> Words:
    """`1 text`, `3 texts`."""
    return Words((count, f" {one if count == '1' else many or one + 's'}"))
