"""Files that are whole or absent.

Every write goes to a temporary name in the same folder, is flushed to the disk, and is then renamed over its
final name. A reader therefore never sees half a file, and a killed run leaves at most `.tmp-*` names behind, which
`sweep` clears. A whole folder takes its name in the same way. The price is one extra fsync a file, which shards of
megabytes do not feel. A disk that is full or cannot be written is a `UserError`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import save_file

from antar.core.disk import disk_error

TEMPORARY_PREFIX = ".tmp-"
_LEFT = ".tmp*"
"""What a killed writer leaves: our own names, and those of libraries that make a temporary file of their own beside
the one that they were asked for (safetensors: `.tmpAbC123`)."""


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary name beside `path`; on success it is fsynced and renamed to `path`, else removed.

    Raises UserError when the disk cannot be written.
    """
    # The suffix stays last: writers such as matplotlib choose their format by it.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{_drawn()}-{path.name}")
    try:
        with _told_in_one_line(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Generator[Path]:
    """Yield a temporary folder beside `path`; on success its files are fsynced and it takes the name `path`, in the
    place of a folder that had it; else it is removed. Raises UserError when the disk cannot be written."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{_drawn()}-{path.name}")
    try:
        with _told_in_one_line(path):
            temporary.mkdir(parents=True)
            yield temporary
            for one in [*temporary.rglob("*"), temporary]:
                _sync(one)
            if path.exists():
                # Aside first, in one step: a kill while it is deleted must not leave half a folder under its name.
                old = path.with_name(f"{TEMPORARY_PREFIX}{_drawn()}-old-{path.name}")
                path.replace(old)
                shutil.rmtree(old)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _told_in_one_line(path: Path) -> Generator[None]:
    """An error of the disk while the block writes `path` is a UserError."""
    try:
        yield
    except Exception as error:
        if problem := disk_error(error, path):
            raise problem from error
        raise


def _drawn() -> str:
    """Drawn, since processes on two machines may have one number and write the same shard of a shared folder."""
    return secrets.token_hex(6)


def _sync(path: Path) -> None:
    """Flush a file, or a folder: a rename is on the disk only when the folder's own entry is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Readable JSON: two spaces, Devanagari as it is, NaN and infinities refused (they are not JSON)."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    with replacing(path) as temporary:
        frame.write_parquet(temporary)


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Give at most one `metadata` entry where the bytes must be the same each time: their order is not fixed."""
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(
            {name: np.ascontiguousarray(array) for name, array in tensors.items()},
            temporary,
            metadata=dict(metadata or {}),
        )
        temporary.chmod(mode)  # safetensors gives files that nobody else may read; a run folder may be a group's


def remove_leftovers(folder: Path) -> int:
    """Delete what a killed writer left in `folder` (not below it). Returns how many files and folders went."""
    leftovers = list(folder.glob(_LEFT)) if folder.is_dir() else []
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)


def sweep(folder: Path, leave: Collection[str] = ()) -> int:
    """`remove_leftovers` of `folder` and of all that is below it, but for the folders in it that `leave` names.

    For whoever is sure that nobody writes there now. Returns how many files and folders went.
    """
    gone = remove_leftovers(folder)
    for inside, folders, _ in os.walk(folder):
        if Path(inside) == folder:
            folders[:] = [name for name in folders if name not in leave]
        gone += sum(remove_leftovers(Path(inside) / name) for name in folders)
    return gone
