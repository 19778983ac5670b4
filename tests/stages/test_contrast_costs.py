"""`antar plan` says what the contrasts cost before they are made."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from antar.stages import costs

sys.path.insert(0, str(Path(__file__).parent))
from stored import stored_run


def contrasts_of(context, monkeypatch, **changes):
    settings = context.study.contrasts.model_copy(update=changes)
    other = replace(context, study=context.study.model_copy(update={"contrasts": settings}))
    monkeypatch.setattr(costs, "SECONDS_A_FIRING_AND_SHUFFLE", 1.0)  # so that minutes are whole numbers
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
