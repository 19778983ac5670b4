"""Activations in the published study's layout, as plain arrays that numpy alone can read.

`<dataset>/<side>/chunk_0000.npz` holds `layer_06`, `layer_12`, ... float32 `[n, d_model]` and `text_id` `[n]`
(unicode, not objects: `np.load(..., allow_pickle=False)` reads it). A dataset is a source of the corpus. Three
corpora, three sides and three layers are the study's 27 activation sets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from antar.core.atomic import replacing
from antar.core.errors import UserError
from antar.core.sites import Site
from antar.models.read import read_site

SIDES = ("base", "chat", "delta")
ROWS_PER_CHUNK = 5000


def export_npz(
    run_folder: Path,
    texts: pl.DataFrame,
    layers: Sequence[int],
    out: Path,
    sides: Sequence[str] = SIDES,
    rows_per_chunk: int = ROWS_PER_CHUNK,
) -> list[Path]:
    """Write every dataset × side × layer of a run below `out`; returns the files, each whole or absent.

    texts: the corpus in row order, with `text_id` and `source`
    """
    ids = texts["text_id"].to_numpy().astype(np.str_)
    sources = texts["source"].to_numpy()
    datasets = {source: np.flatnonzero(sources == source) for source in texts["source"].unique(maintain_order=True)}
    folders = {source: _folder_name(source) for source in datasets}
    if len(set(folders.values())) < len(folders):
        raise UserError(f"export: the sources {sorted(folders)} need distinct folder names; rename one in the study")
    written: list[Path] = []
    for side in sides:
        acts = {layer: read_site(run_folder, Site(side, layer)) for layer in layers}
        for layer, acts_nd in acts.items():
            if len(acts_nd) != len(ids):
                raise UserError(
                    f"{run_folder}: {Site(side, layer)} has {len(acts_nd):,} rows and the corpus {len(ids):,} texts; "
                    "run the study again to make them agree"
                )
        for source, rows in datasets.items():
            folder = out / folders[source] / side.replace(":", "-")
            written += [
                _write_chunk(folder / f"chunk_{number:04d}.npz", ids, acts, rows[start : start + rows_per_chunk])
                for number, start in enumerate(range(0, len(rows), rows_per_chunk))
            ]
            _remove_longer(folder, set(written))
    return written


def _folder_name(source: str) -> str:
    return re.sub(r"[^\w.-]+", "_", source).strip(".") or "corpus"


def _write_chunk(path: Path, ids: np.ndarray, acts: dict[int, np.ndarray], rows: np.ndarray) -> Path:
    arrays = {f"layer_{layer:02d}": acts_nd[rows] for layer, acts_nd in acts.items()}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, text_id=ids[rows], **arrays)
    return path


def _remove_longer(folder: Path, written: set[Path]) -> None:
    # Chunks of an earlier, longer export would be read as if they belonged to this one.
    for path in folder.glob("chunk_[0-9]*.npz"):
        if path not in written:
            path.unlink()
