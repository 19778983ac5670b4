"""Part of `measure`: tests the chosen features on a `split: crosscheck` source: `features/crosscheck.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from antar.core.atomic import write_json
from antar.core.progress import say
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features.crosscheck import measure_crosscheck
from antar.features.examples import crosscheck_rows
from antar.stages.context import Context

FILE = "crosscheck.json"


def write_crosscheck(
    context: Context,
    texts: pl.DataFrame,
    codes: Mapping[tuple[DictionaryId, str], SparseCodes],
    contrasts: pl.DataFrame,
    live: Mapping[DictionaryId, np.ndarray],
) -> list[Path]:
    """The file, written; nothing, and no file of an earlier study, where the corpus has no cross-check texts."""
    path = context.folder / "features" / FILE
    if not crosscheck_rows(texts).any():
        path.unlink(missing_ok=True)
        return []
    say("  cross-check")
    study = context.study
    write_json(path, measure_crosscheck(texts, codes, contrasts, live, study.crosscheck, study.seed))
    return [path]
