"""Codes of all texts at a side under a dictionary: encoding, and the shards that keep them.

A shard holds `indices` int32 `[rows, k]` and `values` float32 `[rows, k]` for consecutive rows of the texts, so a
code costs 8 bytes a firing and is never stored dense. Where texts have different numbers of latents, so that many of
the values would be zeros, it holds those that fire one text after another, and `counts` int32 `[rows]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from antar.core.errors import UserError
from antar.core.finite import first_bad_row
from antar.core.shards import read_shard, shard_name, shard_paths, write_shard
from antar.core.sites import DictionaryId, codes_folder
from antar.core.sparse import CodeSource, SparseCodes


class Encoder(Protocol):
    """Anything that turns raw activations into sparse codes: a dictionary."""

    def encode(self, acts_nd: np.ndarray) -> SparseCodes: ...


def encode_site(dictionary: Encoder, acts_nd: np.ndarray, batch: int = 8192) -> SparseCodes:
    """The codes of raw activations `[n, d_model]`, `batch` texts at a time so that memory stays bounded.

    Non-finite activations are an error: a NaN would silently win every top-k.
    """
    if found := first_bad_row(acts_nd):
        raise UserError(
            f"activations: expected finite numbers, found NaN or inf in row {found[0]}; extract them again"
        )
    parts = [dictionary.encode(acts_nd[lo : lo + batch]) for lo in range(0, len(acts_nd), batch)]
    return concatenate(parts or [dictionary.encode(acts_nd)])


def concatenate(parts: Sequence[SparseCodes]) -> SparseCodes:
    """Codes of consecutive texts under one dictionary, joined. Rows of unequal k are padded with zeros."""
    k = max(part.indices_nk.shape[1] for part in parts)
    padded = [_padded(part, k) for part in parts]
    return SparseCodes(
        np.concatenate([part.indices_nk for part in padded]),
        np.concatenate([part.values_nk for part in padded]),
        parts[0].n_latents,
    )


def _padded(codes: SparseCodes, k: int) -> SparseCodes:
    missing = k - codes.indices_nk.shape[1]
    if missing == 0:
        return codes
    pad = ((0, 0), (0, missing))
    return SparseCodes(np.pad(codes.indices_nk, pad), np.pad(codes.values_nk, pad), codes.n_latents)


def write_codes_shard(path: Path, codes: SparseCodes, fingerprint: str) -> None:
    """Write one shard, whole or not at all. `path` is `codes/<folder>/NNNNN.safetensors`."""
    tensors = {
        "indices": codes.indices_nk.astype(np.int32, copy=False),
        "values": codes.values_nk.astype(np.float32, copy=False),
    }
    fired_nk = codes.values_nk > 0
    if 8 * int(fired_nk.sum()) + 4 * len(codes) < 8 * fired_nk.size:
        tensors = {name: array[fired_nk] for name, array in tensors.items()}
        tensors["counts"] = fired_nk.sum(axis=1, dtype=np.int32)
    write_shard(path, tensors, fingerprint)


def _of_shard(shard: Mapping[str, np.ndarray], n_latents: int) -> SparseCodes:
    if "counts" not in shard:
        return SparseCodes(shard["indices"], shard["values"], n_latents)
    return SparseCodes.of_flat(shard["indices"], shard["values"], shard["counts"], n_latents)


@dataclass(frozen=True)
class StoredCodes:
    """The codes of all texts at `side` under `dictionary`, read from the disk shard by shard (a `CodeSource`)."""

    run_folder: Path
    dictionary: DictionaryId
    side: str
    n_latents: int
    n_texts: int

    def __len__(self) -> int:
        return self.n_texts

    def parts(self) -> Iterator[tuple[int, SparseCodes]]:
        """Raises UserError where the shards do not hold `n_texts` texts of a dictionary of this width."""
        folder, first = self.run_folder / "codes" / codes_folder(self.dictionary, self.side), 0
        for path in _shards_in(folder):
            codes = _of_shard(read_shard(path), self.n_latents)
            _check_width(folder, codes)
            yield first, codes
            first += len(codes)
        if first != self.n_texts:
            raise UserError(f"{folder}: expected {self.n_texts} texts, found {first}; encode this side again")


@dataclass(frozen=True)
class StrongerCodes:
    """For each text and latent the stronger of two codes of the same texts, stored in shards of the same texts."""

    one: StoredCodes
    other: StoredCodes

    @property
    def n_latents(self) -> int:
        return self.one.n_latents

    def __len__(self) -> int:
        return len(self.one)

    def parts(self) -> Iterator[tuple[int, SparseCodes]]:
        for (first, codes), (_, others) in zip(self.one.parts(), self.other.parts(), strict=True):
            yield first, codes.maximum(others)


def some_rows(codes: CodeSource, rows: np.ndarray) -> SparseCodes:
    """The codes of some texts (int64, ascending), in memory."""
    found: list[SparseCodes] = []
    for first, part in codes.parts():
        lo, hi = np.searchsorted(rows, (first, first + len(part)))
        found.append(part.rows(rows[lo:hi] - first))
    return concatenate(found)


def codes_shard_path(run_folder: Path, dictionary: DictionaryId, side: str, shard: int) -> Path:
    return run_folder / "codes" / codes_folder(dictionary, side) / shard_name(shard)


def read_codes(run_folder: Path, dictionary: DictionaryId, side: str, n_latents: int) -> SparseCodes:
    """The codes of all texts at `side` under `dictionary`; row i is text i."""
    folder = run_folder / "codes" / codes_folder(dictionary, side)
    codes = concatenate([_of_shard(read_shard(path), n_latents) for path in _shards_in(folder)])
    _check_width(folder, codes)
    return codes


def _shards_in(folder: Path) -> list[Path]:
    paths = shard_paths(folder)
    if not paths:
        raise UserError(f"{folder}: expected shards, found none; run the study up to this stage first")
    return paths


def _check_width(folder: Path, codes: SparseCodes) -> None:
    if codes.indices_nk.size and not 0 <= int(codes.indices_nk.max()) < codes.n_latents:
        found = int(codes.indices_nk.max())
        raise UserError(f"{folder}: expected latents below {codes.n_latents}, found {found}; encode this side again")
