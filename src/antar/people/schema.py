"""The annotation database: tables, version, and how it is opened.

One SQLite file holds a run's sheet and all that people said of it. It is in WAL mode with full synchronisation: many
may read and write at once, and a write that was accepted survives a power cut. `user_version` is the schema's.

Answers are an append-only log. What stands is the view `answers`: the newest write of each field. So nothing that
anybody ever answered is lost, two copies are merged by putting their logs together, and an undo is a write as well.
What a person must not see (the feature, whose label it is) is in `keys`, apart from `items`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from antar.core.errors import UserError

SCHEMA_VERSION = 2
SHEET = "annotations.sqlite"
SYNCHRONOUS = "FULL"
WAIT_S = 60.0
"""How long a writer waits for the others before it gives up."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE annotators (name TEXT PRIMARY KEY CHECK (name <> '')) STRICT;
CREATE TABLE items (
  item TEXT PRIMARY KEY,           -- an id that says nothing
  label TEXT NOT NULL              -- shown only after the blind answers
) STRICT;
CREATE TABLE item_texts (
  item TEXT NOT NULL REFERENCES items(item),
  place INTEGER NOT NULL,
  text_id TEXT NOT NULL,
  text TEXT NOT NULL,
  language TEXT NOT NULL,
  PRIMARY KEY (item, place)
) STRICT;
CREATE TABLE keys (                -- what the annotators are blind to
  item TEXT PRIMARY KEY REFERENCES items(item),
  role TEXT NOT NULL CHECK (role IN ('own', 'wrong_label', 'repeat')),
  repeats TEXT REFERENCES items(item),
  feature TEXT NOT NULL,
  label_of TEXT NOT NULL,          -- the feature whose label is shown
  site TEXT NOT NULL,              -- the dictionary
  language TEXT NOT NULL,
  category TEXT NOT NULL,          -- the labeller's
  verdict TEXT NOT NULL,           -- the validator's, of this label
  validator TEXT NOT NULL,
  effect TEXT NOT NULL
) STRICT;
CREATE TABLE writes (
  write TEXT PRIMARY KEY CHECK (length(write) BETWEEN 8 AND 64),  -- made by who writes: twice is once
  annotator TEXT NOT NULL REFERENCES annotators(name),
  item TEXT NOT NULL REFERENCES items(item),
  field TEXT NOT NULL CHECK (
    field IN ('pattern', 'what', 'revealed', 'verdict', 'kind', 'label', 'submitted', 'seconds')),
  value TEXT NOT NULL,             -- '' takes an answer back
  at INTEGER NOT NULL,             -- ms since 1970, later than every write that was here when it came
  undoes TEXT
) STRICT;
CREATE INDEX writes_of_field ON writes (annotator, item, field, at);
CREATE INDEX writes_by_time ON writes (at);
CREATE TABLE rulings (             -- the consensus, apart from what anybody answered alone
  ruling TEXT PRIMARY KEY CHECK (length(ruling) BETWEEN 8 AND 64),
  item TEXT NOT NULL REFERENCES items(item),
  adjudicator TEXT NOT NULL CHECK (adjudicator <> ''),
  verdict TEXT NOT NULL CHECK (verdict IN ('KEEP', 'REVISE', 'INVALIDATE')),
  kind TEXT NOT NULL CHECK (kind IN ('cultural', 'linguistic', 'topical', 'other')),
  label TEXT NOT NULL,
  note TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;
CREATE INDEX rulings_by_time ON rulings (at);
-- A blind answer that was given after its label had been seen is kept, and does not stand.
CREATE VIEW answers AS
  SELECT annotator, item, field, value, at FROM (
    SELECT *, row_number() OVER (PARTITION BY annotator, item, field ORDER BY at DESC, write DESC) AS age
    FROM writes AS w
    WHERE field <> 'seconds' AND NOT (field IN ('pattern', 'what') AND EXISTS (
      SELECT 1 FROM writes AS r
      WHERE r.annotator = w.annotator AND r.item = w.item AND r.field = 'revealed' AND r.at < w.at)))
  WHERE age = 1 AND value <> '';
CREATE VIEW consensus AS
  SELECT ruling, item, adjudicator, verdict, kind, label, note, at FROM (
    SELECT *, row_number() OVER (PARTITION BY item ORDER BY at DESC, ruling DESC) AS age FROM rulings)
  WHERE age = 1;
"""


@contextmanager
def connect(path: Path, *, write: bool = False) -> Generator[sqlite3.Connection]:
    """The database at `path`. With `write`, one transaction: committed when the block ends, rolled back when it
    raises, and nobody else writes in between.

    Raises UserError when there is no sheet at `path`, or one of another version, or when others write for too long.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected an annotation sheet, found no file; `antar annotate init RUN` draws one")
    connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        _check_version(connection, path)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        if write:
            connection.execute("BEGIN IMMEDIATE")
        else:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled back already
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        raise UserError(f"{path}: expected a turn to write, found it busy for {WAIT_S:g} s; try again") from error
    finally:
        connection.close()


def create(path: Path) -> None:
    """Make an empty sheet at `path`, where no file is."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    finally:
        connection.close()


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: expected an annotation sheet, found {error}; `antar annotate init RUN` draws one"
        ) from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: expected version {SCHEMA_VERSION} of the annotation sheet, found {version}; "
            "open it with the antar that made it, or move it away and draw a new one"
        )
