"""Contrasts on plain arrays: for codes that come from anywhere, without a study or a run folder.

`compare_groups` asks whether features differ between two groups of texts, `compare_sides` whether they differ between
two codes of the same texts. Both give the table that `antar measure` writes (`contrasts.parquet`), with intervals,
p, q, p_max and what is left after length. Pass `half` to choose on one half of the documents and estimate on the
other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features.config import ContrastConfig
from antar.features.contrasts import measure_contrasts

_NAME = DictionaryId("base", 0)
Labels = np.ndarray | Sequence[str]


def compare_groups(
    codes: SparseCodes, in_b: np.ndarray, *, language: Labels | None = None, document: Labels | None = None,
    length: np.ndarray | None = None, half: Labels | None = None, config: ContrastConfig | None = None, seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """The `culture` contrast of any two groups of texts.

    codes:    n texts; in_b: bool `[n]`, group b, which is compared with the rest
    language: `[n]`, strata that are compared within themselves and pooled; one for all by default
    document: `[n]`, what is shuffled and what standard errors count; each text its own by default
    length:   int `[n]`, labels are shuffled within bins of it (`config.length_bins`) and `d_partial` holds it equal
    half:     `[n]` of "select" and "estimate"; all of it is estimated by default
    config:   permutations, bins, nulls; the contrasts that it switches on are not looked at
    Raises UserError for arrays of another length, or a group without texts.
    """
    settings = _only(config, "culture")
    texts = _texts(len(codes), np.asarray(in_b, dtype=bool), language, document, length, half)
    return measure_contrasts(texts, {(_NAME, "base"): codes}, settings, seed).drop("dictionary", "feature")


def compare_sides(
    before: SparseCodes, after: SparseCodes, *, language: Labels | None = None, document: Labels | None = None,
    half: Labels | None = None, config: ContrastConfig | None = None, seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """The `shift` contrast of two codes of the same n texts under one dictionary; the other arguments as above."""
    if len(before) != len(after) or before.n_latents != after.n_latents:
        raise UserError(
            f"codes after: expected {len(before)} texts and {before.n_latents} latents, as before, "
            f"found {len(after)} and {after.n_latents}"
        )
    texts = _texts(len(after), np.ones(len(after), dtype=bool), language, document, None, half)
    codes = {(_NAME, "base"): before, (_NAME, "chat"): after}
    return measure_contrasts(texts, codes, _only(config, "shift"), seed).drop("dictionary", "feature")


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
