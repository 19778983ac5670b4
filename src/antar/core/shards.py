"""Rows in shards: `NNNNN.safetensors` files of consecutive rows, each of which can prove itself.

A shard's header carries the fingerprint of the artifact that it belongs to, its own name, so that a copy of a sibling
is none, and the sha256 of its tensors.
So a run that was killed between shards keeps those that are whole and belong to it, and makes the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from antar.core.atomic import write_safetensors
from antar.core.errors import UserError
from antar.core.hashing import sha256_json

PROOF = "antar"


def shard_name(shard: int) -> str:
    return f"{shard:05d}.safetensors"


def shard_rows(n_rows: int, rows_per_shard: int) -> list[range]:
    """Consecutive row ranges, the last one shorter. Independent of how many workers make them."""
    return [range(lo, min(lo + rows_per_shard, n_rows)) for lo in range(0, n_rows, rows_per_shard)]


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # no copy: a checkpoint is gigabytes
    return digest.hexdigest()


def write_shard(
    path: Path, tensors: Mapping[str, np.ndarray], fingerprint: str, about: Mapping[str, Any] | None = None
) -> None:
    """about: what a reader of the whole artifact must know of this shard, e.g. a batch size that a machine forced;
    whoever seals the artifact finds it here (`shard_about`), on whatever machine the shard was made."""
    # One metadata entry: safetensors writes several in no fixed order, and equal shards must be equal files.
    proof: dict[str, object] = {"fingerprint": fingerprint, "name": path.name, "sha256": tensors_sha256(tensors)}
    if about:
        proof |= {"about": dict(about), "about_sha256": sha256_json(dict(about))}
    write_safetensors(path, tensors, {PROOF: json.dumps(proof, sort_keys=True)})


def read_shard(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(f"{path}: expected a whole shard, found {error}; run the study again to remake it") from error


def shard_is_whole(path: Path, fingerprint: str) -> bool:
    """True when the file at `path` belongs there and to `fingerprint`, and its tensors and what it says about itself
    have the checksums that it states."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as handle:
            stated = json.loads((handle.metadata() or {}).get(PROOF, "{}"))
            about = stated.get("about")
            if stated.get("about_sha256") != (about and sha256_json(about)):
                return False
            if (stated.get("fingerprint"), stated.get("name")) != (fingerprint, path.name):
                return False
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError):
        return False
    return stated.get("sha256") == tensors_sha256(tensors)


def shard_about(path: Path) -> dict[str, Any]:
    """What `write_shard` was told about the shard at `path`, which is whole; mostly nothing."""
    return dict(_proof(path).get("about", {}))


def shard_fingerprint(path: Path) -> str | None:
    """Of the artifact that the shard at `path`, which is whole, says it belongs to."""
    return _proof(path).get("fingerprint")


def _proof(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as handle:
        return json.loads((handle.metadata() or {}).get(PROOF, "{}"))


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a complete artifact, in row order."""
    return sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9].safetensors"))


def read_rows(folder: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """All rows of a sharded artifact, concatenated: name → `[n_rows, ...]`."""
    paths = shard_paths(folder)
    if not paths:
        raise UserError(f"{folder}: expected shards, found none; run the study up to this stage first")
    shards = [read_shard(path) for path in paths]
    return {name: np.concatenate([shard[name] for shard in shards]) for name in names}
