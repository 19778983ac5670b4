"""CSV that spreadsheets open as it is meant: no text is taken for a formula, and Hindi is Hindi."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

# Full-width signs begin a formula in East Asian versions.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file: UTF-8, `columns` as its first line, nothing for None."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(value) for value in row] for row in rows)
    # With a byte order mark, without which spreadsheets take Hindi for Latin-1.
    return ("\ufeff" + buffer.getvalue()).encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    return escape_cell(value).replace("\0", "\u2400") if isinstance(value, str) else value


def escape_cell(cell: str) -> str:
    """`cell` with an apostrophe before it, which spreadsheets do not show, when one would read it as a formula."""
    return f"'{cell}" if _is_formula(cell) else cell


def unescape_cell(cell: str) -> str:
    """What `escape_cell` escaped."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    # Apostrophes in front are looked through, so that taking one off again gives back what was there.
    bare = cell.lstrip("'")
    return bare.startswith(_FORMULA) or bare.lstrip().startswith(_FORMULA)
