"""Rows of the file formats that antar reads: JSONL, CSV, TSV, parquet, CoNLL-U, and plain text with one a line.

Each reader yields rows one by one and knows where each stands, so that an error names the file and the line. A
byte-order mark is taken off; bytes that are not UTF-8 are an error and never replaced.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antar.core.errors import UserError

FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".conllu": "conllu",
           ".txt": "txt"}  # fmt: skip
LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True)
class Row:
    """values: column name, or 0-based index where there is no header → value; number: 1-based, of the row."""

    values: Mapping[str | int, Any]
    path: Path
    line: int
    number: int

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


def format_of(path: Path, stated: str | None = None) -> str:
    kind = stated or FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(
            f"{path}: expected {', '.join(FORMATS)}, found {path.suffix or 'no ending'}; set `format` in its source"
        )
    return kind


def read_rows(path: Path, kind: str, *, header: bool = True, quoted: bool | None = None) -> Iterator[Row]:
    """The rows of `path` in order. Raises a UserError that names the file and the line."""
    if not path.is_file():
        raise UserError(f"{path}: expected a file, found none; check the path in the study file")
    if kind == "jsonl":
        yield from _jsonl(path)
    elif kind == "parquet":
        yield from _parquet(path)
    elif kind == "conllu":
        yield from _conllu(path)
    elif kind == "txt":
        yield from _lines(path)
    else:
        if quoted is None:
            quoted = kind == "csv" or header
        yield from _table(path, "," if kind == "csv" else "\t", header, quoted)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(1-based number, line with its end). Raises a UserError for bytes that are not UTF-8."""
    with path.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: expected UTF-8, found byte 0x{raw[error.start]:02x}; save the file as UTF-8"
                ) from error
            yield number, line.removeprefix("\ufeff") if number == 1 else line


def _jsonl(path: Path) -> Iterator[Row]:
    count = 0
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: expected one JSON object a line, found {error}") from error
        if not isinstance(value, dict):
            raise UserError(f"{path}:{number}: expected a JSON object, found {type(value).__name__}")
        count += 1
        yield Row(value, path, number, count)


def _lines(path: Path) -> Iterator[Row]:
    """Plain text: each line that is not empty is a row with the one column `text`."""
    count = 0
    for number, line in text_lines(path):
        if line.strip():
            count += 1
            yield Row({"text": line.rstrip("\r\n")}, path, number, count)


def _table(path: Path, delimiter: str, header: bool, quoted: bool) -> Iterator[Row]:
    # csv's default limit of 131,072 characters is below a long document. The setting is csv's own, process-wide.
    csv.field_size_limit(LONGEST_FIELD)
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    lines = (line for _, line in text_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    names: list[str | int] | None = None
    count, started = 0, 1
    try:
        for fields in reader:
            line, started = started, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if names is None:
                names = [name.strip() for name in fields] if header else list(range(len(fields)))
                if header:
                    continue
            if len(fields) != len(names):
                raise UserError(f"{path}:{line}: expected {len(names)} columns, found {len(fields)}")
            count += 1
            yield Row(dict(zip(names, fields, strict=True)), path, line, count)
    except csv.Error as error:
        raise UserError(
            f"{path}:{started}: expected delimited text, found {error}; if its double quotes are plain characters, "
            "set `quoted: false` in its source"
        ) from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    count = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=2048):
                for values in batch.to_pylist():
                    count += 1
                    yield Row(values, path, count, count)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: expected a parquet file, found {reason}; fetch or write it again") from error


def _conllu(path: Path) -> Iterator[Row]:
    """One row a sentence: `text`, `sent_id`, `newdoc` (the running document) and its other `# key = value` lines."""
    document: str | None = None
    comments: dict[str | int, Any] = {}
    started = count = 0
    for number, line in [*text_lines(path), (0, "\n")]:
        line = line.rstrip("\r\n")
        if line.startswith("#"):
            key, equals, value = line[1:].partition("=")
            key, value = key.strip(), value.strip()
            if key in {"newdoc id", "newdoc"}:
                document = value or f"{path.stem}:{number}"
            elif equals:
                comments[key] = value
            started = started or number
        elif not line.strip() and comments:
            count += 1
            yield Row({**comments, "newdoc": document}, path, started, count)
            comments, started = {}, 0


def value_of(row: Row, column: str | int) -> Any:
    """The value of a mapped column, or a UserError that names the file and the columns it has."""
    if column in row.values:
        return row.values[column]
    names = ", ".join(map(str, row.values))
    raise UserError(f"{row.where}: expected the column {column!r}, found {names}; map it in the study file")


def text_of(row: Row, column: str | int) -> str | None:
    """The value of a mapped column as text: None stays None, numbers are written out, other things are errors."""
    value = value_of(row, column)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise UserError(f"{row.where}: expected text in {column!r}, found {type(value).__name__}")
