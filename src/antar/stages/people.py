"""Annotation by people: the sheet of a run, and its way out to a spreadsheet and back."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from antar.core.errors import UserError
from antar.people.config import PeopleConfig
from antar.people.queue import SHEET, Sheet, make_sheet
from antar.people.sheets import export_csv, import_csv
from antar.run import load_run


def draw_sheet(run_folder: Path) -> Sheet:
    """Draw the items under the study's `people` settings. Labels are the validator's where it revised them."""
    run = load_run(run_folder)
    revised = run.verdicts.select("feature", pl.col("label").alias("revised"))
    labels = run.labels.join(revised, on="feature", how="left").with_columns(label=pl.coalesce("revised", "label"))
    labels = labels.filter(pl.col("label").is_not_null()).select("feature", "label")
    cfg = PeopleConfig.model_validate(run.study["people"])
    return make_sheet(run.texts, run.examples, labels, cfg, seed=run.study["seed"], folder=run.folder / "people")


def export_sheet(run_folder: Path, annotator: str, target: Path) -> Path:
    export_csv(_sheet(run_folder), annotator, target)
    return target


def import_sheet(run_folder: Path, source: Path) -> int:
    return import_csv(_sheet(run_folder), source)


def _sheet(run_folder: Path) -> Path:
    path = load_run(run_folder).folder / "people" / SHEET
    if not path.is_file():
        raise UserError(f"{path}: no sheet yet; `antar people sheet {run_folder}` draws one")
    return path
