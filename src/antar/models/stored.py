"""Where a site's shards lie, reading a part of one, and what is said when one does not hold what it should."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from antar.core.errors import UserError
from antar.core.shards import PROOF, shard_about, shard_paths
from antar.core.sites import Site


def site_folder(run_folder: Path, site: Site) -> Path:
    """Where a site's shards lie (for sides that are stored: base, chat and shams)."""
    return run_folder / "activations" / site.folder


def not_finite(site: Site, bad: int, width: int, where: str) -> UserError:
    """The error for a row with `bad` columns that are no numbers; `where` names its shard and row."""
    return UserError(
        f"{site}: expected finite numbers, found NaN or infinity in {bad} of {width} columns of {where}; remove this "
        "shard and run `antar extract STUDY`"
    )


def forced_budget(folder: Path) -> dict[str, int]:
    """`token_budget`: the smallest that lack of memory forced on the shards in `folder`; empty where none."""
    said = [shard_about(path).get("token_budget") for path in shard_paths(folder)]
    return {"token_budget": min(known)} if (known := [one for one in said if one]) else {}


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says without its rows being read; offsets: None in one that has a row a text."""

    path: Path
    rows: int
    width: int
    offsets: np.ndarray | None
    proof: str

    @classmethod
    def of(cls, path: Path) -> ShardHeader:
        try:
            with safe_open(path, framework="numpy") as handle:
                rows, width = handle.get_slice("acts").get_shape()
                there: Any = handle.keys()
                offsets = handle.get_tensor("offsets") if "offsets" in there else None
                proof = json.loads((handle.metadata() or {}).get(PROOF, "{}"))
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{path}: expected a whole shard, found {error}; run the study again") from error
        return cls(path, rows, width, offsets, str(proof.get("sha256")))


def read_part(path: Path, rows: range) -> np.ndarray:
    """float32 `[len(rows), width]`: those rows of a shard; the others are not read."""
    try:
        with safe_open(path, framework="numpy") as handle:
            return handle.get_slice("acts")[rows.start : rows.stop]
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: expected a whole shard, found {error}; run the study again") from error
