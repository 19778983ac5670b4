"""`antar export --to datasets`: texts and tables as a folder that `datasets.load_dataset` opens.

A configuration each for `texts` (a split for each of the study's), `features`, `contrasts`, `examples` and `labels`,
as parquet, and a card whose front matter says which files are which.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from antar.core.progress import say
from antar.run import Run
from antar.share.card import dataset_card
from antar.share.cleaning import refuse_keys
from antar.share.contents import examples_with_texts, refuse_paths_in
from antar.share.labelled import contrasts_of, features_of
from antar.share.parcel import CARD

SPLITS = {"train": "train", "val": "validation", "heldout": "test"}
"""The study's split → what readers of the hub call it; another keeps its own name."""


def write_dataset(run: Run, folder: Path, with_texts: bool) -> int:
    """Write the tables and the card into `folder`; returns how many files."""
    files = dataset_files(run, with_texts)
    for name, frame in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(folder / name)
    card = dataset_card(run, configurations(files), with_texts)
    refuse_keys(CARD, card.encode())
    (folder / CARD).write_text(card, encoding="utf-8")
    if with_texts:
        say("  texts are in it, under the licences of where they come from; see to them before you give it away")
    return len(files) + 1


def dataset_files(run: Run, with_texts: bool) -> dict[str, pl.DataFrame]:
    """Name → table, of what the run has. Examples go with the texts, of which they are."""
    files: dict[str, pl.DataFrame] = {}
    if with_texts:
        refuse_paths_in(run.texts, run.folder)
        for split in run.texts["split"].unique(maintain_order=True):
            files[f"data/texts/{SPLITS.get(split, split)}.parquet"] = run.texts.filter(pl.col("split") == split)
    tables = {
        "features": ("features/features.parquet", lambda: features_of(run)),
        "contrasts": ("features/contrasts.parquet", lambda: contrasts_of(run)),
        "labels": ("interpret/labels.jsonl", lambda: run.labels),
        "examples": ("features/examples.parquet", lambda: examples_with_texts(run)),
    }
    for name, (path, read) in tables.items():
        if run.has(path) and (with_texts or name != "examples"):
            files[f"data/{name}/train.parquet"] = read()
    return files


def configurations(files: Iterable[str]) -> list[dict[str, Any]]:
    """The `configs` of the front matter; the first is the default."""
    found: dict[str, list[dict[str, str]]] = {}
    for name in files:
        _, table, last = name.split("/")
        found.setdefault(table, []).append({"split": last.removesuffix(".parquet"), "path": name})
    configs: list[dict[str, Any]] = [{"config_name": table, "data_files": splits} for table, splits in found.items()]
    return [config | ({"default": True} if at == 0 else {}) for at, config in enumerate(configs)]
