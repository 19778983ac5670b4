"""The texts of a planted organism: `texts.jsonl` with text_id, text, group, language, document and facets.

Ids and documents are kept as they are, because the organism's `truth.json` speaks of the same texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from antar.core.errors import UserError
from antar.corpora.config import FACET_RESERVED, Organism
from antar.corpora.records import Opened, Place, RawText
from antar.corpora.rows import Row, read_rows, text_of
from antar.corpora.sources.files import GROUPS

FIELDS = ("text_id", "text", "group", "language", "document")


def _path(source: Organism, place: Place) -> Path:
    if place.organism_texts is None:
        raise UserError(f"{source.label}: expected an organism among the models of the study, found none")
    return place.organism_texts


def inputs(source: Organism, place: Place) -> dict[str, Path]:
    path = _path(source, place)
    return {f"{source.label}/{path.name}": path}


def open_source(source: Organism, place: Place) -> Opened:
    return Opened(_read(_path(source, place)), {})


def _read(path: Path) -> Iterator[RawText]:
    for row in read_rows(path, "jsonl"):
        yield _raw_text(row)


def _raw_text(row: Row) -> RawText:
    fields = {name: text_of(row, name) for name in FIELDS}
    empty = [name for name in FIELDS if not fields[name]]
    if empty:
        raise UserError(f"{row.where}: expected a value in {empty[0]!r}, found none; make the organism again")
    if fields["group"] not in GROUPS:
        raise UserError(f"{row.where}: expected cultural or control in 'group', found {fields['group']!r}")
    facets = {
        str(name): None if value is None else str(value)
        for name, value in row.values.items()
        if name not in FACET_RESERVED
    }
    return RawText(
        text_id=str(fields["text_id"]),
        text=str(fields["text"]),
        group=str(fields["group"]),
        language=fields["language"],
        document=str(fields["document"]),
        facets=facets,
    )
