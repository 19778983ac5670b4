"""Builds the file that the browser reads: `python -m antar.web.explore.build RUN FILE`.

A process of its own, so that the memory that it takes is given back and the server answers meanwhile. The file is
one SQLite database: the table of features and the links between features and texts as blobs that are read at once,
the texts one by one, and two full-text indexes (FTS5) over folded labels and folded texts. It is a cache: whole or
absent, stamped with what it was built from, and safe to delete.
"""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from antar.core.atomic import replacing
from antar.core.errors import UserError
from antar.core.hashing import code_version, sha256_json
from antar.run import Run, load_run
from antar.web.explore.fold import fold
from antar.web.explore.summary import has_contrasts, null_points, summarise

INPUTS = (
    "study.yaml",
    "corpus/texts.parquet",
    "corpus/manifest.json",
    "features/features.parquet",
    "features/examples.parquet",
    "features/manifest.json",
    "features/contrasts.parquet",
    "features/coherence.parquet",
    "features/matches.parquet",
    "interpret/labels.jsonl",
    "interpret/verdicts.jsonl",
    "interpret/predictions.jsonl",
    "criteria.json",
    "criteria.manifest.json",
)
TOKENS = "unicode61 remove_diacritics 0 categories 'L* N* M*'"
"""Without M* a matra would end a word. Accents are folded before, and only where they are accents."""
_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE blobs (name TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE texts (row INTEGER PRIMARY KEY, text_id TEXT, text TEXT, about TEXT);
CREATE VIRTUAL TABLE in_texts USING fts5(body, content='', detail=full, tokenize="{TOKENS}", prefix='2 3 4');
CREATE VIRTUAL TABLE in_labels USING fts5(body, content='', detail=full, tokenize="{TOKENS}", prefix='2 3 4');
"""


def stamp_of(run: Run) -> str:
    """What an index of `run` as it is now is stamped with: its inputs' sizes, times and manifests, and this code."""
    found: dict[str, object] = {"code": code_version("web/explore", "run.py", "interpret/scores.py")}
    for name in INPUTS:
        path = run.folder / name
        if path.is_file():
            facts = path.stat()
            # Manifests hold the checksums of what they are of: they are small, and are read whole.
            content = path.read_text(encoding="utf-8", errors="replace") if name.endswith("manifest.json") else ""
            found[name] = [facts.st_size, facts.st_mtime_ns, content]
    return sha256_json(found)


def build_index(run: Run, path: Path) -> None:
    """Write the index of `run` to `path`. Raises UserError where the run has no features yet."""
    stamp = stamp_of(run)
    with replacing(path) as temporary:
        made = sqlite3.connect(temporary)
        try:
            # The file is synced when it is whole, and nobody reads it before.
            made.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA page_size=8192;" + _SCHEMA)
            frame = summarise(run)
            _write_features(made, frame)
            _write_examples(made, run, frame)
            facets = _write_texts(made, run)
            points = null_points(run).to_dicts() if has_contrasts(run) else []
            _write_meta(made, {"stamp": stamp, "null_points": points, "facets": facets})
            made.commit()
        finally:
            made.close()


def _write_meta(made: sqlite3.Connection, values: dict[str, object]) -> None:
    made.executemany("INSERT INTO meta VALUES (?, ?)", [(name, json.dumps(value)) for name, value in values.items()])


def _write_blob(made: sqlite3.Connection, name: str, data: bytes) -> None:
    made.execute("INSERT INTO blobs VALUES (?, ?)", (name, data))


def _write_frame(made: sqlite3.Connection, name: str, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_ipc(buffer)
    _write_blob(made, name, buffer.getvalue())


def _write_features(made: sqlite3.Connection, frame: pl.DataFrame) -> None:
    _write_frame(made, "features", frame)
    labels = frame.select("number", "label").drop_nulls()
    rows = ((number + 1, fold(storable(label))) for number, label in labels.iter_rows())
    made.executemany("INSERT INTO in_labels(rowid, body) VALUES (?, ?)", rows)


def _write_examples(made: sqlite3.Connection, run: Run, frame: pl.DataFrame) -> None:
    """Feature → its examples (rows, strengths, whether the labeller saw them), and text → features, both in a row."""
    n_texts = run.texts.height
    if run.has("features/examples.parquet"):
        numbered = run.examples.lazy().join(frame.lazy().select("feature", "number"), on="feature", how="inner")
        chosen = numbered.select(
            pl.col("number").cast(pl.Int32), pl.col("row").cast(pl.Int32), pl.col("activation").cast(pl.Float32),
            (pl.col("pool") == "select").alias("seen"),
        ).sort("number", "activation", "row", descending=[False, True, False]).collect()  # fmt: skip
    else:
        kinds = {"number": pl.Int32, "row": pl.Int32, "activation": pl.Float32, "seen": pl.Boolean}
        chosen = pl.DataFrame(schema=kinds)
    numbers, rows = chosen["number"].to_numpy(), chosen["row"].to_numpy()
    by_text = np.argsort(rows, kind="stable")
    arrays = {
        "example_rows": rows,
        "example_strengths": chosen["activation"].to_numpy(),
        "example_seen": chosen["seen"].to_numpy().astype(np.uint8),
        "example_starts": _starts(numbers, frame.height),
        "text_features": numbers[by_text].astype(np.int32),
        "text_starts": _starts(rows, n_texts),
    }
    for name, array in arrays.items():
        _write_blob(made, name, np.ascontiguousarray(array).tobytes())


def _starts(places: np.ndarray, n: int) -> np.ndarray:
    """int64 `[n + 1]`: where each place's entries begin, of entries sorted by place."""
    return np.concatenate([[0], np.cumsum(np.bincount(places, minlength=n))]).astype(np.int64)


def _write_texts(made: sqlite3.Connection, run: Run) -> list[str]:
    """Write the texts and their index; return the names of their facets."""
    from antar.corpora.schema import facet_columns  # datasets: only where an index is built

    facets = facet_columns(run.texts)
    facts = [pl.col(name).cast(pl.Categorical) for name in ("group", "language", "split")]
    _write_frame(made, "text_facts", run.texts.select(*facts, pl.col("document").rank("dense").cast(pl.Int32)))
    made.executemany("INSERT INTO texts VALUES (?, ?, ?, ?)", _text_rows(run.texts, facets))
    rows = made.execute("SELECT row, text FROM texts")
    made.executemany("INSERT INTO in_texts(rowid, body) VALUES (?, ?)", _folded(rows))
    made.execute("INSERT INTO in_texts(in_texts) VALUES ('optimize')")
    return facets


def _folded(rows: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((row + 1, fold(text)) for row, text in rows)


def _text_rows(texts: pl.DataFrame, facets: list[str]) -> Iterator[tuple[int, str, str, str]]:
    for row, text in enumerate(texts.iter_rows(named=True)):
        about = {
            "language": text["language"], "group": text["group"], "source": text["source"], "split": text["split"],
            "facets": {name: text[name] for name in facets if text[name] is not None},
        }  # fmt: skip
        yield row, storable(text["text_id"]), storable(text["text"]), json.dumps(about, ensure_ascii=True)


def storable(text: str) -> str:
    """SQLite's text functions end at a NUL: it is kept as the sign for one, so that all that follows is searched."""
    return text.replace("\0", "\u2400").encode("utf-8", "replace").decode("utf-8")


def main(arguments: list[str]) -> int:
    """Build; a user's mistake is one line and exit code 2."""
    folder, path = arguments
    try:
        build_index(load_run(folder), Path(path))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
