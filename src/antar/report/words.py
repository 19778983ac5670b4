"""Sentences whose numbers say where they come from.

A number that a run measured is `Cited`: what is shown, and the source from which anybody can derive it again
(`sources.py` has the language). A sentence that holds some is `Words`. The page carries the source of each number as
`data-from`, and a test walks the page and derives every one of them from the run's files anew. Nothing here is
markup: what comes from data sets stays a part, and is never read as a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter


@dataclass(frozen=True)
class Cited:
    """A number (or a text of the run) as it is shown, and where it comes from."""

    text: str
    source: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Words:
    """Plain text and cited parts, in order."""

    parts: tuple[str | Cited, ...] = ()

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def __add__(self, other: Prose) -> Words:
        return Words((*self.parts, *parts_of(other)))

    def __radd__(self, other: Prose) -> Words:
        return Words((*parts_of(other), *self.parts))

    def __bool__(self) -> bool:
        return bool(str(self))


Prose = str | Cited | Words


def parts_of(prose: Prose) -> tuple[str | Cited, ...]:
    return prose.parts if isinstance(prose, Words) else (prose,)


def told(template: str, *parts: Prose) -> Words:
    """`template` with each `{}` replaced by the next of `parts`. Only the template is read as one."""
    found: list[str | Cited] = []
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
    for item in (item for item in items if str(item)):
        made = made + between + item if made.parts else made + item
    return made


def listed(items: Sequence[Prose], last: str = "and") -> Words:
    """`a, b and c`."""
    if len(items) < 2:
        return joined(items or ["none"])
    return joined(items[:-1], ", ") + f" {last} " + items[-1]


def counted(count: Cited, one: str, many: str | None = None) -> Words:
    """`1 text`, `3 texts`."""
    return Words((count, f" {one if count.text == '1' else many or one + 's'}"))
