"""A parcel: the files that leave a run or a dictionary, under the names that they will have, and their manifest.

Only kinds of files that cannot run are in one: safetensors, parquet, JSON, JSON lines, YAML and the card. The
manifest, `antar-share.json`, has the checksum of every file but the card, which people edit on the hub.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antar import __version__
from antar.core.errors import UserError
from antar.core.hashing import sha256_bytes, sha256_file
from antar.core.manifest import FileEntry, Fingerprint, Manifest
from antar.dictionaries.files import PICKLES
from antar.run import SHARE_NAME
from antar.share.cleaning import cleaned, refuse_keys

CARD = "README.md"
KINDS = {".safetensors", ".parquet", ".json", ".jsonl", ".yaml"}
READABLE = {".json", ".jsonl", ".yaml"}
RUNS_CODE = PICKLES | {".ckpt", ".joblib", ".dill", ".npy", ".py", ".pyc", ".so", ".sh", ".dll", ".exe"}
"""What opening, or somebody's tool, may run. A repository that has one is not pulled from."""


@dataclass
class Parcel:
    """kind: `run`, `dictionary` or `dataset`; files: name → the file, or its bytes where antar made them"""

    kind: str
    name: str
    facts: dict[str, Any]
    files: dict[str, Path | bytes] = field(default_factory=dict[str, Path | bytes])

    def add(self, name: str, source: Path | bytes) -> None:
        """Take `source` in, without paths of this machine. Raises UserError for a key in it and for a broken file."""
        if Path(name).suffix not in KINDS:
            raise ValueError(f"{name}: no kind of file that is shared")
        if Path(name).suffix in READABLE:
            data = source if isinstance(source, bytes) else _bytes_of(source)
            try:
                clean = cleaned(name, data)
            except ValueError as error:
                where, kind = source if isinstance(source, Path) else name, Path(name).suffix[1:].upper()
                said = " ".join(str(error).split())[:120]
                raise UserError(f"{where}: expected {kind}, found {said}; run the study again") from error
            refuse_keys(name, clean)
            source = source if clean == data else clean
        self.files[name] = source

    def add_all(self, folder: Path, under: str, names: Iterable[str]) -> None:
        """Those of `folder`'s files `names` that are there, as `under`/name."""
        for name in names:
            if (folder / name).is_file():
                self.add(f"{under}/{name}" if under else name, folder / name)

    def finished(self, card: str) -> Mapping[str, Path | bytes]:
        """All files, with the manifest and the card."""
        refuse_keys(CARD, card.encode())
        manifest = Manifest(
            artifact=f"{self.kind}/{self.name}",
            fingerprint=Fingerprint(),
            files={name: _entry(source) for name, source in sorted(self.files.items())},
            facts={"kind": self.kind, "antar": __version__, **self.facts},
        ).sealed()
        about = (manifest.model_dump_json(indent=2) + "\n").encode()
        return {CARD: card.encode(), SHARE_NAME: about, **self.files}

    @property
    def bytes(self) -> int:
        return sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in self.files.values())


def write_files(files: Mapping[str, Path | bytes], folder: Path) -> None:
    for name, source in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            place.write_bytes(source)
        else:
            shutil.copyfile(source, place)


def _entry(source: Path | bytes) -> FileEntry:
    if isinstance(source, bytes):
        return FileEntry(sha256=sha256_bytes(source), bytes=len(source))
    return FileEntry(sha256=sha256_file(source), bytes=source.stat().st_size)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: expected a file that can be read, found: {error.strerror}; run the study again"
        ) from error
