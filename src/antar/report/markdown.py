"""The page's twin in Markdown: the same blocks, and not a word of its own.

Everything that comes from data is escaped, so that nothing of it is markup or HTML where the file is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, assert_never

from antar.report.blocks import (
    Badge,
    Block,
    Bullets,
    Cards,
    Cell,
    Code,
    Facts,
    FeatureCard,
    Figures,
    Folded,
    Heading,
    Links,
    Paragraph,
    Section,
    Table,
    Tallies,
    Value,
)
from antar.report.text import shown

if TYPE_CHECKING:
    from antar.report.page import Head

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_markdown(head: Head, sections: Sequence[Section]) -> str:
    lines = [
        f"# {_say(head.question or head.study)}",
        "",
        f"antar report · study {_say(head.study)} · {_say(head.names['base'])} → {_say(head.names['chat'])}",
        "",
        _say(head.reading),
    ]
    appendix = False
    for section in sections:
        if section.appendix and not appendix:
            lines += ["", "# Appendix"]
            appendix = True
        lines += ["", f"## {_say(section.title)}"]
        for block in section.blocks:
            lines += ["", *_block(block)]
    lines += ["", f"Made by antar {head.version}."]
    return "\n".join(lines) + "\n"


def _say(text: str) -> str:
    """`text` on one line, as itself."""
    return _SPECIAL.sub(r"\\\1", " ".join(shown(text).split())).replace("&", "&amp;")


def _cell(cell: Cell) -> str:
    if isinstance(cell, Badge):
        return _say(cell.text)
    if isinstance(cell, Value):
        return _say(cell.text) + (f" {_say(cell.detail)}" if cell.detail else "")
    return _say(cell)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            text = _say(block.text)
            yield f"**{text}**" if block.tone == "answer" else f"_{text}_" if block.tone == "note" else text
        case Heading():
            yield f"### {_say(block.text)}"
        case Table():
            yield from _table(block)
        case Figures():
            for plot in block.plots:
                yield f"![{_say(plot.alt)}](figures/{plot.name}.svg)"
                yield ""
                yield f"_{_say(plot.caption)}_ ([PDF](figures/{plot.name}.pdf))"
                yield ""
        case Bullets():
            yield from (f"- {_say(item)}" for item in block.items)
        case Facts():
            yield from (f"- {_say(name)}: {_say(value)}" for name, value in block.items)
        case Links():
            yield from (f"- **{_say(name)}** · {_say(about)}" for _, name, about in block.items)
        case Tallies():
            yield from _tallies(block)
        case Code():
            yield from ("```", *block.lines, "```")
        case Folded():
            yield f"#### {_say(block.title)}"
            for inner in block.blocks:
                yield ""
                yield from _block(inner)
        case Cards():
            for card in block.cards:
                yield from _card(card)
        case _:
            assert_never(block)


def _table(table: Table) -> Iterator[str]:
    yield f"_{_say(table.caption)}_"
    yield ""
    yield f"| {' | '.join(_say(column.title) for column in table.columns)} |"
    yield f"|{'|'.join('---:' if column.numeric else '---' for column in table.columns)}|"
    for row in table.rows:
        head = f"_{_say(row.head)}_" if row.null and row.head else _say(row.head)
        yield f"| {' | '.join([head, *(_cell(cell) for cell in row.cells)])} |"
    remarks = [f"- {_say(row.head)}: {_say(row.remark)}" for row in table.rows if row.remark]
    if remarks:
        yield from ("", *remarks)
    if table.note:
        yield from ("", _say(table.note))


def _tallies(block: Tallies) -> Iterator[str]:
    yield f"_{_say(block.caption)}_"
    yield ""
    yield f"| {' | '.join(['features that …', 'this pair', *map(_say, block.nulls)])} |"
    yield f"|---{'|---:' * (len(block.nulls) + 1)}|"
    for one in block.items:
        cells = [_say(one.what), f"**{_say(one.value)}** {_say(one.of)}"]
        cells += [f"{_say(value)} {_say(of)}".strip() for _, value, of in one.beside]
        yield f"| {' | '.join(cells)} |"


def _card(card: FeatureCard) -> Iterator[str]:
    yield f"#### {_say(card.label or card.label_state)}"
    yield ""
    yield f"{_say(card.feature)} · {_say(card.verdict.text)}" + (f" · {_say(card.reason)}" if card.reason else "")
    yield ""
    yield from (f"- {_say(name)}: {_say(value)}" for name, value in card.facts)
    if card.effects is not None:
        yield ""
        yield from _table(card.effects)
    for language, texts in card.examples:
        yield ""
        yield (
            f"{_say(language)}:"
            if texts
            else f"{_say(language)}: fires on none of its texts that were kept as examples."
        )
        for one in texts:
            yield ""
            yield f"> {_say(one.text)}"
            yield ">"
            seen = "" if one.seen else ", not shown to the labeller"
            yield f"> — {_say(one.activation)}, {_say(one.group)}{', ' if one.facets else ''}{_say(one.facets)}{seen}"
    for block in card.more:
        yield ""
        yield from _block(block)
    yield ""
