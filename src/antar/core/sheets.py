"""CSV that spreadsheets open as it is meant: no text is taken for a formula, and Hindi is Hindi."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

# Full-width signs begin a formula in East Asian versions.
_FORMULA = re.compile(r"^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file: UTF-8, `columns` as its first line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(value) for value in row] for row in rows)
    # With a byte order mark, without which spreadsheets take Hindi for Latin-1.
    return ("\ufeff" + buffer.getvalue()).encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe, which spreadsheets do not show."""
    if isinstance(value, str):
        return (f"'{value}" if _FORMULA.match(value) else value).replace("\0", "\u2400")
    return value
