"""What a page is made of: paragraphs, tables, figures, facts and feature cards, as data.

The sections say what is shown; the templates alone know how. Every string here is plain text and is escaped when
it is rendered; nothing here is markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from antar.report.figures import Plot
from antar.report.words import Cited, Prose


@dataclass(frozen=True)
class Paragraph:
    """`answer` is the sentence that a section is there for; `note` says how to read what follows."""

    text: Prose
    tone: Literal["plain", "answer", "note"] = "plain"
    kind: str = "paragraph"


@dataclass(frozen=True)
class Heading:
    """A heading under the section's own."""

    text: Prose
    kind: str = "heading"


@dataclass(frozen=True)
class Value:
    """A number and, under it, its interval or what it was compared with."""

    text: Prose
    detail: Prose = ""


@dataclass(frozen=True)
class Badge:
    """A verdict: words with a tone, never colour alone."""

    text: str
    tone: Literal["good", "bad", "mild", "none"] = "none"


Cell = Prose | Value | Badge


@dataclass(frozen=True)
class Column:
    title: Prose
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """`null` marks a row that shows what the same number is where there is nothing to find."""

    head: Prose
    cells: Sequence[Cell]
    null: bool = False
    remark: Prose = ""


@dataclass(frozen=True)
class Table:
    """`columns[0]` is the title of the row heads. `stacked` tables become cards on narrow screens."""

    caption: Prose
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: Prose = ""
    stacked: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Figures:
    plots: Sequence[Plot]
    kind: str = "figures"


@dataclass(frozen=True)
class Bullets:
    items: Sequence[Prose]
    kind: str = "bullets"


@dataclass(frozen=True)
class Facts:
    """Names and what they are: a definition list."""

    items: Sequence[tuple[Prose, Prose]]
    kind: str = "facts"


@dataclass(frozen=True)
class Folded:
    """Blocks that a reader unfolds."""

    title: Prose
    blocks: Sequence[Block]
    kind: str = "folded"


@dataclass(frozen=True)
class ExampleText:
    """A text whole, in its own script. `seen` says whether the labeller could see it; `share` is its strength as a
    share of the feature's largest."""

    text: Cited
    language: str
    text_id: str
    activation: Cited
    share: float
    group: str
    facets: Prose
    seen: bool


@dataclass(frozen=True)
class FeatureCard:
    """One feature: what it is said to be about, what is measured of it, and texts that fire it. `more` is folded.

    examples: (name of the language, its strongest texts in it), where a language has none the list is empty
    """

    feature: str
    anchor: str
    label: Prose
    label_state: Prose
    verdict: Badge
    reason: Prose
    facts: Sequence[tuple[Prose, Prose]]
    effects: Table | None
    examples: Sequence[tuple[str, Sequence[ExampleText]]] = ()
    more: Sequence[Block] = ()


@dataclass(frozen=True)
class Cards:
    cards: Sequence[FeatureCard]
    kind: str = "cards"


@dataclass(frozen=True)
class Tally:
    """One number of the first screen, of how many, and what it counts; `beside` are (null, number, of how many), one
    for each of the nulls of its `Tallies`."""

    value: Prose
    of: Prose
    what: Prose
    beside: Sequence[tuple[str, Prose, Prose]]
    tone: Literal["mild", "none"] = "none"


@dataclass(frozen=True)
class Tallies:
    """What changed, and the same counts on each null."""

    caption: Prose
    nulls: Sequence[str]
    items: Sequence[Tally]
    kind: str = "tallies"


@dataclass(frozen=True)
class Links:
    """A list of names that lead to places on the page: (anchor, name, what stands behind it)."""

    items: Sequence[tuple[str, Prose, Prose]]
    kind: str = "links"


@dataclass(frozen=True)
class Code:
    """Commands, as they are typed."""

    lines: Sequence[str]
    kind: str = "code"


Block = Paragraph | Heading | Table | Figures | Bullets | Facts | Folded | Cards | Tallies | Links | Code


@dataclass(frozen=True)
class Section:
    """`appendix` sections stand after the others, under a heading of their own."""

    slug: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list[Block])
    appendix: bool = False


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
