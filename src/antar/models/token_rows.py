"""Token-level activations (`extract.pooling: none`), read a block at a time.

A shard then holds `acts` float32 `[rows, d]`, a row for each kept token of its texts, one text after another, and
`offsets` int64 `[texts + 1]`: the rows of its i-th text are `offsets[i]:offsets[i + 1]`, and every text has one or
more. Such a site is too large for one array, so whoever reads it takes *blocks*: whole texts of one shard, of
`BLOCK_BYTES` or so. A delta is subtracted, and two sides are joined, block by block.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from antar.core.errors import UserError
from antar.core.finite import first_bad_row
from antar.core.shards import shard_paths
from antar.core.sites import Site
from antar.models.stored import ShardHeader, not_finite, read_part, site_folder

BLOCK_BYTES = 8 * 2**20
"""What a block may take, of one side; a longer text is a block of its own."""


def is_token_level(run_folder: Path, site: Site) -> bool:
    """Whether the shards of `site` hold a row a token. False where there are none."""
    paths = shard_paths(site_folder(run_folder, Site(site.stored[0], site.layer)))
    return bool(paths) and ShardHeader.of(paths[0]).offsets is not None


@dataclass(frozen=True)
class Block:
    """Consecutive whole texts of one shard.

    shard:   number of the shard
    texts:   the texts, counted over the corpus
    rows:    their rows in the shard
    offsets: int64 `[len(texts) + 1]`, where each text's rows start among the block's
    """

    shard: int
    texts: range
    rows: range
    offsets: np.ndarray


class TokenSite:
    """A token-level site as blocks. Only the offsets are held in memory: 8 bytes a text.

    blocks: in the order of the texts; width: columns of a row (for `joint` base's and chat's)
    """

    def __init__(self, run_folder: Path, site: Site, block_bytes: int = BLOCK_BYTES) -> None:
        self.site = site
        self._paths = {side: shard_paths(site_folder(run_folder, Site(side, site.layer))) for side in site.stored}
        headers = {side: [ShardHeader.of(path) for path in paths] for side, paths in self._paths.items()}
        first = next(iter(headers.values()))
        if not first:
            raise UserError(f"{run_folder}, {site}: expected shards, found none; run `antar extract STUDY` first")
        for side, other in headers.items():
            _check_alike(site, side, first, other)
        d_model = first[0].width
        self.width = 2 * d_model if site.side == "joint" else d_model
        self.blocks: list[Block] = []
        start = 0
        for shard, header in enumerate(first):
            offsets = _checked_offsets(header)
            self.blocks += _cut(shard, start, offsets, max(1, block_bytes // (4 * d_model)))
            start += len(offsets) - 1
        self.n_texts = start
        self.n_rows = sum(len(block.rows) for block in self.blocks)
        self._proofs = [header.proof for its in headers.values() for header in its]

    @cached_property
    def identity(self) -> str:
        """A checksum of what the shards say of themselves, without reading their rows."""
        return hashlib.sha256("\n".join([str(self.site), *self._proofs]).encode()).hexdigest()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(the text of each row, int64 `[rows]`; the rows, float32 `[rows, width]`), block by block."""
        for block in self.blocks:
            yield np.repeat(np.arange(block.texts.start, block.texts.stop), np.diff(block.offsets)), self.read(block)

    def read(self, block: Block) -> np.ndarray:
        """float32 `[len(block.rows), width]`. Raises UserError for a row that is not finite, naming its shard."""
        stored = [self._read(side, block) for side in self.site.stored]
        if len(stored) == 1:
            return stored[0]
        if self.site.difference is None:
            return np.concatenate(stored, axis=1)
        return np.subtract(stored[0], stored[1], out=stored[0])

    def blocks_of(self, shard: int) -> list[Block]:
        def number(block: Block) -> int:
            return block.shard

        return self.blocks[bisect_left(self.blocks, shard, key=number) : bisect_right(self.blocks, shard, key=number)]

    def text_means(self) -> np.ndarray:
        """float32 `[n_texts, width]`: each text's mean over its rows, summed in fp64."""
        means = np.empty((self.n_texts, self.width), np.float32)
        for block in self.blocks:
            sums = np.add.reduceat(self.read(block), block.offsets[:-1], axis=0, dtype=np.float64)
            means[block.texts.start : block.texts.stop] = sums / np.diff(block.offsets)[:, None]
        return means

    def _read(self, side: str, block: Block) -> np.ndarray:
        path = self._paths[side][block.shard]
        acts_nd = read_part(path, block.rows)
        if found := first_bad_row(acts_nd):
            row, bad = found
            text = block.texts[int(np.searchsorted(block.offsets, row, side="right")) - 1]
            where = f"{path}, row {block.rows[row]} (a token of text {text})"
            raise not_finite(Site(side, self.site.layer), bad, acts_nd.shape[1], where)
        return acts_nd


