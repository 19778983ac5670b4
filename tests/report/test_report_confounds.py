"""The section on confounds counts what it says that it counts."""

from __future__ import annotations

import polars as pl

from antar.report.confounds import confounds_section
from antar.report.effects import pooled_rows


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
        str(large.height), str(large.filter(pl.col("p_max") < 0.05).height), str(left),
    ]  # fmt: skip


def test_a_shift_has_no_effect_after_length(reported) -> None:
    cells = row_of(confounds_section(reported), "shift", "real").cells
    assert str(cells[3]) not in {"0", "1"}
