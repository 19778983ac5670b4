"""Stored activations as one array. A delta is subtracted, and two sides are joined, here on reading; neither is
stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antar.core.errors import UserError
from antar.core.shards import read_rows
from antar.core.sites import Site


def site_folder(run_folder: Path, site: Site) -> Path:
    """Where a site's shards lie (for sides that are stored: base, chat and shams)."""
    return run_folder / "activations" / site.folder


def read_site(run_folder: Path, site: Site) -> np.ndarray:
    """float32 `[n_texts, d_model]` at `site`, rows in the order of the corpus.

    Delta sides are the difference of two stored ones; `joint` is `[n_texts, 2 d_model]`, base's columns before
    chat's. Raises UserError when a side is not there or the two do not have the same rows.
    """
    stored = [read_rows(site_folder(run_folder, Site(side, site.layer)), ["acts"])["acts"] for side in site.stored]
    if len(stored) == 1:
        return stored[0]
    minuend, subtrahend = stored
    if minuend.shape != subtrahend.shape:
        raise UserError(
            f"{run_folder}, {site}: expected two sides of one shape, found {minuend.shape} and {subtrahend.shape}; "
            "run the study again to remake the stale one"
        )
    if site.difference is None:
        return np.concatenate(stored, axis=1)
    # In place: at 40,000 texts a third array of this size is 328 MB for nothing.
    return np.subtract(minuend, subtrahend, out=minuend)
