"""The section on confounds counts what it says that it counts."""

from __future__ import annotations

import polars as pl
import yaml

from antar.report.confounds import confounds_section
from antar.report.effects import pooled_rows
from antar.run import load_run


def row_of(section, label: str, on: str):
    table = section.blocks[1]
    return next(row for row in table.rows if row.head == label and row.cells[0] == on)


def test_large_effects_that_length_explains_are_counted_out(reported) -> None:
    section = confounds_section(reported)
    rows = pooled_rows(reported.contrasts).filter((pl.col("contrast") == "culture") & (pl.col("null") == ""))
    large = rows.filter((pl.col("d_av").abs() > 0.8) & (pl.col("q") < 0.05))
    cells = row_of(section, "culture", "real").cells
    left = large.filter(pl.col("d_partial").abs() > 0.8).height
    assert 0 < left < large.height
    assert [str(cell) for cell in cells[1:4]] == [
        str(large.height),
        str(large.filter(pl.col("p_max") < 0.05).height),
        str(left),
    ]


def test_a_shift_has_no_effect_after_length(reported) -> None:
    cells = row_of(confounds_section(reported), "shift", "real").cells
    assert str(cells[3]) not in {"0", "1"}


def test_bounds_are_the_studys_own(make_run) -> None:
    run = make_run()
    usual = confounds_section(run).blocks[1]
    assert "AUROC 0.95" in usual.note and "10-fold odds: |log-odds of firing| > 2.303 " in usual.note
    path = run.folder / "study.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["contrasts"]["script_auroc"] = 0.9
    study["criteria"]["log_odds"] = 0.6931471805599453  # odds that double
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    section = confounds_section(load_run(run.folder))
    table = section.blocks[1]
    assert "AUROC 0.9)" in table.note and "2-fold odds: |log-odds of firing| > 0.693 " in table.note
    assert table.columns[-1].title == "2-fold odds, q < 0.05"
    rows = pooled_rows(run.contrasts).filter((pl.col("contrast") == "culture") & (pl.col("null") == ""))
    clear = (pl.col("log_odds_lo") > 0) | (pl.col("log_odds_hi") < 0)
    doubled = rows.filter((pl.col("log_odds").abs() > 0.6931471805599453) & clear & (pl.col("q") < 0.05)).height
    assert str(row_of(section, "culture", "real").cells[-1]) == str(doubled)
    assert doubled != rows.filter((pl.col("log_odds").abs() > 2.302585) & clear & (pl.col("q") < 0.05)).height
