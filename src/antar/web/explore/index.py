"""The index as the pages read it, and who sees to it that there is one that fits the run as it is now."""

from __future__ import annotations

import atexit
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.run import Run, load_run
from antar.web.explore.build import stamp_of
from antar.web.explore.fold import match_expression

CACHE = ".cache/browser.sqlite"
"""In the run folder: derived from it, and safe to delete."""


@dataclass(frozen=True)
class Text:
    """A text of the corpus as a page shows it."""

    row: int
    text_id: str
    text: str
    language: str
    group: str
    source: str
    split: str
    facets: Mapping[str, str]


@dataclass(frozen=True)
class Examples:
    """The strongest texts of a feature, strongest first: `rows`, `strengths` and whether the labeller `seen` them."""

    rows: np.ndarray
    strengths: np.ndarray
    seen: np.ndarray


class Index:
    """An index file, open for reading. May be asked by several threads at once."""

    def __init__(self, path: Path) -> None:
        self._reading = threading.Lock()
        self._file = sqlite3.connect(f"file:{path.resolve().as_posix()}?mode=ro", uri=True, check_same_thread=False)
        self.meta: dict[str, Any] = {name: json.loads(v) for name, v in self._rows("SELECT name, value FROM meta")}
        self.frame = pl.read_ipc(io.BytesIO(self._blob("features")))
        self._numbers: dict[str, int] = dict(zip(self.frame["feature"], self.frame["number"], strict=True))

    def number(self, feature: str) -> int | None:
        """A feature's row in `frame`."""
        return self._numbers.get(feature)

    def row(self, number: int) -> dict[str, Any]:
        return self.frame.row(number, named=True)

    def examples(self, number: int) -> Examples:
        lo, hi = (int(end) for end in self._array("example_starts", np.int64)[number : number + 2])
        return Examples(
            self._array("example_rows", np.int32)[lo:hi],
            self._array("example_strengths", np.float32)[lo:hi],
            self._array("example_seen", np.uint8)[lo:hi].astype(bool),
        )

    def texts(self, rows: Sequence[int]) -> dict[int, Text]:
        marks = ",".join("?" * len(rows))
        found = self._rows(
            f"SELECT row, text_id, text, about FROM texts WHERE row IN ({marks})", [int(r) for r in rows]
        )
        return {row: Text(row, text_id, text, **json.loads(about)) for row, text_id, text, about in found}

    def search(self, asked: str) -> np.ndarray | None:
        """bool `[n_features]`: whose label or one of whose examples has all words; None where no word was asked."""
        expression = match_expression(asked)
        if expression is None:
            return None
        found = np.zeros(self.frame.height, dtype=bool)
        labels = self._rows("SELECT rowid FROM in_labels WHERE in_labels MATCH ?", [expression])
        found[[row - 1 for (row,) in labels]] = True
        texts = self._rows("SELECT rowid FROM in_texts WHERE in_texts MATCH ?", [expression])
        rows = np.fromiter((row - 1 for (row,) in texts), dtype=np.int64, count=len(texts))
        found[self._features_of(rows)] = True
        return found

    def _features_of(self, rows: np.ndarray) -> np.ndarray:
        """The features that have one of the texts `rows` among their examples, with repeats."""
        starts, features = self._array("text_starts", np.int64), self._array("text_features", np.int32)
        wanted = np.zeros(len(starts) - 1, dtype=bool)
        wanted[rows] = True
        return features[np.repeat(wanted, np.diff(starts))]

    @cached_property
    def text_facts(self) -> pl.DataFrame:
        """`group, language, split, document` of every text, in the order of the rows."""
        return pl.read_ipc(io.BytesIO(self._blob("text_facts")))

    def beside(self, contrast: str, facet: str | None, language: str, dictionary: str) -> dict[str, float]:
        """Null → 95% point of |d| on it, for one comparison at one site."""
        family, layer = dictionary.split(".")[0].split(":")[0], int(dictionary.split(".layer")[1].split(".")[0])
        return self._points.get((contrast, facet, language, family, layer), {})

    @cached_property
    def _points(self) -> dict[tuple[Any, ...], dict[str, float]]:
        points: dict[tuple[Any, ...], dict[str, float]] = {}
        for row in self.meta["null_points"]:
            key = tuple(row[name] for name in ("contrast", "facet", "language", "family", "layer"))
            points.setdefault(key, {})[row["null"]] = row["point"]
        return points

    def _array(self, name: str, kind: type[np.generic]) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = np.frombuffer(self._blob(name), dtype=kind)
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return {}

    def _blob(self, name: str) -> bytes:
        return self._rows("SELECT data FROM blobs WHERE name = ?", [name])[0][0]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._reading:  # one connection serves all threads
            return self._file.execute(query, values).fetchall()

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Opened:
    """A run with the index that was built from it."""

    run: Run
    index: Index


