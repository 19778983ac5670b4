"""Intervals against scipy, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from antar.criteria import CriteriaConfig, bootstrap_mean, clopper_pearson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_equals_scipy(counts: tuple[int, int]) -> None:
    successes, n = counts
    theirs = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_clopper_pearson_at_the_edges() -> None:
    assert clopper_pearson(0, 0) is None
    assert clopper_pearson(0, 1) == (0.0, 0.975)
    assert clopper_pearson(5, 5)[1] == 1.0  # type: ignore[index]
    with pytest.raises(ValueError, match="expected 0"):
        clopper_pearson(3, 2)


def test_bootstrap_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=120)
    ours = bootstrap_mean(values, CriteriaConfig(replicates=5000), "x")
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bootstrap_mean_covers() -> None:
    rng, cfg = np.random.default_rng(4), CriteriaConfig(replicates=300)
    covered = 0
    for trial in range(300):
        interval = bootstrap_mean(rng.normal(size=60), cfg, trial)
        assert interval is not None
        covered += interval[0] <= 0 <= interval[1]
    low, high = stats.binom.ppf([0.001, 0.999], 300, 0.94)  # the percentile interval is a little short at n = 60
    assert low <= covered <= high


def test_bootstrap_mean_in_blocks_is_deterministic_and_needs_two_values() -> None:
    cfg = CriteriaConfig(replicates=200)
    values = np.random.default_rng(5).normal(size=50_000)  # more than one block
    assert bootstrap_mean(values, cfg, "a") == bootstrap_mean(values, cfg, "a")
    assert bootstrap_mean(values, cfg, "a") != bootstrap_mean(values, cfg, "b")
    assert bootstrap_mean(values[:1], cfg, "a") is None
