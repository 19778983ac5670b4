"""Stored activations as one array, a row for each text. A delta is subtracted, and two sides are joined, here on
reading; neither is stored. Of token-level activations a text's row is the mean over its tokens (`token_rows` has the
tokens themselves, which need not fit in memory).

Extraction writes no number that is not finite, and a shard's checksum is looked at when its stage is; but a file can
be remade with both right and the numbers wrong. One NaN in a delta, a mean or a top-k spoils everything after it, so
it is found here, where the file and the row in it still have names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from antar.core.errors import UserError
from antar.core.finite import first_bad_row
from antar.core.shards import read_rows, read_shard, shard_paths
from antar.core.sites import Site
from antar.models.stored import ShardHeader, not_finite, read_part, site_folder
from antar.models.token_rows import TokenSite, is_token_level


def read_site(run_folder: Path, site: Site) -> np.ndarray:
    """float32 `[n_texts, d_model]` at `site`, rows in the order of the corpus.

    Delta sides are the difference of two stored ones; `joint` is `[n_texts, 2 d_model]`, base's columns before
    chat's. Raises UserError when a side is not there, when the two do not have the same rows, and for a row that is
    not finite, of which it names the shard.
    """
    if is_token_level(run_folder, site):
        return TokenSite(run_folder, site).text_means()
    stored = [_read_stored(run_folder, Site(side, site.layer)) for side in site.stored]
    _check_alike(run_folder, site, [acts_nd.shape for acts_nd in stored])
    return _combined(site, stored)


class SiteRows:
    """A site with a row a text of which parts are read, so that the whole need not fit in memory."""

    def __init__(self, run_folder: Path, site: Site) -> None:
        self._run_folder, self.site = run_folder, site
        self._shards = {
            side: [ShardHeader.of(path) for path in shard_paths(site_folder(run_folder, Site(side, site.layer)))]
            for side in site.stored
        }
        shapes = [(sum(one.rows for one in its), its[0].width if its else 0) for its in self._shards.values()]
        _check_alike(run_folder, site, shapes)
        self.n_texts = shapes[0][0]

    def read(self, texts: range) -> np.ndarray:
        """float32 `[len(texts), d_model]`: what these rows of `read_site` are."""
        return _combined(self.site, [self._read(side, texts) for side in self.site.stored])

    def _read(self, side: str, texts: range) -> np.ndarray:
        parts: list[np.ndarray] = []
        start = 0
        for shard in self._shards[side]:
            lo, hi = max(texts.start - start, 0), min(texts.stop - start, shard.rows)
            if lo < hi:
                parts.append(read_part(shard.path, range(lo, hi)))
            start += shard.rows
        acts_nd = np.concatenate(parts)
        if found := first_bad_row(acts_nd):
            row, bad = texts.start + found[0], found[1]
            site = Site(side, self.site.layer)
            raise not_finite(site, bad, acts_nd.shape[1], _where(self._run_folder, site, row))
        return acts_nd


def _check_alike(run_folder: Path, site: Site, shapes: Sequence[tuple[int, ...]]) -> None:
    if shapes[0] != shapes[-1]:
        raise UserError(
            f"{run_folder}, {site}: expected two sides of one shape, found {shapes[0]} and {shapes[-1]}; "
            "run the study again to remake the stale one"
        )


def _combined(site: Site, stored: list[np.ndarray]) -> np.ndarray:
    """The rows of a site from those of the sides that it is made of."""
    if len(stored) == 1:
        return stored[0]
    if site.difference is None:
        return np.concatenate(stored, axis=1)
    # In place: at 40,000 texts a third array of this size is 328 MB for nothing.
    return np.subtract(stored[0], stored[1], out=stored[0])


def _read_stored(run_folder: Path, site: Site) -> np.ndarray:
    acts_nd = read_rows(site_folder(run_folder, site), ["acts"])["acts"]
    _check_finite(run_folder, site, acts_nd)
    return acts_nd


def _check_finite(run_folder: Path, site: Site, acts_nd: np.ndarray) -> None:
    if found := first_bad_row(acts_nd):
        row, bad = found
        raise not_finite(site, bad, acts_nd.shape[1], _where(run_folder, site, row))


def _where(run_folder: Path, site: Site, row: int) -> str:
    """`…/00003.safetensors, row 17 (text 1553)` for row 1553 of a stored site; rows are counted from 0."""
    before = 0
    for path in shard_paths(site_folder(run_folder, site)):
        rows = len(read_shard(path)["acts"])
        if row < before + rows:
            return f"{path}, row {row - before} (text {row})"
        before += rows
    raise IndexError(row)
