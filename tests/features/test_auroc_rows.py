"""A row's AUROC comes from ranks (`statistics`, `paired`), its ends from placements: both must be of one number."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, measure_contrasts

BASE, DELTA = DictionaryId("base", 3), DictionaryId("delta", 3)
LATENTS, K = 24, 6


def texts_of(rng: np.random.Generator, n: int) -> pl.DataFrame:
    """Documents of two or three texts, of one group and language each; groups and languages unequally shared."""
    documents = np.repeat(np.arange(n), rng.integers(2, 4, n))[:n]
    cultural, hindi = rng.random(n) < 0.35, rng.random(n) < 0.3
    return pl.DataFrame({
        "text_id": [f"t{i}" for i in range(n)],
        "text": ["x" * int(m) for m in rng.integers(20, 200, n)],
        "group": np.where(cultural, "cultural", "control")[documents],
        "language": np.where(hindi, "hi", "en")[documents],
        "source": ["made"] * n,
        "document": [f"d{i}" for i in documents],
        "split": ["heldout"] * n,
        "half": np.where(rng.random(n) < 0.7, "estimate", "select")[documents],
        "topic": rng.choice(["a", "b", "c"], n),
    })  # fmt: skip


def codes_of(rng: np.random.Generator, n: int, ties: bool) -> SparseCodes:
    """`K` of `LATENTS` codes a text, some latents rare and some on almost every text; rounded ones often tie."""
    wanted = rng.random((n, LATENTS)) * np.geomspace(0.2, 3, LATENTS)
    indices = np.sort(np.argsort(-wanted, axis=1)[:, :K], axis=1).astype(np.int32)
    values = rng.lognormal(0, 0.8, (n, K)) * (rng.random((n, K)) < 0.9)
    return SparseCodes(indices, (np.ceil(values) if ties else values).astype(np.float32), LATENTS)


@pytest.mark.parametrize("seed", range(4))
def test_the_auroc_lies_strictly_inside_its_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 500
    codes = {(BASE, "base"): codes_of(rng, n, seed % 2 == 0), (BASE, "chat"): codes_of(rng, n, seed % 2 == 0),
             (DELTA, "delta"): codes_of(rng, n, False)}  # fmt: skip
    config = ContrastConfig(permutations=20, facet_permutations=20, facets=("topic",))
    rows = measure_contrasts(texts_of(rng, n), codes, config, seed=seed)
    # One checkpoint on both sides is a difference of zero: ½, without error. That is asserted apart.
    same = pl.col("null") == "same_checkpoint"
    for name in ("auroc", "auroc_lo", "auroc_hi"):
        np.testing.assert_allclose(rows.filter(same)[name].drop_nulls().drop_nans(), 0.5, atol=1e-12)
    rows = rows.filter(~same)
    known = rows.filter(pl.col("auroc_lo").is_not_nan() & pl.col("auroc_hi").is_not_nan())
    counts = dict(known.group_by("contrast").len().iter_rows())
    for contrast in ("culture", "shift", "interaction", "facet"):
        assert counts.get(contrast, 0) > LATENTS, f"{contrast}: too few intervals to say anything"
    outside = known.filter(~((pl.col("auroc_lo") < pl.col("auroc")) & (pl.col("auroc") < pl.col("auroc_hi"))))
    assert outside.is_empty(), outside.select(
        "contrast", "null", "language", "latent", "auroc_lo", "auroc", "auroc_hi"
    )
    # The interval is symmetric in the logit, so its middle there is the number that placements gave: the row's own.
    logit = np.log(known["auroc"] / (1 - known["auroc"])).to_numpy()
    low, high = (np.log(known[end] / (1 - known[end])).to_numpy() for end in ("auroc_lo", "auroc_hi"))
    np.testing.assert_allclose((low + high) / 2, logit, atol=1e-6)
