"""The table of texts that every later stage reads: its columns, and the check that a table keeps to them."""

from __future__ import annotations

import polars as pl

from antar.core.errors import UserError

REQUIRED_COLUMNS = ("text_id", "text", "group", "language", "source", "document", "split", "half")
MASKED_OF = "masked_of"
"""The column of a masked copy (`mask.py`): the id of its text; null elsewhere, absent without copies."""
READING, BARE, CHAT = "reading", "bare", "chat"
"""The facet of a corpus that is read twice (`readings.py`), and its two values."""
READING_OF = "reading_of"
"""Its other column: the id of the text, the same for both of its rows; absent where each text is read once."""
_ALLOWED = {
    "group": {"cultural", "control"},
    "split": {"train", "val", "heldout", "crosscheck"},
    "half": {"select", "estimate"},
}


def facet_columns(texts: pl.DataFrame) -> list[str]:
    """The columns of `texts` that are facets, in their order."""
    return [name for name in texts.columns if name not in (*REQUIRED_COLUMNS, MASKED_OF, READING_OF)]


def check_texts(texts: pl.DataFrame, where: str = "texts") -> pl.DataFrame:
    """Return `texts` when it is a table of texts, else raise a UserError that names `where` and what is wrong."""
    missing = [name for name in REQUIRED_COLUMNS if name not in texts.columns]
    if missing:
        raise UserError(f"{where}: expected the columns {', '.join(REQUIRED_COLUMNS)}, {', '.join(missing)} missing")
    if texts.is_empty():
        raise UserError(f"{where}: expected texts, found none")
    not_strings = [name for name in texts.columns if texts.schema[name] != pl.String]
    if not_strings:
        raise UserError(f"{where}: expected strings, found {texts.schema[not_strings[0]]} in {not_strings[0]}")
    for name in REQUIRED_COLUMNS:
        if texts[name].null_count():
            raise UserError(f"{where}: {name} is empty in {texts[name].null_count()} rows; every text needs one")
    for name, allowed in _ALLOWED.items():
        strange = sorted(set(texts[name].unique()) - allowed)
        if strange:
            raise UserError(f"{where}: {name} must be {' or '.join(sorted(allowed))}, found {strange[0]!r}")
    if texts["text_id"].n_unique() != texts.height:
        twice = texts["text_id"].filter(texts["text_id"].is_duplicated())[0]
        raise UserError(f"{where}: text_id must be unique, found {twice!r} more than once")
    for name in ("split", "half"):
        torn = texts.group_by("document").agg(pl.col(name).n_unique().alias("n")).filter(pl.col("n") > 1)
        if torn.height:
            raise UserError(f"{where}: document {torn['document'].min()!r} lies in more than one {name}")
    return texts
