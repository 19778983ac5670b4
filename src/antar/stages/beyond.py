"""The part of stage 6 that holds the best delta features against what needs no dictionary (features/beyond.py)."""

from __future__ import annotations

import polars as pl

from antar.core.sites import Site
from antar.features.beyond import beyond_baselines
from antar.features.meandiff import culture_designs, mean_difference_effects
from antar.models import read_site
from antar.stages.context import Context
from antar.stages.train import jitter


def baselines_table(context: Context, texts: pl.DataFrame, contrasts: pl.DataFrame) -> pl.DataFrame:
    """`features/baselines.parquet`: the delta and each sham's at every layer, in every language and pooled."""
    study = context.study
    halves = culture_designs(texts, study.contrasts, study.seed)
    shuffled = "shuffled" in study.contrasts.nulls
    frames: list[pl.DataFrame] = []
    for name in (None, *study.sham_names):
        for layer in context.layers():
            site = Site("delta" if name is None else f"delta:{name}", layer)
            floor = jitter(context, site)
            # A sham is a null itself: its shuffles would be a null of a null.
            found = mean_difference_effects(read_site(context.folder, site), halves, floor, shuffled and name is None)
            null = pl.col("null") if name is None else pl.lit(f"sham:{name}")
            frames.append(found.with_columns(side=pl.lit(site.side), layer=pl.lit(layer, pl.Int64), null=null))
    return beyond_baselines(pl.concat(frames), contrasts)
