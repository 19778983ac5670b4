"""Contrasts on plain arrays: for codes that come from anywhere, without a study or a run folder.

`compare_groups` asks whether features differ between two groups of texts, `compare_sides` whether they differ between
two codes of the same texts. Both give the table that `antar measure` writes (`contrasts.parquet`), with intervals,
p, q, p_max and what is left after length. Pass `half` to choose on one half of the documents and estimate on the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import polars as pl
from scipy import sparse

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features.config import ContrastConfig
from antar.features.contrasts import measure_contrasts

_NAME = DictionaryId("base", 0)
Labels = np.ndarray | Sequence[str]
Codes = SparseCodes | np.ndarray | sparse.sparray | sparse.spmatrix


def compare_groups(
    codes: Codes, in_b: np.ndarray, *, language: Labels | None = None, document: Labels | None = None,
    length: np.ndarray | None = None, half: Labels | None = None, config: ContrastConfig | None = None, seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """The `culture` contrast of any two groups of texts.

    codes:    n texts: `[n, n_latents]`, an array, a scipy sparse array or SparseCodes, values finite and at least 0
    in_b:     bool `[n]`, group b, which is compared with the rest
    language: `[n]`, strata that are compared within themselves and pooled; one for all by default
    document: `[n]`, what is shuffled and what standard errors count; each text its own by default
    length:   int `[n]`, labels are shuffled within bins of it (`config.length_bins`) and `d_partial` holds it equal
    half:     `[n]` of "select" and "estimate"; all of it is estimated by default
    config:   permutations, bins, nulls; the contrasts that it switches on are not looked at
    Raises UserError for arrays of another length or kind, and for a group without texts.
    """
    settings, its = _only(config, "culture"), _as_codes(codes, "codes")
    texts = _texts(len(its), _flags(in_b, len(its)), language, document, length, half)
    return measure_contrasts(texts, {(_NAME, "base"): its}, settings, seed).drop("dictionary", "feature")


def compare_sides(
    before: Codes, after: Codes, *, language: Labels | None = None, document: Labels | None = None,
    half: Labels | None = None, config: ContrastConfig | None = None, seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """The `shift` contrast of two codes of the same n texts under one dictionary; the other arguments as above."""
    one, other = _as_codes(before, "codes before"), _as_codes(after, "codes after")
    if len(one) != len(other) or one.n_latents != other.n_latents:
        raise UserError(
            f"codes after: expected {len(one)} texts and {one.n_latents} latents, as before, "
            f"found {len(other)} and {other.n_latents}"
        )
    texts = _texts(len(other), np.ones(len(other), dtype=bool), language, document, None, half)
    codes = {(_NAME, "base"): one, (_NAME, "chat"): other}
    return measure_contrasts(texts, codes, _only(config, "shift"), seed).drop("dictionary", "feature")


def _as_codes(codes: Codes, name: str) -> SparseCodes:
    if isinstance(codes, SparseCodes):
        found = codes
    else:
        given = cast(Any, codes)  # scipy's stubs do not know the shape of a sparse array
        if given.ndim != 2:
            raise UserError(f"{name}: expected texts × latents, found an array of {given.ndim} dimensions")
        matrix = sparse.csr_array(given)
        matrix.sum_duplicates()
        _, latents = cast("tuple[int, int]", matrix.shape)
        found = SparseCodes.of_flat(matrix.indices, matrix.data, np.diff(matrix.indptr), latents)
    found.check(name)
    fired = np.where(found.values_nk > 0, found.indices_nk, -1 - np.arange(found.indices_nk.shape[1]))
    ordered = np.sort(fired, axis=1)
    if (twice := (np.diff(ordered, axis=1) == 0).any(axis=1)).any():
        raise UserError(f"{name}: expected each latent once a text, found one twice in text {int(twice.argmax())}")
    return found


def _flags(in_b: np.ndarray, n: int) -> np.ndarray:
    flags = np.asarray(in_b)
    if flags.ndim != 1 or len(flags) != n:
        raise UserError(f"in_b: expected {n} values, one for each text of the codes, found shape {flags.shape}")
    if flags.dtype != np.bool_ and not np.isin(flags, (0, 1)).all():
        raise UserError(f"in_b: expected true and false (or 1 and 0), found {flags[~np.isin(flags, (0, 1))][0]!r}")
    flags = flags.astype(bool)
    if flags.all() or not flags.any():
        raise UserError(f"in_b: expected texts in either group, found {'all' if n and flags.all() else 'none'} in b")
    return flags


def _only(config: ContrastConfig | None, contrast: str) -> ContrastConfig:
    kinds = {name: name == contrast for name in ("shift", "culture", "interaction")}
    nulls = tuple(null for null in (config or ContrastConfig()).nulls if null == "shuffled")
    return (config or ContrastConfig()).model_copy(update={**kinds, "facets": (), "within": None, "nulls": nulls})


def _texts(
    n: int, in_b: np.ndarray, language: Labels | None, document: Labels | None, length: np.ndarray | None,
    half: Labels | None,
) -> pl.DataFrame:  # fmt: skip
    given = {"in_b": in_b, "language": language, "document": document, "length": length, "half": half}
    for name, values in given.items():
        if values is not None and len(values) != n:
            raise UserError(f"{name}: expected {n} values, one for each text of the codes, found {len(values)}")
    if length is not None and not (np.issubdtype(np.asarray(length).dtype, np.number) and np.isfinite(length).all()):
        raise UserError("length: expected a finite number for each text, found another")
    if half is not None and (unknown := sorted(set(map(str, half)) - {"select", "estimate"})):
        raise UserError(f"half: expected select and estimate, found {', '.join(unknown)}")

    def column(values: Labels | None, otherwise: Sequence[str]) -> list[str]:
        return [str(value) for value in (otherwise if values is None else values)]

    return pl.DataFrame(
        {
            "group": np.where(in_b, "cultural", "control"),
            "language": column(language, ["all"] * n),
            "document": column(document, [str(i) for i in range(n)]),
            "split": ["heldout"] * n,
            "half": column(half, ["estimate"] * n),
            "characters": np.ones(n, dtype=np.int64) if length is None else np.asarray(length, dtype=np.int64),
        }
    )