class TokenRows:
    """The tokens of chosen texts at one site, or at two, one after the other: what a dictionary is trained on.

    sizes: int64 `[n_pieces]`, rows of each piece; identity: a checksum of what they hold
    """

    def __init__(self, sites: Sequence[TokenSite], texts: np.ndarray) -> None:
        """texts: int64, rows of the corpus, ascending"""
        chosen = np.zeros(sites[0].n_texts, bool)
        chosen[texts] = True
        self._chosen = chosen
        self._pieces = [
            (site, block)
            for site in sites
            for block in site.blocks
            if chosen[block.texts.start : block.texts.stop].any()
        ]
        self.width = sites[0].width
        self.sizes = np.array([int(self._lengths(block).sum()) for _, block in self._pieces], np.int64)
        digest = hashlib.sha256("\n".join(site.identity for site in sites).encode())
        digest.update(np.packbits(chosen).tobytes())
        self.identity = digest.hexdigest()

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def read(self, piece: int) -> np.ndarray:
        """float32 `[sizes[piece], width]`: whole texts, in the order of the corpus."""
        site, block = self._pieces[piece]
        acts_nd = site.read(block)
        its = self._chosen[block.texts.start : block.texts.stop]
        return acts_nd if its.all() else acts_nd[np.repeat(its, np.diff(block.offsets))]

    def texts_of(self, rows: np.ndarray) -> np.ndarray:
        """int64: the text of each of `rows` (int64, counted over all pieces)."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        piece_of = np.searchsorted(starts, rows, side="right") - 1
        found = np.empty(len(rows), np.int64)
        for piece in np.unique(piece_of):
            block = self._pieces[piece][1]
            its = np.flatnonzero(self._chosen[block.texts.start : block.texts.stop]) + block.texts.start
            text_of_row = np.repeat(its, self._lengths(block))
            here = piece_of == piece
            found[here] = text_of_row[rows[here] - starts[piece]]
        return found

    def _lengths(self, block: Block) -> np.ndarray:
        """Rows of each chosen text of a block."""
        return np.diff(block.offsets)[self._chosen[block.texts.start : block.texts.stop]]


def _checked_offsets(header: ShardHeader) -> np.ndarray:
    """int64 `[texts + 1]`. Raises UserError where they are not there or do not cut the rows into texts."""
    offsets = header.offsets
    if offsets is None:
        raise UserError(
            f"{header.path}: expected a row for each token and offsets, found a row for each text; run "
            "`antar extract STUDY`"
        )
    whole = offsets.ndim == 1 and len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == header.rows
    if not whole or (np.diff(offsets) < 1).any():
        raise UserError(
            f"{header.path}: expected offsets from 0 to its {header.rows} rows with a row or more for each text, "
            "found others; remove this shard and run `antar extract STUDY`"
        )
    return offsets.astype(np.int64)


def _check_alike(site: Site, side: str, first: Sequence[ShardHeader], other: Sequence[ShardHeader]) -> None:
    """All sides keep the same tokens of the same texts."""
    alike = len(first) == len(other) and all(
        a.width == b.width
        and a.offsets is not None
        and b.offsets is not None
        and np.array_equal(a.offsets, b.offsets)
        for a, b in zip(first, other, strict=True)
    )
    if not alike and other is not first:
        raise UserError(
            f"{site}: expected the same texts, tokens and width on {' and '.join(site.stored)}, found others on "
            f"{side}; run the study again to remake the stale one"
        )


def _cut(shard: int, first_text: int, offsets: np.ndarray, most_rows: int) -> Iterator[Block]:
    """A shard's texts in blocks of at most `most_rows` rows, or of one text."""
    lo, n_texts = 0, len(offsets) - 1
    while lo < n_texts:
        hi = int(np.searchsorted(offsets, offsets[lo] + most_rows, side="right")) - 1
        hi = min(max(hi, lo + 1), n_texts)
        yield Block(
            shard,
            range(first_text + lo, first_text + hi),
            range(int(offsets[lo]), int(offsets[hi])),
            offsets[lo : hi + 1] - offsets[lo],
        )
        lo = hi
