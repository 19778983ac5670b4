"""Annotation by people: the sheet of a run, and its way out to a spreadsheet and back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl

from antar.core.errors import UserError
from antar.people.config import PeopleConfig
from antar.people.queue import SHEET, Sheet, make_sheet
from antar.people.sheets import export_csv, import_csv
from antar.run import Run, load_run


def draw_sheet(run_folder: Path) -> Sheet:
    """Draw the items under the study's `people` settings. Labels are the validator's where it revised them."""
    run = load_run(run_folder)
    cfg = PeopleConfig.model_validate(run.study["people"])
    seed, folder = run.study["seed"], run.folder / "people"
    return make_sheet(run.texts, run.examples, final_labels(run), cfg, seed=seed, folder=folder)


def final_labels(run: Run) -> pl.DataFrame:
    """feature, label: the validator's where it revised one, the labeller's otherwise."""
    revised = run.verdicts.select("feature", pl.col("label").alias("revised"))
    labels = run.labels.join(revised, on="feature", how="left").with_columns(label=pl.coalesce("revised", "label"))
    return labels.filter(pl.col("label").is_not_null()).select("feature", "label")


def sheet_is_of(run: Run, sheet: Path) -> bool:
    """Whether people judged the labels that this run has: after a retraining the same name is another feature."""
    labels = dict(final_labels(run).iter_rows())
    with closing(sqlite3.connect(f"{sheet.resolve().as_uri()}?mode=ro", uri=True)) as database:
        judged = database.execute("SELECT feature, label FROM keys JOIN items USING (item) WHERE wrong_label = 0")
        return all(labels.get(feature) == label for feature, label in judged)


def export_sheet(run_folder: Path, annotator: str, target: Path) -> Path:
    if target.exists():
        raise UserError(f"{target}: exists already, perhaps with answers; give another name, or remove it first")
    export_csv(_sheet(run_folder), annotator, target)
    return target


def import_sheet(run_folder: Path, source: Path) -> int:
    return import_csv(_sheet(run_folder), source)


def _sheet(run_folder: Path) -> Path:
    path = load_run(run_folder).folder / "people" / SHEET
    if not path.is_file():
        raise UserError(f"{path}: no sheet yet; `antar people sheet {run_folder}` draws one")
    return path
