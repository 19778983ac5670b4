"""What `measure` says before hours are spent, and what it leaves behind when it fails."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pytest
import yaml

from antar.core.atomic import write_json, write_parquet
from antar.core.errors import UserError
from antar.features.contrasts import SCHEMA
from antar.pipeline import open_study, run_study
from antar.stages import measure

sys.path.insert(0, str(Path(__file__).parent))
from stored import stored_run

STUDY = """\
study: early
models: {base: {path: nowhere}, chat: {path: nowhere}}
corpus:
  sources: [{source: files, paths: [texts.jsonl], group_column: group, facets: {topic: topic}}]
  match: null
  split: {train: 0.4, val: 0.3, heldout: 0.3}
"""
OLD = ("criteria.json", "truth_report.json", "features/contrasts.parquet")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"within": "topik"}, r"contrasts\.within: expected a column of the texts, found 'topik'"),
        ({"facets": ["topik"]}, r"contrasts\.facets: expected one of topic, found 'topik'"),
        ({"within": "topic", "facets": ["topic"]}, None),
    ],
)
def test_a_facet_that_no_text_has_is_said_once_the_texts_are_there(tmp_path, asked, said):
    rows = [
        f'{{"text": "A lamp number {i} {group}", "group": "{group}", "topic": "t{i % 2}"}}'
        for i in range(20)
        for group in ("cultural", "control")
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(STUDY) | {"contrasts": asked}), encoding="utf-8")
    context = open_study(path, tmp_path / "runs")
    with nullcontext() if said is None else pytest.raises(UserError, match=said):
        run_study(context, until="corpus")


@pytest.fixture
def measured(tmp_path):
    """A run that was measured before; its files say nothing true, but they are there."""
    context = stored_run(tmp_path)
    columns = {"dictionary": pl.String, "latent": pl.Int64, "live": pl.Boolean}
    write_parquet(tmp_path / "features" / "features.parquet", pl.DataFrame(schema=columns))
    for name in OLD:
        write_json(tmp_path / name, {"old": True})
    return context


def fails(*_: object) -> None:
    raise UserError("contrasts: as good as any mistake")


def left(folder: Path) -> list[str]:
    return [name for name in OLD if (folder / name).is_file()]


def test_contrasts_that_cannot_be_measured_take_no_verdict_away(measured, monkeypatch):
    monkeypatch.setattr(measure, "measure_contrasts", fails)
    with pytest.raises(UserError, match="as good as any"):
        measure._measure(measured)
    assert left(measured.folder) == list(OLD)


def test_old_verdicts_are_never_beside_new_contrasts(measured, monkeypatch):
    monkeypatch.setattr(measure, "measure_contrasts", lambda *_: pl.DataFrame(schema=SCHEMA))
    monkeypatch.setattr(measure, "write_crosscheck", fails)
    with pytest.raises(UserError, match="as good as any"):
        measure._measure(measured)
    assert left(measured.folder) == ["features/contrasts.parquet"]
