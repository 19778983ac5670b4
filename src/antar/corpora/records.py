"""What passes between the reading of a source and the finished table: raw texts, candidates, what was dropped."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES_KEPT = 3


@dataclass(frozen=True)
class Place:
    """Where files are looked for.

    study_folder:   the folder of the study file, to which its paths are relative
    from_folder:    `--from-folder`: the hub's files, put there by hand
    organism_texts: the `texts.jsonl` of the study's organism
    """

    study_folder: Path
    from_folder: Path | None = None
    organism_texts: Path | None = None

    def resolve(self, path: Path | str) -> Path:
        return self.study_folder / Path(path).expanduser()


@dataclass(frozen=True)
class RawText:
    """One text as its source gives it; `problem` says why the source's own rule leaves it out."""

    text_id: str
    text: str
    group: str
    language: str | None
    document: str
    facets: dict[str, str | None] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Opened:
    """A source that is ready to be read: its texts (read once, in order) and the facts about where they lie."""

    texts: Iterable[RawText]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Candidate:
    """A clean text that may be sampled.

    normal_form: what exact duplicates share
    priority:    its place in the random order of its source; equal for equal normal forms
    words:       its length
    """

    text_id: str
    text: str
    group: str
    language: str
    source: str
    document: str
    facets: dict[str, str | None]
    normal_form: str
    priority: int
    words: int

    @property
    def rank(self) -> tuple[str, str]:
        """Which of several equal texts stays: the smallest, whatever order they came in."""
        return (self.document, self.text_id)


class Dropped:
    """Counts of what was left out, by source and reason, each with the smallest few ids as examples."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], list[str]] = {}

    def add(self, source: str, reason: str, text_id: str) -> None:
        key = (source, reason)
        self._counts[key] = self._counts.get(key, 0) + 1
        examples = self._examples.setdefault(key, [])
        examples.append(text_id)
        if len(examples) > 64:
            self._examples[key] = heapq.nsmallest(EXAMPLES_KEPT, examples)

    def add_count(self, source: str, reason: str, n: int) -> None:
        """For texts that were too many to keep their ids."""
        if n:
            self._counts[(source, reason)] = self._counts.get((source, reason), 0) + n

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "source": source,
                "reason": reason,
                "texts": count,
                "examples": heapq.nsmallest(EXAMPLES_KEPT, self._examples.get((source, reason), [])),
            }
            for (source, reason), count in sorted(self._counts.items())
        ]
