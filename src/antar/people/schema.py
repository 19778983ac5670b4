"""The annotation database: tables, version, and how it is opened.

SQLite with full synchronisation, so that an answer that was accepted survives a power cut. `user_version` is the
schema's version. What a person must not see (feature, origin of the label) is in `keys`, apart from `items`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from antar.core.errors import UserError

SCHEMA_VERSION = 1

THEME_CHOICES = ("yes", "no", "unsure")
FIT_CHOICES = ("yes", "partly", "no")
QUESTIONS = {"theme": THEME_CHOICES, "fits": FIT_CHOICES}
"""`theme`: is there one theme in these texts? `fits`: does the label fit it?"""

_TABLES = """
CREATE TABLE items (
  item TEXT PRIMARY KEY,           -- an id that says nothing
  label TEXT NOT NULL
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
  feature TEXT NOT NULL,
  dictionary TEXT NOT NULL,
  wrong_label INTEGER NOT NULL CHECK (wrong_label IN (0, 1)),
  label_of TEXT NOT NULL           -- the feature whose label is shown
) STRICT;
CREATE TABLE answers (
  item TEXT NOT NULL REFERENCES items(item),
  annotator TEXT NOT NULL CHECK (annotator <> ''),
  theme TEXT NOT NULL CHECK (theme IN ('', 'yes', 'no', 'unsure')),
  fits TEXT NOT NULL CHECK (fits IN ('', 'yes', 'partly', 'no')),
  note TEXT NOT NULL,
  PRIMARY KEY (item, annotator)
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@contextmanager
def connect(path: Path, *, create: bool = False) -> Generator[sqlite3.Connection]:
    """The database at `path`: committed when the block ends, rolled back when it raises.

    Raises UserError when there is no sheet at `path`, or one of another version.
    """
    if not create and not path.is_file():
        raise UserError(f"{path}: expected an annotation sheet, found no file; make one for this run first")
    connection = sqlite3.connect(path, timeout=30)
    try:
        if create:
            connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        else:
            _check_version(connection, path)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            yield connection
    finally:
        connection.close()


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: expected an annotation sheet, found {error}; make one for this run first"
        ) from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: expected version {SCHEMA_VERSION} of the annotation sheet, found {version}; "
            "open it with the antar that made it, or make a new sheet"
        )
