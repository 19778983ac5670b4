"""What a page is made of: paragraphs, tables, figures, facts and feature cards, as data.

The sections say what is shown; the templates alone know how. Every string here is plain text and is escaped when
it is rendered; nothing here is markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from antar.report.figures import Plot


@dataclass(frozen=True)
class Paragraph:
    """`answer` is the sentence that a section is there for; `note` says how to read what follows."""

    text: str
    tone: Literal["plain", "answer", "note"] = "plain"
    kind: str = "paragraph"


@dataclass(frozen=True)
class Heading:
    """A heading under the section's own."""

    text: str
    kind: str = "heading"


@dataclass(frozen=True)
class Value:
    """A number and, under it, its interval or what it was compared with."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Badge:
    """A verdict: words with a tone, never colour alone."""

    text: str
    tone: Literal["good", "bad", "mild", "none"] = "none"


Cell = str | Value | Badge


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """`null` marks a row that shows what the same number is where there is nothing to find."""

    head: str
    cells: Sequence[Cell]
    null: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """`columns[0]` is the title of the row heads. `stacked` tables become cards on narrow screens."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    stacked: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Figures:
    plots: Sequence[Plot]
    kind: str = "figures"


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True)
class Facts:
    """Names and what they are: a definition list."""

    items: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Folded:
    """Blocks that a reader unfolds."""

    title: str
    blocks: Sequence[Block]
    kind: str = "folded"


@dataclass(frozen=True)
class ExampleText:
    """A text whole, in its own script. `seen` says whether the labeller could see it."""

    text: str
    language: str
    text_id: str
    activation: float
    largest: float
    group: str
    facets: str
    seen: bool


@dataclass(frozen=True)
class FeatureCard:
    """One feature: what it is said to be about, what is measured of it, and texts that fire it."""

    feature: str
    anchor: str
    label: str | None
    label_state: str
    verdict: Badge
    reason: str
    facts: Sequence[tuple[str, str]]
    effects: Table | None
    examples: Sequence[ExampleText] = ()


@dataclass(frozen=True)
class Cards:
    cards: Sequence[FeatureCard]
    kind: str = "cards"


Block = Paragraph | Heading | Table | Figures | Bullets | Facts | Folded | Cards


@dataclass(frozen=True)
class Section:
    slug: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list[Block])


VERDICT_TONES: dict[str, Literal["good", "bad", "mild", "none"]] = {
    "pass": "good",
    "fail": "bad",
    "passes by construction": "mild",
    "not measured": "none",
    "KEEP": "good",
    "REVISE": "mild",
    "INVALIDATE": "bad",
}


def verdict_badge(verdict: str | None) -> Badge:
    return Badge(verdict or "not measured", VERDICT_TONES.get(verdict or "", "none"))
