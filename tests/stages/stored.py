"""A run folder that has texts and activations, as its stages would have left them, and no model behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from antar.core.atomic import write_parquet
from antar.core.manifest import MANIFEST_NAME, Fingerprint, write_manifest
from antar.core.shards import shard_name, write_shard
from antar.core.sites import Site
from antar.engines import InlineEngine
from antar.stages.context import Context
from antar.study import parse_study

D, PER_SHARD = 12, 40
STUDY = """\
study: stored
seed: 3
models: {base: {path: nowhere}, chat: {path: nowhere}, shams: {a: {path: nowhere}}}
corpus:
  sources: [{source: files, paths: [none.jsonl], group_column: g}]
  split: {train: 0.6, val: 0.1, heldout: 0.3, controls: same}
extract: {layers: [0, 1]}
dictionaries: {n_latents: 24, k: 3, max_epochs: 3, check_every_epochs: 1, warmup_steps: 2, k_aux: 8, batch: 32,
  lr: 0.005, threads: 1, device: cpu}
"""


def stored_texts() -> pl.DataFrame:
    n = 150
    return pl.DataFrame({
        "text_id": [f"t{i}" for i in range(n)],
        "group": ["cultural" if i % 2 else "control" for i in range(n)],
        "language": ["en" if i % 3 else "hi" for i in range(n)],
        "document": [f"d{i}" for i in range(n)],
        "split": ["val" if i % 10 == 4 else "heldout" if i % 10 > 6 else "train" for i in range(n)],
    })  # fmt: skip


def stored_run(folder: Path, **changes: Any) -> Context:
    """The context of a study of 150 texts, two layers and one sham, whose activations lie in `folder`."""
    study = parse_study(yaml.safe_load(STUDY) | changes, "stored")
    texts = stored_texts()
    write_parquet(folder / "corpus" / "texts.parquet", texts)
    corpus = folder / "corpus" / MANIFEST_NAME
    write_manifest(corpus, "corpus", Fingerprint(), [corpus.with_name("texts.parquet")], {"n_texts": texts.height})
    rng = np.random.default_rng(0)
    for layer in (0, 1):
        base_nd = rng.standard_normal((texts.height, D)) * np.linspace(0.3, 2, D)
        for side in ("base", "chat", "sham:a"):
            acts_nd = base_nd + (0.4 * rng.standard_normal(base_nd.shape) if side != "base" else 0)
            write_site(folder, Site(side, layer), acts_nd.astype(np.float32))
    return Context(study, folder, folder, InlineEngine())


def write_site(folder: Path, site: Site, acts_nd: np.ndarray) -> None:
    """Its shards and a manifest with their true checksums."""
    place, files = folder / "activations" / site.folder, []
    for shard, lo in enumerate(range(0, len(acts_nd), PER_SHARD)):
        files.append(place / shard_name(shard))
        write_shard(files[-1], {"acts": acts_nd[lo : lo + PER_SHARD]}, "f")
    write_manifest(place / MANIFEST_NAME, f"activations/{site}", Fingerprint(), files)
