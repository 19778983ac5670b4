"""Stratified, weighted AUROC against loops over pairs and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from antar.features.auroc import Strata, stratified_auroc, weighted_auroc


def naive(a, b, strata, weight_a, weight_b) -> float:
    """Every a against every b of its stratum."""
    wins, total = 0.0, 0.0
    for one in set(strata.of_a.tolist()):
        in_a, in_b = np.flatnonzero(strata.of_a == one), np.flatnonzero(strata.of_b == one)
        pairs = [(weight_a[i] * weight_b[j], (a[i] > b[j]) + 0.5 * (a[i] == b[j])) for i in in_a for j in in_b]
        mass = sum(weight for weight, _ in pairs)
        if mass > 0:
            share = weight_a[in_a].sum()
            wins += share * sum(weight * won for weight, won in pairs) / mass
            total += share
    return wins / total if total else float("nan")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 25), st.integers(1, 4))
def test_equals_a_loop_over_pairs(seed, n_a, n_b, n_strata):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, n_a) / 2, rng.integers(0, 4, n_b) / 2  # ties are the rule in sparse codes
    strata = Strata(rng.integers(0, n_strata, n_a), rng.integers(0, n_strata, n_b))
    weights = rng.integers(0, 3, (5, n_a)).astype(float), rng.integers(0, 3, (5, n_b)).astype(float)
    expected = [naive(a, b, strata, weights[0][r], weights[1][r]) for r in range(5)]
    np.testing.assert_allclose(weighted_auroc(a, b, strata, *weights), expected, atol=1e-12)
    plain = naive(a, b, strata, np.ones(n_a), np.ones(n_b))
    assert stratified_auroc(a, b, strata) == pytest.approx(plain, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_one_stratum_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.5, 1, 40).round(1), rng.normal(0, 1, 30).round(1)
    one = Strata(np.zeros(40, int), np.zeros(30, int))
    assert stratified_auroc(a, b, one) == pytest.approx(roc_auc_score([1] * 40 + [0] * 30, np.concatenate([a, b])))


def test_what_the_strata_explain_is_no_evidence():
    rng = np.random.default_rng(1)
    of_a, of_b = rng.choice(5, 600, p=[0.05, 0.1, 0.2, 0.3, 0.35]), rng.choice(5, 600, p=[0.35, 0.3, 0.2, 0.1, 0.05])
    a, b = of_a + rng.normal(size=600), of_b + rng.normal(size=600)
    pooled = Strata(np.zeros(600, int), np.zeros(600, int))
    assert stratified_auroc(a, b, pooled) > 0.75
    assert stratified_auroc(a, b, Strata(of_a, of_b)) == pytest.approx(0.5, abs=0.04)


def test_no_common_stratum_is_not_a_number():
    assert np.isnan(stratified_auroc(np.ones(2), np.ones(3), Strata(np.zeros(2, int), np.ones(3, int))))
