"""Append-only JSONL records that survive a kill.

A unit of work (a feature's label, or all predictions of one feature) writes one or more consecutive lines, each
with the unit's key (the sha256 of everything that determined the answer) and a checksum of its own. On opening, a
torn last line is cut, units that are incomplete, damaged or no longer wanted are dropped, and the rest is kept, so
only what is missing is made. When a file's units end up in another order than asked for, it is put in order by one
atomic rewrite: the bytes of a resumed run are those of an uninterrupted one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl

from antar.core.atomic import remove_leftovers, replacing
from antar.core.errors import UserError
from antar.core.lines import read_line, sealed_line
from antar.core.progress import say

LABELS = "labels.jsonl"
VERDICTS = "verdicts.jsonl"
PREDICTIONS = "predictions.jsonl"
KEYWORDS, CONTROLS, SAEBENCH = "keywords.jsonl", "controls.jsonl", "saebench.jsonl"
"""Only where a language model works: the keyword labels beside its own, its known labels, SAEBench's form."""

_STRINGS = pl.List(pl.String)
LABEL_SCHEMA: dict[str, Any] = {
    "feature": pl.String, "coherent": pl.Boolean, "label": pl.String, "keywords": _STRINGS, "needed": pl.Int64,
    "category": pl.String, "language": pl.String, "evidence": _STRINGS, "reason": pl.String, "labeller": pl.String,
    "version": pl.String, "failed": pl.String,
}  # fmt: skip
VERDICT_SCHEMA: dict[str, Any] = {
    "feature": pl.String, "verdict": pl.String, "reason": pl.String, "label": pl.String, "keywords": _STRINGS,
    "needed": pl.Int64, "evidence": _STRINGS, "balanced_accuracy": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "validator": pl.String, "version": pl.String, "failed": pl.String,
}  # fmt: skip
PREDICTION_SCHEMA: dict[str, Any] = {
    "feature": pl.String, "text_id": pl.String, "fires": pl.Boolean, "predicted": pl.Boolean, "score": pl.Float64,
    "predictor": pl.String, "wrong_label": pl.Boolean, "version": pl.String, "failed": pl.String,
}  # fmt: skip
CONTROL_SCHEMA: dict[str, Any] = {
    "kind": pl.String, "feature": pl.String, "label": pl.String, "label_of": pl.String, "verdict": pl.String,
    "reason": pl.String, "evidence": _STRINGS, "validator": pl.String, "version": pl.String, "failed": pl.String,
}  # fmt: skip
SAEBENCH_SCHEMA: dict[str, Any] = {
    "feature": pl.String, "predictor": pl.String, "n": pl.Int64, "positives": pl.Int64, "correct": pl.Int64,
    "accuracy": pl.Float64, "version": pl.String, "failed": pl.String,
}  # fmt: skip


