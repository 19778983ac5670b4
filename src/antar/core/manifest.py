"""Manifests: what an artifact was made from, and the checksum of every file in it.

An artifact is a set of files under one folder. Its manifest is written last, so a present manifest means that
every file was once whole. It carries a checksum of itself too: its facts are read as results are. `why_stale` says
which input changed since; `damaged_files` finds what was lost, truncated or edited afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from antar.core.atomic import write_json
from antar.core.hashing import sha256_file, sha256_json

MANIFEST_NAME = "manifest.json"


class Fingerprint(BaseModel):
    """What an artifact depends on. Two equal fingerprints promise equal bits on the same machine.

    inputs: name → sha256 of what was read (another artifact's `content`, a file, ...)
    config: the slice of the study that matters, as JSON
    code:   sha256 of the rooms that make it
    """

    model_config = ConfigDict(frozen=True)

    inputs: dict[str, str] = {}
    config: dict[str, Any] = {}
    code: str = ""

    @property
    def sha256(self) -> str:
        return sha256_json(self.model_dump(mode="json"))


class FileEntry(BaseModel):
    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int


class Manifest(BaseModel):
    """files: path relative to the manifest's folder → checksum; facts: what a reader wants to know;
    seal: the checksum of all the rest ("" in manifests from before there was one)."""

    model_config = ConfigDict(frozen=True)

    artifact: str
    fingerprint: Fingerprint
    files: dict[str, FileEntry]
    facts: dict[str, Any] = {}
    seal: str = ""

    def sealed(self) -> Manifest:
        return self.model_copy(update={"seal": self._checksum()})

    @property
    def is_whole(self) -> bool:
        return self.seal in ("", self._checksum())

    def _checksum(self) -> str:
        return sha256_json(self.model_dump(mode="json", exclude={"seal"}))

    @property
    def content(self) -> str:
        """One hash over the files' bits: what artifacts built on this one depend on."""
        return sha256_json({name: entry.sha256 for name, entry in self.files.items()})


def write_manifest(
    path: Path,
    artifact: str,
    fingerprint: Fingerprint,
    files: list[Path],
    facts: Mapping[str, Any] | None = None,
) -> Manifest:
    """Hash `files` (all under `path.parent`) and write the manifest to `path`: the last write of an artifact."""
    manifest = Manifest(
        artifact=artifact,
        fingerprint=fingerprint,
        files={
            file.relative_to(path.parent).as_posix(): FileEntry(sha256=sha256_file(file), bytes=file.stat().st_size)
            for file in sorted(files)
        },
        facts=dict(facts or {}),
    ).sealed()
    write_json(path, manifest.model_dump(mode="json"))
    return manifest


def read_manifest(path: Path) -> Manifest | None:
    """The manifest at `path`; None when it is absent, damaged or none at all (then the artifact is redone)."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError, json.JSONDecodeError):
        return None
    return manifest if manifest.is_whole else None


def damaged_files(path: Path, manifest: Manifest) -> dict[str, str]:
    """File → what is wrong with it (`missing`, `truncated`, `edited`) for each that is not as it was written."""
    problems: dict[str, str] = {}
    for name, entry in manifest.files.items():
        file = path.parent / name
        if not file.is_file():
            problems[name] = "missing"
        elif file.stat().st_size < entry.bytes:
            problems[name] = "truncated"
        elif sha256_file(file) != entry.sha256:
            problems[name] = "edited"
    return problems


NAMED = 6
"""Changed inputs that a reason names; a stage that reads many says how many more there are."""


def why_stale(manifest: Manifest | None, wanted: Fingerprint) -> str | None:
    """None when the artifact answers `wanted`; else the reason, naming inputs (`NAMED` of them) and config keys."""
    if manifest is None:
        return "not made yet"
    if manifest.fingerprint == wanted:
        return None
    old = manifest.fingerprint
    names = sorted(old.inputs.keys() | wanted.inputs.keys())
    changed = [name for name in names if old.inputs.get(name) != wanted.inputs.get(name)]
    reasons = [f"{name} changed" for name in changed[:NAMED]]
    if len(changed) > NAMED:
        reasons.append(f"{len(changed) - NAMED} more inputs changed")
    keys = _changed_keys(old.config, wanted.config)
    reasons += [f"{key} changed" for key in keys[:NAMED]]
    if len(keys) > NAMED:
        reasons.append(f"{len(keys) - NAMED} more settings changed")
    if old.code != wanted.code:
        reasons.append("antar's code changed")
    return ", ".join(reasons)


def _changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    changed: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            changed += _changed_keys(before, after, f"{prefix}{key}.")
        else:
            changed.append(f"{prefix}{key}")
    return changed
