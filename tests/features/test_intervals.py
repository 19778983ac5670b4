"""Intervals, AUROC under clustering, adjusted effects, adjusted p: against loops, statsmodels, pingouin, sklearn."""

from __future__ import annotations

import numpy as np
import pingouin
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.meta_analysis import combine_effects

from antar.features.adjusted import Covariates, adjusted_difference, adjusted_effect, language_auroc
from antar.features.comparisons import heterogeneity
from antar.features.intervals import combined, freedom_of, half_width, logit_variance, on_logit_scale
from antar.features.permutation import max_p
from antar.features.placements import Values, paired_auroc, unpaired_auroc
from antar.features.statistics import paired_odds_variance


def listed(x: np.ndarray, unit: np.ndarray) -> tuple[Values, np.ndarray]:
    """The non-zero entries of dense `[n, n_latents]` (and, so that listed zeros are met, some zeros); their rows."""
    latent, row = np.nonzero((x != 0).T | (np.arange(len(x)) % 5 == 0)[None, :])
    return Values(latent, unit[row], x[row, latent], x.shape[1]), row


def drawn(
    seed: int, n: int = 60, latents: int = 4, negative: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense values with ties and many zeros, a unit for each text, and the group of each unit."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, n // 2)
    unit = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.integers(-2 if negative else 0, 4, (len(unit), latents)) * (rng.random((len(unit), latents)) < 0.5) / 2
    group = rng.permutation(np.arange(len(sizes)) % 2).astype(bool)
    return x, unit, group


def unit_sums(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return np.array([values[unit == one].sum() for one in np.unique(unit)])


def placed(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Share of `among` that each value exceeds, ties half."""
    return np.array([np.mean((v > among) + 0.5 * (v == among)) for v in values])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), negative=st.booleans())
def test_auroc_and_its_clustered_variance_equal_a_loop(seed: int, negative: bool) -> None:
    x, unit, group = drawn(seed, negative=negative)
    values, row = listed(x, unit)
    in_b = group[unit]
    sizes = np.bincount(unit).astype(float)
    auroc, parts = unpaired_auroc(values, in_b[row], sizes, group, pseudo=False)
    for latent in range(x.shape[1]):
        a, b = x[~in_b, latent], x[in_b, latent]
        assert auroc[latent] == pytest.approx(roc_auc_score(in_b, x[:, latent]))
        for (variance, _), scores, its in (
            (parts[0], placed(b, a), unit[in_b]),
            (parts[1], 1 - placed(a, b), unit[~in_b]),
        ):
            sums = unit_sums(scores - auroc[latent], its)
            expected = np.sum(sums**2) / len(scores) ** 2 * len(sums) / (len(sums) - 1)
            assert variance[latent] == pytest.approx(expected, abs=1e-12)


def test_auroc_variance_of_single_texts_is_delongs() -> None:
    rng = np.random.default_rng(3)
    x, in_b = rng.normal(1, 1, 200), np.arange(200) < 80
    x = np.abs(x) + 0.3 * in_b
    values = Values(np.zeros(200, np.int64), np.arange(200), x, 1)
    _, parts = unpaired_auroc(values, in_b, np.ones(200), in_b, pseudo=False)
    v10, v01 = placed(x[in_b], x[~in_b]), 1 - placed(x[~in_b], x[in_b])
    delong = v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)  # DeLong et al. 1988
    assert combined(parts)[0][0] == pytest.approx(delong)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_paired_auroc_and_its_variance_equal_a_loop(seed: int) -> None:
    before, unit, _ = drawn(seed)
    after = np.random.default_rng(seed).permuted(before, axis=0)
    latent, row = np.nonzero(((before != 0) | (after != 0)).T)
    sides = [Values(latent, unit[row], x[row, latent], x.shape[1]) for x in (before, after)]
    auroc, ((variance, _),) = paired_auroc(*sides, np.bincount(unit).astype(float), pseudo=False)
    side = np.repeat([0, 1], len(unit))
    for j in range(before.shape[1]):
        assert auroc[j] == pytest.approx(roc_auc_score(side, np.concatenate([before[:, j], after[:, j]])))
        scores = placed(after[:, j], before[:, j]) + 1 - placed(before[:, j], after[:, j]) - 2 * auroc[j]
        sums = unit_sums(scores, unit)
        expected = np.sum(sums**2) / len(unit) ** 2 * len(sums) / (len(sums) - 1)
        assert variance[j] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), within=st.booleans())
def test_adjusted_difference_equals_statsmodels_ols_with_clusters(seed: int, within: bool) -> None:
    x, unit, group = drawn(seed)
    rng = np.random.default_rng(seed + 1)
    in_b = group[unit]
    characters = rng.integers(10, 90, len(unit)) + 30 * in_b
    strata = rng.integers(0, 3, len(unit)).astype(str)
    covariates = Covariates.of_strata(strata) if within else Covariates.of_length(characters)
    values, row = listed(x, unit)
    found = adjusted_difference(values, row, in_b, unit, covariates)
    assert found is not None
    design = np.column_stack([in_b.astype(float), covariates.columns.toarray()])
    n_units = unit.max() + 1
    for latent in range(x.shape[1]):
        fit = sm.OLS(x[:, latent], design).fit()
        robust = fit.get_robustcov_results("cluster", groups=unit, use_correction=False)
        assert found.difference[latent] == pytest.approx(fit.params[0], abs=1e-9)
        left = found.part[0][latent] - robust.cov_params()[0, 0] * n_units / (n_units - 1)
        # What is above statsmodels' is one more document, as typical as those that fire.
        left_of_group = sm.OLS(in_b.astype(float), design[:, 1:]).fit().resid
        sums = unit_sums(left_of_group * x[:, latent], unit)
        scores = unit_sums(left_of_group * fit.resid, unit)
        assert left == pytest.approx(np.mean(scores[sums != 0] ** 2) / found.weight**2, rel=1e-6, abs=1e-12)


def test_what_covariates_explain_whole_has_no_adjusted_effect() -> None:
    x, unit, group = drawn(6)
    values, row = listed(x, unit)
    assert adjusted_difference(values, row, group[unit], unit, Covariates.of_strata(group[unit])) is None
    nothing = adjusted_effect([None, None], np.ones(4))
    assert all(np.isnan(ends).all() for ends in nothing.values())


def test_a_difference_that_is_length_alone_is_gone_after_length() -> None:
    """PITFALLS: length confounded with culture."""
    rng = np.random.default_rng(7)
    n = 4000
    in_b = rng.random(n) < 0.5
    log = rng.normal(size=n) + in_b
    x = np.maximum(log + rng.normal(size=n), 0)
    values = Values(np.zeros(n, np.int64), np.arange(n), x, 1)
    found = adjusted_difference(values, np.arange(n), in_b, np.arange(n), Covariates.of_length(np.exp(5 + log)))
    raw = x[in_b].mean() - x[~in_b].mean()
    effect = adjusted_effect([found], np.ones(1))
    assert raw > 0.4 and abs(effect["d"][0]) < 0.07
    assert effect["lo"][0] < effect["d"][0] < effect["hi"][0]


def test_freedom_is_twice_the_firing_documents_where_few_fire_and_all_where_all_do() -> None:
    for firing in (3, 20):
        sums = np.concatenate([np.ones(firing), np.zeros(10_000 - firing)])
        found = freedom_of(np.sum(sums**2), np.sum(sums**4), np.asarray(10_000.0))
        assert found == pytest.approx(2 * firing, rel=0.01)
    normal = np.random.default_rng(0).normal(size=5000)
    assert freedom_of(np.sum(normal**2), np.sum(normal**4), np.asarray(5000.0)) == pytest.approx(5000, rel=0.1)
    assert freedom_of(np.asarray(0.0), np.asarray(0.0), np.asarray(9.0)) == 8
    assert freedom_of(np.asarray(1.0), np.asarray(1.0), np.asarray(2.0)) == 1


def test_parts_combine_as_welch() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=12), rng.normal(0, 3, size=7)
    parts = [(np.array(one.var(ddof=1) / len(one)), np.array(len(one) - 1.0)) for one in (a, b)]
    welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert half_width(parts) == pytest.approx((welch.high - welch.low) / 2)


def test_a_share_keeps_within_0_and_1() -> None:
    low, high = on_logit_scale(np.array([0.98, 0.5, 1.0]), [(np.array([0.01, 1e-4, 0.0]), np.full(3, 1e6))])
    assert 0 < low[0] < 0.98 < high[0] < 1 and np.isnan(low[2])
    assert (low[1], high[1]) == pytest.approx((0.5 - 0.0196, 0.5 + 0.0196), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(k=st.integers(1, 19), m=st.integers(1, 29))
def test_odds_variance_of_single_texts_is_statsmodels(k: int, m: int) -> None:
    table = Table2x2(np.array([[k, 20 - k], [m, 30 - m]]), shift_zeros=False)
    counts = [(np.asarray(float(f)), np.asarray(float(n))) for f, n in ((k, 20), (m, 30))]
    independent = [f / n * (1 - f / n) / n for f, n in counts]
    found = sum(logit_variance(f, n, v) for (f, n), v in zip(counts, independent, strict=True))
    shifted = Table2x2(table.table + 0.5, shift_zeros=False)
    assert np.sqrt(found) == pytest.approx(shifted.log_oddsratio_se)


def test_twice_the_clustered_variance_is_twice_the_odds_variance_and_never_less_than_independent() -> None:
    f, n = np.array(6.0), np.array(50.0)
    plain = f / n * (1 - f / n) / n
    assert logit_variance(f, n, 2 * plain) == pytest.approx(2 * logit_variance(f, n, plain))
    assert logit_variance(f, n, plain / 3) == logit_variance(f, n, plain)
    assert np.isfinite(logit_variance(np.array(0.0), n, np.array(0.0)))
    # Sides that fire on the same texts differ little, and the less the more texts those are; else by the sum.
    few, many = (np.array(3.0), np.array(25.0))
    same = [paired_odds_variance(n, k, k, v, v, v) / (2 * logit_variance(k, n, v))
            for k in (few, many) for v in [k / n * (1 - k / n) / n]]  # fmt: skip
    assert 0 < same[1] < same[0] == pytest.approx(0.26, abs=0.02)
    assert paired_odds_variance(n, f, f, plain, plain, 0 * plain) == pytest.approx(2 * logit_variance(f, n, plain))


def test_heterogeneity_is_cochrans_q() -> None:
    d, se = np.array([0.1, 0.5, 0.2]), np.array([0.1, 0.15, 0.05])
    reach = stats.norm.ppf(0.975) * se
    q = combine_effects(d, se**2, method_re="chi2").q
    assert heterogeneity(d, d - reach, d + reach) == pytest.approx(stats.chi2.sf(q, 2))
    alone = heterogeneity(d[:, None] * [[1], [np.nan], [np.nan]], (d - reach)[:, None], (d + reach)[:, None])
    assert np.isnan(alone[0])


def test_max_p_equals_a_loop_and_is_never_below_the_tests_own() -> None:
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(30, 200))
    z = np.array([0.5, -3.2, 6.0, np.nan])
    found = max_p(z, np.abs(draws).max(axis=0))
    expected = [(1 + sum(np.abs(draws[:, r]).max() >= abs(one) for r in range(200))) / 201 for one in z[:3]]
    assert found[:3] == pytest.approx(expected) and np.isnan(found[3])
    assert found[2] == 1 / 201


def test_a_latent_that_tells_languages_apart_is_seen_among_two_and_three() -> None:
    rng = np.random.default_rng(4)
    for languages in (2, 3):
        which = rng.integers(0, languages, 300)
        fires = np.column_stack([which == 1, rng.random(300) < 0.3])
        fired = np.stack([fires[which == one].sum(axis=0) for one in range(languages)])
        found = language_auroc(fired, np.bincount(which))
        expected = [
            max((roc_auc_score(which == one, fires[:, j]) for one in range(languages)), key=lambda a: abs(a - 0.5))
            for j in range(2)
        ]
        assert np.abs(found - 0.5) == pytest.approx(np.abs(np.array(expected) - 0.5))
        assert abs(found[0] - 0.5) == pytest.approx(0.5)
    assert np.isnan(language_auroc(fired[:1], np.array([300]))).all()
    empty = language_auroc(np.vstack([fired, [[0, 0]]]), np.append(np.bincount(which), 0))
    assert np.allclose(empty, found)  # a language without texts takes nothing away


def test_effect_sizes_are_pingouins() -> None:
    from antar.features.statistics import hedges_factor

    rng = np.random.default_rng(5)
    a, b = rng.random(40), rng.random(40) + 0.3
    d_av = (b.mean() - a.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert pingouin.compute_effsize(b, a, paired=True, eftype="cohen") == pytest.approx(d_av)
    # pingouin uses Hedges' approximation of the factor.
    assert pingouin.compute_effsize(b, a, eftype="hedges") == pytest.approx(
        d_av * hedges_factor(np.array(78.0)).item(), rel=1e-3
    )
    cles = pingouin.mwu(b, a)["CLES"].iloc[0]  # P(b > a) + ½ P(b = a)
    assert cles == pytest.approx(roc_auc_score(np.repeat([0, 1], 40), np.concatenate([a, b])))
