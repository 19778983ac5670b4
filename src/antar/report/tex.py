"""Tables for a paper, in LaTeX: criteria, counts beside their nulls, the largest changes; the page's own blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from antar.report.blocks import Badge, Cell, Column, Row, Section, Table, Tallies, Value
from antar.report.text import shown

if TYPE_CHECKING:
    from antar.report.page import Head

PAPER_CM, NARROW, WIDE_HEAD = 16.0, 20, 26
"""What a page is wide, and from how many letters on a cell or a row's head wraps."""
_ESCAPED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u2212": "$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
}
_SUPERSCRIPTS = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True))


def escape(text: str) -> str:
    """`text` as LaTeX that shows it; scripts stay as they are, in Unicode."""
    made: list[str] = []
    for character in " ".join(shown(text).split()):
        if character in _SUPERSCRIPTS:
            made.append(f"$^{{{_SUPERSCRIPTS[character]}}}$")
        else:
            made.append(_ESCAPED.get(character, character))
    return "".join(made)


def render_tables(head: Head, sections: Sequence[Section]) -> str:
    """A file to \\input. A run that has none of the tables gives a file that says so."""
    lines = [
        f"% Tables of the study {_comment(head.study)}, made by antar {head.version}. Each number is one of the "
        f"report's.",
        r"% In the preamble: \usepackage{booktabs}. Text of the run is Unicode as it is (Devanagari and others too), "
        r"so use",
        r"% XeLaTeX or LuaLaTeX with fontspec and a font that has the scripts, e.g.",
        r"% \setmainfont{Noto Serif} with \babelprovide[import]{hindi} and \babelfont[hindi]{rm}{Noto Serif "
        r"Devanagari}.",
    ]
    found = [table for section in sections for table in _wanted(section)]
    for label, table in found:
        lines += ["", *_table(label, table)]
    return "\n".join(lines if found else [*lines, "% This run has measured none of the tables yet."]) + "\n"


def _comment(text: str) -> str:
    return " ".join(shown(text).split())


def _wanted(section: Section) -> Iterator[tuple[str, Table]]:
    if section.slug == "answer":
        yield from (("changes", _of_tallies(block)) for block in section.blocks if isinstance(block, Tallies))
    elif section.slug in ("criteria", "changed"):
        yield from ((section.slug, block) for block in section.blocks if isinstance(block, Table))
    elif section.slug == "effects":
        yield from (("effects", block) for block in section.blocks if isinstance(block, Table))


def _of_tallies(block: Tallies) -> Table:
    rows = [
        Row(one.what, [f"{one.value} {one.of}", *(f"{value} {of}".strip() for _, value, of in one.beside)])
        for one in block.items
    ]
    columns = [
        Column("features that …", False),
        Column("this pair", False),
        *(Column(name, False) for name in block.nulls),
    ]
    return Table(block.caption, columns, rows)


def _table(label: str, table: Table) -> Iterator[str]:
    kinds = _kinds(table)
    note = f" {escape(table.note)}" if table.note else ""
    yield r"\begin{table}"
    yield r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"
    yield rf"\caption{{{escape(table.caption)}{note}}}"
    yield rf"\label{{tab:antar-{label}}}"
    yield rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}"
    yield r"\toprule"
    yield " & ".join(escape(column.title) for column in table.columns) + r" \\"
    yield r"\midrule"
    for row in table.rows:
        head = rf"\emph{{{escape(row.head)}}}" if row.null else escape(row.head)
        yield " & ".join([head, *(_cell(cell) for cell in row.cells)]) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _kinds(table: Table) -> str:
    """Columns: numbers to the right; what is longer than a number wraps, in what the page of a paper has left."""
    cells = [[_cell(row.cells[i]) for row in table.rows if i < len(row.cells)] for i in range(len(table.columns) - 1)]
    longest = [
        max((len(row.head) for row in table.rows), default=0),
        *(max(map(len, one), default=0) for one in cells),
    ]
    wraps = [long > (NARROW if i else WIDE_HEAD) for i, long in enumerate(longest)]
    width = max(1.8, min(4.0, (PAPER_CM - 1.6 * wraps.count(False)) / max(1, wraps.count(True))))
    short = ["r" if column.numeric else "l" for column in table.columns]
    return "".join(f"p{{{width:.1f}cm}}" if wrap else kind for wrap, kind in zip(wraps, short, strict=True))


def _cell(cell: Cell) -> str:
    if isinstance(cell, Badge):
        return escape(cell.text)
    if isinstance(cell, Value):
        return escape(cell.text) + (f" {escape(cell.detail)}" if cell.detail else "")
    return escape(cell)
