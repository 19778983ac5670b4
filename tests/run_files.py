"""Two run folders, compared file by file."""

from __future__ import annotations

import hashlib
from pathlib import Path

OF_THE_MACHINE = {"study.lock.json", ".lock"}


def sums_of(folder: Path) -> dict[str, str]:
    """Path → sha256 of every file under `folder`, without what tells of the machine and the moment."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in OF_THE_MACHINE
    }


def differing(one: Path, other: Path) -> list[str]:
    """The files that are not the same in both, by name; none when the two runs are bit-identical."""
    mine, theirs = sums_of(one), sums_of(other)
    return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
