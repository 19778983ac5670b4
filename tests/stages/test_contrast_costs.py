"""`antar plan` says what the contrasts cost before they are made."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from antar.core.atomic import write_parquet
from antar.core.sparse import SparseCodes
from antar.features.contrasts import measure_contrasts
from antar.stages import contrast_costs, costs

sys.path.insert(0, str(Path(__file__).parent))
from stored import STUDY, stored_run


def contrasts_of(context, monkeypatch, **changes):
    settings = context.study.contrasts.model_copy(update=changes)
    other = replace(context, study=context.study.model_copy(update={"contrasts": settings}))
    monkeypatch.setattr(contrast_costs, "SECONDS_A_FIRING_AND_SHUFFLE", 1.0)  # so that minutes are whole numbers
    (cost,) = [cost for cost in costs.estimate_costs(other) if cost.what == "contrasts"]
    return cost, float(cost.amount.removeprefix("at most ").removesuffix(" CPU minutes").replace(",", ""))


def test_cost_grows_with_shuffles_and_with_each_contrast_that_is_defined(tmp_path, monkeypatch):
    context = stored_run(tmp_path)
    asked = {"permutations": 100, "facets": ()}
    cost, every = contrasts_of(context, monkeypatch, **asked)
    _, twice = contrasts_of(context, monkeypatch, permutations=200, facets=())
    _, culture = contrasts_of(context, monkeypatch, shift=False, interaction=False, **asked)
    assert twice == pytest.approx(2 * every) and 0 < culture < every
    assert "100 shuffles" in cost.basis
    n, k = context.n_texts(), context.study.dictionaries.k
    assert culture <= len(context.code_sets()) * n * k * 100 / 60 + 0.1  # texts × k × shuffles for each set of codes


def study_of(folder, **changes):
    recipe = yaml.safe_load(STUDY)["dictionaries"] | {"sides": ["base", "chat", "delta"], "baselines": ["pca"]}
    return stored_run(folder, dictionaries=recipe | changes)


def test_the_rule_is_that_of_what_is_measured(tmp_path, monkeypatch):
    """Minutes are one job's for each (contrast, dictionary, sides) whose rows a measurement has: shams' and null
    dictionaries' facets and base against itself are among them, baselines' facets are not."""
    context = study_of(tmp_path)
    n, k = context.n_texts(), context.study.dictionaries.k
    names = [f"v{i % 4}" if i % 2 else None for i in range(n)]
    texts = context.texts().with_columns(
        text=pl.lit("a"), half=pl.Series([("select", "estimate")[i // 4 % 2] for i in range(n)]),
        topic=pl.Series(names), document=pl.Series([f"d{i}" for i in range(n)]),
        split=pl.lit("heldout"),
    )  # fmt: skip
    write_parquet(tmp_path / "corpus" / "texts.parquet", texts)
    asked = {"permutations": 100, "facets": ("topic",), "facet_permutations": 20}
    cost, minutes = contrasts_of(context, monkeypatch, **asked)
    rng = np.random.default_rng(0)
    sets = {
        key: SparseCodes.of_flat(np.tile(np.arange(k), n), rng.lognormal(size=n * k), np.full(n, k), 24)
        for key in context.code_sets()
    }
    table = measure_contrasts(texts, sets, context.study.contrasts.model_copy(update=asked))
    made = table.filter(pl.col("null") != "shuffled").select("contrast", "dictionary", "side_a", "side_b").unique()
    values = table["value"].drop_nulls().n_unique()
    assert values == 2 and f"topic ({values} values)" in cost.basis
    expected = 0
    for contrast, _, a, b in made.rows():
        expected += (20 * values if contrast == "facet" else 100) * n * k * (1 if a == b else 2)
    assert minutes == pytest.approx(expected / 60, abs=0.06)
    assert made.filter(contrast="facet", dictionary="delta:a.layer00").height == 1
    assert made.filter(contrast="facet", dictionary="base.layer00.pca").height == 0
    assert made.filter(contrast="shift", side_b="base").height == 2


def test_without_a_corpus_the_plan_says_that_values_are_not_counted(tmp_path, monkeypatch):
    context = study_of(tmp_path)
    for file in (tmp_path / "corpus").iterdir():
        file.unlink()
    cost, _ = contrasts_of(context, monkeypatch, facets=("topic",))
    assert "topic" in cost.basis and "as if each had one value" in cost.basis


def test_counterparts_have_a_row_at_or_above_what_was_measured(tmp_path, monkeypatch):
    def row(n_latents, **changes):
        context = study_of(tmp_path, n_latents=n_latents, **changes)
        found = [cost for cost in costs.estimate_costs(context) if cost.what == "counterparts"]
        return found[0] if found else None

    monkeypatch.setattr(contrast_costs, "compared", lambda _: [("a", "b", "")] * 60)  # so that minutes are seconds
    for n, seconds, gigabytes in ((1024, 1, 0), (4096, 22, 0.9), (8192, 223, 2.8)):  # find_counterparts' docstring
        minutes, memory = row(n).amount.removeprefix("at most ").removesuffix(" GiB").split(" CPU minutes, ")
        assert seconds <= float(minutes) < 2 * seconds and gigabytes <= float(memory) * 2**30 / 1e9 < gigabytes + 1
    monkeypatch.undo()
    assert row(24, seeds=2).basis.startswith("6 pairs of dictionaries of 24 latents, 4 of them another seed")
    assert row(24, sides=["delta"]) is None
