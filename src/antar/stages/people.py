"""Annotation by people: a run's sheet, its ways out and back, and what it says for criterion 6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from antar.core.errors import UserError
from antar.criteria import Agreement
from antar.criteria.types import Cell
from antar.people.agreement import Agreement as SiteAgreement
from antar.people.config import PeopleConfig
from antar.people.csvs import export_sheet, export_table, import_sheet
from antar.people.draw import Sheet, draw_sheet
from antar.people.findings import Findings, findings_of
from antar.people.merge import Merged, export_log, merge
from antar.people.schema import SHEET, connect
from antar.run import Run, load_run


def init_sheet(run_folder: Path, annotators: Sequence[str], features: str | None = None) -> Sheet:
    """Draw the items under the study's `people` settings. `features`: how many, or a file with one feature a line."""
    run = load_run(run_folder)
    cfg, only = PeopleConfig.model_validate(run.study.get("people") or {}), None
    if features is not None and features.strip().isdecimal():
        if int(features) < 1:
            raise UserError(f"--features: expected a number from 1, found {features}; say how many")
        cfg = cfg.model_copy(update={"features": int(features)})
    elif features is not None:
        only = _listed(Path(features))
    return draw_sheet(
        candidates_of(run), run.examples, run.texts, cfg,
        seed=run.study["seed"], annotators=annotators, folder=run.folder / "people", only=only,
    )  # fmt: skip


def _listed(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"--features: expected a number, or a file with one feature a line, found {str(path)!r}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    if not any(lines):
        raise UserError(f"{path}: expected features, found none; write one a line, such as base.layer06/123")
    return [line for line in lines if line]


def candidates_of(run: Run) -> pl.DataFrame:
    """Every labelled feature with what the sample is drawn by (`draw.CANDIDATE_COLUMNS`).

    The label is the labeller's, which is the one that the validator judged: people and validator then answer the same
    question, also where the validator wrote a better one.
    """
    verdicts = run.verdicts.filter(pl.col("verdict").is_not_null()).select("feature", "verdict", "validator")
    named = run.labels.filter(pl.col("label").is_not_null()).join(verdicts, on="feature", how="left")
    return named.select(
        "feature",
        pl.col("feature").str.replace(r"/\d+$", "").alias("site"),
        "label",
        *(pl.col(name).fill_null("") for name in ("language", "category", "verdict", "validator")),
        _effect(run, named["feature"]).alias("effect"),
    )


def _effect(run: Run, features: pl.Series) -> pl.Series:
    """`large` where some contrast, pooled over languages, is above the study's d and below its q; else `small`."""
    if not run.has("features/contrasts.parquet"):
        return pl.Series([""] * len(features), dtype=pl.String)
    rules = run.study.get("criteria") or {}
    large = run.contrasts.filter(
        (pl.col("null") == "")
        & (pl.col("language") == "pooled")
        & (pl.col("d_av").abs() > rules.get("d", 0.8))
        & (pl.col("q") < rules.get("q", 0.05))
    )["feature"]
    found = set(large.to_list())
    return pl.Series(["large" if feature in found else "small" for feature in features], dtype=pl.String)


def sheet_is_of(run: Run, sheet: Path) -> bool:
    """Whether people judged the labels that this run has: after a retraining the same name is another feature."""
    labels = dict(run.labels.select("feature", "label").iter_rows())
    with connect(sheet) as database:
        judged = database.execute("SELECT feature, label FROM keys JOIN items USING (item) WHERE role = 'own'")
        return all(labels.get(feature) == label for feature, label in judged)


def criterion_agreement(findings: Findings) -> Agreement | None:
    """What criterion 6 reads of a sheet: the verdicts of people; None until two have judged some label."""
    found = findings.questions["verdict"]
    if found.annotators < 2 or found.items == 0:
        return None
    planted: dict[str, Cell] = {}
    for who, person in findings.people.items():
        planted[f"known-wrong labels not kept by {who}"] = person.refused.value
        planted[f"known-wrong labels judged by {who}"] = person.wrong_labels
        planted[f"same verdict at a second sight, {who}"] = person.repeated["verdict"].raw.value
        planted[f"second sights of {who}"] = person.repeats
    low, high = found.alpha.low, found.alpha.high
    return Agreement(
        alpha=found.alpha.value,
        alpha_ci=None if low is None or high is None else (low, high),
        ac1=found.ac1.value,
        raw=found.raw.value,
        items=found.items,
        judges=found.annotators,
        kappa=found.kappa.value,
        reason=found.alpha.reason,
        planted=planted,
        per_dictionary=[_site_row(site, questions["verdict"]) for site, questions in findings.split["site"].items()],
    )


def _site_row(site: str, found: SiteAgreement) -> dict[str, Cell]:
    return {
        "dictionary": site,
        "value": found.alpha.value,
        "raw agreement": found.raw.value,
        "items": found.items,
        "missing": found.alpha.reason if found.alpha.value is None else None,
    }


def export_annotations(run_folder: Path, target: Path, annotator: str | None) -> int:
    """CSV: one person's sheet to fill in, or without a person the table for analysis. JSONL: the log, to merge."""
    sheet = sheet_of(run_folder)
    if target.exists():
        raise UserError(f"{target}: exists already, perhaps with answers; give another name, or remove it first")
    if target.suffix == ".jsonl":
        return export_log(sheet, target, annotator)
    if target.suffix != ".csv":
        raise UserError(f"{target}: expected a name that ends in .csv or .jsonl, found another; give one")
    return export_table(sheet, target) if annotator is None else export_sheet(sheet, annotator, target)


def import_annotations(run_folder: Path, source: Path) -> str:
    """Read a filled-in CSV, or the JSON lines of another copy; returns what happened, in words."""
    sheet = sheet_of(run_folder)
    if source.suffix == ".jsonl":
        return merged_in_words(merge(sheet, source))
    return f"{import_sheet(sheet, source)} items are answered whole"


def merge_annotations(run_folder: Path, other: Path) -> Merged:
    return merge(sheet_of(run_folder), other)


def merged_in_words(merged: Merged) -> str:
    told = f"{merged.new} new lines, {merged.known} known already"
    if merged.people:
        told += f"; new people: {', '.join(merged.people)}"
    if merged.conflicts:
        told += f"; {merged.conflicts} answers differed from those here: the later stands, both are kept"
    return told


def annotation_findings(run_folder: Path) -> Findings:
    return findings_of(sheet_of(run_folder), seed=load_run(run_folder).study["seed"])


def sheet_of(run_folder: Path) -> Path:
    path = load_run(run_folder).folder / "people" / SHEET
    if not path.is_file():
        raise UserError(f"{path}: no sheet yet; `antar annotate init {run_folder} --annotators NAME,NAME` draws one")
    return path