class Keeper:
    """Gives the run and its index as they are now, and has a new index built when the run has changed.

    Building happens in a process of its own; meanwhile `now` says None after `patience` seconds, and a page says so.
    """

    def __init__(self, folder: Path, patience: float = 2.0) -> None:
        self._folder, self._patience = folder, patience
        self._opened: tuple[str, Opened] | None = None
        self._failure: tuple[str, str] | None = None
        self._building: tuple[str, subprocess.Popen[str]] | None = None
        self._built: str | None = None  # the stamp that was last built for: the same one is never built for twice
        self._lock = threading.Lock()
        atexit.register(self.close)

    def start(self) -> None:
        """Open an index that fits, or begin to build one. What stands against it is said on the first page."""
        with self._lock, suppress(UserError):
            self._step(load_run(self._folder))

    def now(self) -> Opened | None:
        """The run and its index; None while it is being built. Raises UserError where it cannot be built."""
        run = load_run(self._folder)
        waiting = None
        with self._lock:
            opened = self._step(run)
            if opened is None and self._building is not None:
                waiting = self._building[1]
        if opened is not None or waiting is None:
            return opened
        try:
            waiting.wait(self._patience)
        except subprocess.TimeoutExpired:
            return None
        with self._lock:
            return self._step(run)

    def _step(self, run: Run) -> Opened | None:
        stamp = stamp_of(run)
        if self._opened is not None and self._opened[0] == stamp:
            return self._opened[1]
        self._collect()
        if self._failure is not None and self._failure[0] == stamp:
            raise UserError(self._failure[1])
        for path in (self._folder / CACHE, self._elsewhere):
            index = _open_if_fresh(path, stamp) if path is not None else None
            if index is not None:
                self._opened = stamp, Opened(run, index)
                return self._opened[1]
        if self._building is None:
            if self._built == stamp:
                raise UserError("antar was updated since this server started: stop it and start it again.")
            if not run.has("features/features.parquet"):
                raise UserError("This run has no features yet: `antar run STUDY` finds them.")
            self._building = stamp, self._build()
        return None

    def _build(self) -> subprocess.Popen[str]:
        path = self._elsewhere or self._writable()
        command = [sys.executable, "-m", "antar.web.explore.build", str(self._folder), str(path)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    _elsewhere: Path | None = None

    def _writable(self) -> Path:
        """In the run folder, or in a folder that goes with this process where that one is read-only."""
        path = self._folder / CACHE
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                return path
        except OSError:
            made = Path(tempfile.mkdtemp(prefix="antar-"))
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            self._elsewhere = made / path.name
            return self._elsewhere

    def _collect(self) -> None:
        """Take leave of a builder that has ended, and keep what it said where it failed."""
        if self._building is None or self._building[1].poll() is None:
            return
        stamp, builder = self._building
        self._building, self._built = None, stamp
        said = builder.stderr.read() if builder.stderr else ""
        if builder.returncode != 0:
            lines = said.strip().splitlines() or [f"the builder ended with {builder.returncode}"]
            self._failure = stamp, f"The index of this run could not be built: {lines[-1]}"

    def close(self) -> None:
        """End a builder that is still at work; it leaves nothing half."""
        if self._building is not None and self._building[1].poll() is None:
            self._building[1].kill()
            self._building[1].wait()


def _open_if_fresh(path: Path, stamp: str) -> Index | None:
    if not path.is_file():
        return None
    try:
        index = Index(path)
    except (sqlite3.Error, KeyError, IndexError, pl.exceptions.PolarsError, ValueError):
        return None  # not an index, or another version's: it is replaced
    if index.meta.get("stamp") == stamp:
        return index
    index.close()
    return None