class RecordFile:
    """The records of one kind of work, open for appending. Use it in a `with` block.

    wanted: the keys of all units, in the order in which an uninterrupted run writes them; a key twice is an error
    fresh:  nothing that the file has is taken for done
    done:   key → the unit's lines, for units that were already whole in the file or have been added
    """

    def __init__(self, path: Path, wanted: Sequence[str], fresh: bool = False) -> None:
        if len(set(wanted)) != len(wanted):
            raise ValueError(f"{path.name}: two units of work have one key")
        self.path, self.wanted, self.fresh = path, list(wanted), fresh
        self.done: dict[str, list[bytes]] = {}
        self._handle: BufferedWriter | None = None

    def __enter__(self) -> RecordFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path.parent)
        before = self.path.read_bytes() if self.path.exists() else b""
        if not self.fresh:
            self._load(before)
        kept = self._bytes(self.done)
        if not before.startswith(kept):
            self._rewrite(kept)
        elif len(kept) != len(before):
            with self.path.open("r+b") as handle:
                handle.truncate(len(kept))
                os.fsync(handle.fileno())
        self._handle = self.path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        if kind is None:
            self._settle()

    @property
    def missing(self) -> list[str]:
        """Wanted keys that have no whole unit yet, in order."""
        return [key for key in self.wanted if key not in self.done]

    def add(self, units: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Append whole units and flush them to the disk: one batch, one fsync."""
        if self._handle is None:
            raise ValueError(f"{self.path.name} is not open")
        for key, records in units.items():
            # Each line says how many the unit has, so that a unit cut between two lines is known to be torn.
            self.done[key] = [sealed_line({**record, "key": key, "of": len(records)}) for record in records]
        self._handle.write(self._bytes({key: self.done[key] for key in units}))
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def records(self, key: str) -> list[dict[str, Any]]:
        """The records of a unit that is done; empty for one that has nothing to say."""
        return [record for line in self.done.get(key, []) if (record := read_line(line)) is not None]

    def _load(self, data: bytes) -> None:
        *whole, torn = data.split(b"\n")
        if torn:
            say(f"{self.path.name}: the last line was torn and is made again")
        units: dict[str, list[bytes]] = {}
        sizes: dict[str, int] = {}
        damaged = 0
        for line in whole:
            record = read_line(line)
            if record is None or not isinstance(record.get("key"), str) or not isinstance(record.get("of"), int):
                damaged += 1
            else:
                units.setdefault(record["key"], []).append(line + b"\n")
                sizes[record["key"]] = record["of"]
        if damaged:
            say(f"{self.path.name}: {damaged} damaged lines are made again")
        wanted = set(self.wanted)
        self.done = {key: unit for key, unit in units.items() if key in wanted and len(unit) == sizes[key]}

    def _settle(self) -> None:
        wanted = [key for key in self.wanted if key in self.done]
        if list(self.done) != wanted:
            self.done = {key: self.done[key] for key in wanted}
            self._rewrite(self._bytes(self.done))

    def _rewrite(self, data: bytes) -> None:
        with replacing(self.path) as temporary:
            temporary.write_bytes(data)

    @staticmethod
    def _bytes(units: Mapping[str, Sequence[bytes]]) -> bytes:
        return b"".join(line for unit in units.values() for line in unit)


def read_labels(folder: Path) -> pl.DataFrame:
    """`labels.jsonl` of the run's `interpret` folder; see LABEL_SCHEMA."""
    return _read(folder / LABELS, LABEL_SCHEMA)


def read_verdicts(folder: Path) -> pl.DataFrame:
    """`verdicts.jsonl` of the run's `interpret` folder; see VERDICT_SCHEMA."""
    return _read(folder / VERDICTS, VERDICT_SCHEMA)


def read_predictions(folder: Path) -> pl.DataFrame:
    """`predictions.jsonl` of the run's `interpret` folder; see PREDICTION_SCHEMA."""
    return _read(folder / PREDICTIONS, PREDICTION_SCHEMA)


def read_keywords(folder: Path) -> pl.DataFrame:
    """`keywords.jsonl`: the keyword labels beside a language model's; empty where there is none."""
    return _read_if_there(folder / KEYWORDS, LABEL_SCHEMA)


def read_controls(folder: Path) -> pl.DataFrame:
    """`controls.jsonl`: labels whose truth is known, and what the validator said; see CONTROL_SCHEMA."""
    return _read_if_there(folder / CONTROLS, CONTROL_SCHEMA)


def read_saebench(folder: Path) -> pl.DataFrame:
    """`saebench.jsonl`: SAEBench's form; see SAEBENCH_SCHEMA."""
    return _read_if_there(folder / SAEBENCH, SAEBENCH_SCHEMA)


def _read_if_there(path: Path, schema: Mapping[str, Any]) -> pl.DataFrame:
    return _read(path, schema) if path.is_file() else pl.DataFrame(schema=dict(schema))


def _read(path: Path, schema: Mapping[str, Any]) -> pl.DataFrame:
    """The whole lines of a record file as a frame; what a killed writer left of a last line is passed over."""
    if not path.is_file():
        raise UserError(f"{path}: expected records, found no file; run the study up to interpret first")
    columns: dict[str, list[Any]] = {name: [] for name in schema}
    *whole, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(whole, start=1):
        record = read_line(line)
        if record is None:
            raise UserError(f"{path}: expected a JSON object in line {number}, found damage; run the study again")
        for name, values in columns.items():
            values.append(record.get(name))
    return pl.DataFrame(columns, schema=dict(schema))
