"""Anybody's texts: JSONL, CSV, TSV, parquet, CoNLL-U or plain lines, with their columns mapped in the study file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from antar.core.errors import UserError
from antar.corpora.config import Files
from antar.corpora.records import Opened, Place, RawText
from antar.corpora.rows import Row, format_of, read_rows, text_of, value_of

GROUPS = ("cultural", "control")


def _paths(source: Files, place: Place) -> list[Path]:
    paths: list[Path] = []
    for pattern in source.paths:
        path = place.resolve(pattern)
        if "*" not in pattern:
            found = [path] if path.is_file() else []
        else:
            anchor = Path(path.anchor)
            found = sorted(match for match in anchor.glob(str(path.relative_to(anchor))) if match.is_file())
        if not found:
            raise UserError(f"{source.label}: expected a file, found none at {path}; check `paths` in the study file")
        paths += [match for match in found if match not in paths]
    return paths


def inputs(source: Files, place: Place) -> dict[str, Path]:
    return {f"{source.label}/{number}/{path.name}": path for number, path in enumerate(_paths(source, place))}


def open_source(source: Files, place: Place) -> Opened:
    paths = _paths(source, place)
    return Opened(_read(source, paths), {"files": [path.name for path in paths]})


def _read(source: Files, paths: list[Path]) -> Iterator[RawText]:
    for number, path in enumerate(paths):
        kind = format_of(path, source.format)
        prefix = f"{number}." if len(paths) > 1 else ""
        seen: set[str] = set()
        last: Row | None = None
        for last in read_rows(path, kind, header=source.header, quoted=source.quoted):
            yield _raw_text(source, last, kind, prefix, seen)
        unseen = [str(column) for facet, column in source.facets.items() if facet not in seen]
        if last is not None and unseen:
            found = ", ".join(map(str, last.values))
            raise UserError(f"{path}: expected the column {unseen[0]!r} for a facet, found {found}")


def _raw_text(source: Files, row: Row, kind: str, prefix: str, seen_facets: set[str]) -> RawText:
    text = text_of(row, source.text)
    key = f"{prefix}{row.number}"
    if source.id is not None:
        key = _needed(row, source.id)
    elif kind == "conllu" and row.values.get("sent_id"):
        key = str(row.values["sent_id"])
    document = f"{prefix}{row.number}"
    if source.document is not None:
        document = _needed(row, source.document)
    elif kind == "conllu" and row.values.get("newdoc"):
        document = str(row.values["newdoc"])
    return RawText(
        text_id=f"{source.label}:{key}",
        text=text or "",
        group=_group(source, row),
        language=_language(source, row),
        document=f"{source.documents_of or source.label}:{document}",
        facets=_facets(source, row, seen_facets),
        problem=None if text and text.strip() else "no text",
    )


def _needed(row: Row, column: str | int) -> str:
    value = text_of(row, column)
    if not value:
        raise UserError(f"{row.where}: expected a value in {column!r}, found none; each text needs one")
    return value


def _group(source: Files, row: Row) -> str:
    if source.group_column is None:
        return source.group
    value = str(value_of(row, source.group_column)).strip()
    if value not in GROUPS:
        raise UserError(f"{row.where}: expected cultural or control in {source.group_column!r}, found {value!r}")
    return value


def _language(source: Files, row: Row) -> str | None:
    if source.language is not None or source.language_column is None:
        return source.language
    return text_of(row, source.language_column) or None


def _facets(source: Files, row: Row, seen: set[str]) -> dict[str, str | None]:
    facets: dict[str, str | None] = {}
    for facet, column in source.facets.items():
        # JSONL leaves out what a row does not have; a column that no row has is a mistake in the study file.
        if column in row.values:
            seen.add(facet)
            facets[facet] = text_of(row, column) or None
        else:
            facets[facet] = None
    return facets
