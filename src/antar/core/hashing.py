"""Fingerprints: of bytes, files, JSON-able values and of antar's own source."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
# Word lists, lexicons, prompts and templates decide results as code does.
SOURCES = {".py", ".md", ".j2", ".css", ".js", ".txt", ".yaml", ".json"}


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """The fingerprint of a JSON-able value; key order does not matter."""
    return sha256_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode("utf-8"))


@cache
def code_version(*parts: str) -> str:
    """One hash over the source of the named rooms or modules, e.g. `code_version("corpora", "criteria.py")`.

    A stage's manifest carries it, so that results of older code are not taken for results of this code.
    """
    sources: list[Path] = []
    for part in parts:
        path = PACKAGE_ROOT / part
        if not path.exists():
            raise FileNotFoundError(f"no such part of antar: {part}")
        sources += sorted(p for p in path.rglob("*") if p.suffix in SOURCES) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.relative_to(PACKAGE_ROOT).as_posix().encode())
        digest.update(b"\0")
        digest.update(source.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()
