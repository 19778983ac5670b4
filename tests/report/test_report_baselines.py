"""The section "Beyond the baselines": what it says of a made-up run, and of runs that have less."""

from __future__ import annotations

import polars as pl
import pytest

from antar.report.baselines import answer, baselines_section
from antar.report.blocks import Paragraph, Table
from antar.run import load_run


def tables(run):
    return {block.caption: block for block in baselines_section(run).blocks if isinstance(block, Table)}


def test_the_answer_counts_places_above_and_below(reported):
    told = answer(reported.baselines)
    assert "above every baseline, interval against interval, at 1 of 2 places (below at 1)" in told
    assert "by -0.70 to +0.90" in told.replace("−", "-")
    assert "On the shams' deltas, against their own mean difference alone, it does at 0 of 2." in told
    assert answer(reported.baselines.filter(pl.col("method") != "topk")).startswith("No delta dictionary")


def test_each_feature_stands_beside_every_baseline(reported, page):
    table = tables(reported)["Cultural against control texts: the best feature beside the baselines"]
    assert len(table.rows) == 3 * 2 * 3  # real, sham, shuffled; layers; languages and pooled
    assert [row.null for row in table.rows] == [False] * 6 + [True] * 12  # real rows first
    titles = [column.title for column in table.columns]
    first = dict(zip(titles, [table.rows[0].head, *table.rows[0].cells], strict=True))
    assert first["best feature"] == "delta.layer01/3" and first["its d"].text == "1.90"
    assert first["mean difference"].text == "1.00" and first["best PCA direction"].text == "0.70"
    assert first["best neuron"] == "not measured" and first["intervals"] == "above"
    assert "Beyond the baselines" in page and "delta.layer01/3" in page
    lens = tables(reported)["The mean difference vector itself"]
    assert len(lens.rows) == 18 and "36.0%" in lens.rows[0].cells


def test_the_count_on_random_weights_stands_beside_that_on_base(reported):
    caption = "How many features separate cultural from control texts"
    plain = tables(reported)[caption]
    assert plain.rows[0].head == "base, all layers" and "no model of random weights" in plain.note
    other = load_run(reported.folder)
    rows = reported.contrasts.filter((pl.col("dictionary") == "base.layer01") & (pl.col("contrast") == "culture"))
    untrained = rows.filter(pl.col("null") == "").with_columns(
        dictionary=pl.lit("untrained.layer01"),
        side_a=pl.lit("untrained"),
        side_b=pl.lit("untrained"),
        null=pl.lit("random_weights"),
        q=pl.lit(1.0),
    )
    other.__dict__["contrasts"] = pl.concat([reported.contrasts, untrained])
    table = tables(other)[caption]
    by_head = {row.head: row for row in table.rows}
    assert by_head["base, all layers"].cells[:2] == plain.rows[0].cells[:2] and plain.rows[0].cells[0] != "0"
    null = by_head["a model of random weights, layer 1"]
    assert null.null and null.cells[:2] == ["0", "24"] and "no model of random" not in table.note


@pytest.mark.parametrize("parts", [{"contrasts": False}])
def test_a_run_without_them_says_so(make_run, parts):
    section = baselines_section(make_run(**parts))
    assert [type(block) for block in section.blocks] == [Paragraph]
    assert "has not been measured" in section.blocks[0].text
    assert load_run(make_run(**parts).folder).baselines.is_empty()


def test_a_run_without_a_sham_says_nothing_of_shams(make_run):
    run = make_run(sham=False)
    assert "sham" not in answer(run.baselines) and len(tables(run)) == 3
