"""LaTeX that data cannot break: texts escaped, and a booktabs table of them.

A cell of data is printed as it reads and can never be a command, a comment or an option. Other scripts stay as they
are: XeLaTeX or LuaLaTeX with a font that has them sets them; pdfLaTeX does for Latin only.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

from antar.core.errors import UserError

PREAMBLE = r"% needs \usepackage{booktabs}; for Hindi, XeLaTeX or LuaLaTeX with a font that has Devanagari"
_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': r"\symbol{34}",
    # After the end of a row a bracket would open its option, and a star change it.
    "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # can show a text as another one


def escape(text: str) -> str:
    """`text` as LaTeX that prints it, on one line. Control and direction characters are left out; joiners stay."""
    flat = " ".join(text.split())
    kept = (c for c in flat if c not in _DIRECTIONS and unicodedata.category(c) not in {"Cc", "Cs"})
    escaped = "".join(_ESCAPED.get(c, c) for c in kept)
    # Ligatures would print a dash for two hyphens and one quotation mark for two.
    return re.sub(r"--+|''+|,,+", lambda found: "{}".join(found[0]), escaped)


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits, as mathematics; an integer whole."""
    if isinstance(value, int):
        return f"${value}$" if value < 0 else str(value)
    if math.isnan(value):
        return "--"
    if math.isinf(value):
        return r"$\infty$" if value > 0 else r"$-\infty$"
    shown = f"{value:.{digits}g}"
    if "e" in shown:
        head, power = shown.split("e")
        return rf"${head}\times10^{{{int(power)}}}$"
    return f"${shown}$" if value < 0 else shown


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A booktabs `tabular`: `columns` are the heads, each of `rows` has a cell for every one.

    Cells: text is escaped, a number is set with three significant digits, a boolean is yes or no, None is a dash.
    Columns of numbers stand to the right. Raises `UserError` for a row that is shorter or longer than the heads.
    """
    for place, row in enumerate(rows):
        if len(row) != len(columns):
            raise UserError(f"row {place} of a table: expected {len(columns)} cells, found {len(row)}")
    sides = "".join("r" if _of_numbers([row[place] for row in rows]) else "l" for place in range(len(columns)))
    lines = [_line([escape(name) for name in columns])]
    lines += [_line([_cell(value) for value in row]) for row in rows]
    head, *body = lines
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(value: object) -> str:
    if value is None:
        return "--"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else escape(str(value))


def _of_numbers(cells: Sequence[object]) -> bool:
    found = [value for value in cells if value is not None]
    return bool(found) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in found)
