"""`antar export --to tables`: contrasts and features for a spreadsheet, a notebook or a paper.

A file for each contrast and one for the features. CSV and parquet have every column; LaTeX has those that a table in
a paper has: the effect with its interval, q, and the same number under each null.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from antar.core import latex
from antar.core.errors import UserError
from antar.core.progress import say
from antar.core.sheets import csv_bytes
from antar.core.sites import DictionaryId
from antar.run import Run
from antar.share.labelled import contrasts_of, features_of

TABLE_FORMATS = ("csv", "parquet", "tex")
TEX_ROWS = 20
"""Rows of a LaTeX table where nobody says how many: a page of a paper."""
CSV_ROWS = 100_000
"""The facets' table has a row for each value, language and latent; as CSV more of it is written when asked for."""


def write_tables(
    run: Run,
    folder: Path,
    format: str = "csv",
    contrast: str | None = None,
    dictionary: DictionaryId | None = None,
    top: int | None = None,
) -> int:
    """Write the tables into `folder`; returns how many files. `contrast`: that one alone, and no features.

    top: the strongest effects of each contrast alone (of real and of null dictionaries each), and as many features
    """
    if format not in TABLE_FORMATS:
        raise UserError(f"--format: expected {', '.join(TABLE_FORMATS)}, found {format!r}")
    frames = {} if contrast is not None else {"features": _cut_features(features_of(run, dictionary), format, top)}
    contrasts = contrasts_of(run, contrast, dictionary)
    if contrast is None and top is None and format == "csv" and (contrasts["contrast"] == "facet").sum() > CSV_ROWS:
        say(f"  facet is left out, over {CSV_ROWS:,} rows; --contrast facet, --top N or --format parquet has it")
        contrasts = contrasts.filter(pl.col("contrast") != "facet")
    for (name,), rows in contrasts.group_by("contrast", maintain_order=True):
        frames[str(name)] = _cut_effects(rows, format, top)
    for name, frame in frames.items():
        _write(folder / f"{name}.{format}", frame, format)
    return len(frames)


def _cut_features(frame: pl.DataFrame, format: str, top: int | None) -> pl.DataFrame:
    if format == "tex":
        frame = frame.filter("live")
    if top is None and format != "tex":
        return frame
    ranked = frame.sort(pl.col("coherence").fill_nan(None), descending=True, nulls_last=True, maintain_order=True)
    return ranked.head(top or TEX_ROWS)


def _cut_effects(frame: pl.DataFrame, format: str, top: int | None) -> pl.DataFrame:
    if top is None and format != "tex":
        return frame
    top = top or TEX_ROWS
    real = frame.filter(pl.col("null") == "").head(top)
    return real if format == "tex" else pl.concat([real, frame.filter(pl.col("null") != "").head(top)])


def _write(path: Path, frame: pl.DataFrame, format: str) -> None:
    if format == "parquet":
        frame.write_parquet(path)
    elif format == "csv":
        path.write_bytes(csv_bytes(frame.columns, frame.iter_rows()))
    else:
        heads, rows = _paper(frame)
        path.write_text(f"{latex.PREAMBLE}\n{latex.table(heads, rows)}", encoding="utf-8")


def _paper(frame: pl.DataFrame) -> tuple[list[str], list[Sequence[Any]]]:
    """The columns of a LaTeX table, under heads that a reader knows. Those that are empty throughout are left out."""
    if "d_av" in frame.columns:
        columns = {"feature": "feature", "label": "label", "value": "value", "language": "language",
                   "side_b": "on", "d_av": "d", "d_lo": "95% low", "d_hi": "95% high", "q": "q"}  # fmt: skip
        prefix = "d_av_null_"
        nulls = [name for name in frame.columns if name.startswith(prefix)]
        columns |= {name: f"d, {name.removeprefix(prefix)}" for name in nulls}
    else:
        columns = {"feature": "feature", "label": "label", "firing_rate": "fires",
                   "firing_rate_cultural": "on cultural", "firing_rate_control": "on controls",
                   "coherence": "coherence (chance 0.5)"}  # fmt: skip
    kept = [name for name in columns if name in frame.columns and frame[name].null_count() < max(frame.height, 1)]
    if "side_b" in kept and frame["side_b"].n_unique() == 1:
        kept.remove("side_b")
    return [columns[name] for name in kept], list(frame.select(kept).iter_rows())
