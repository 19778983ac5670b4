"""Every statistic of a contrast against dense numpy, scipy or scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from antar.core.sparse import SparseCodes
from antar.features.cells import average_ranks, entries_of
from antar.features.comparisons import group_cells, pair_cells, swapped
from antar.features.designs import Design, length_bins
from antar.features.multiple import benjamini_hochberg
from antar.features.paired import Pairs, paired_effects
from antar.features.permutation import left_out, paired_statistics, tail_p, unpaired_statistics
from antar.features.statistics import Stratum, hedges_factor, moments, unpaired_effects


def random_codes(rng: np.random.Generator, n: int, n_latents: int, k: int, levels: int = 4) -> SparseCodes:
    indices = np.argsort(rng.random((n, n_latents)), axis=1)[:, :k].astype(np.int32)
    return SparseCodes(indices, rng.integers(0, levels, (n, k)).astype(np.float32) / 2, n_latents)


def dense(codes: SparseCodes) -> np.ndarray:
    return np.asarray(codes.csr().todense(), dtype=np.float64)


def design_of(unit: np.ndarray, labels: np.ndarray, n_groups: int) -> Design:
    """One column of labels by unit."""
    sizes = np.bincount(unit).astype(np.float64)
    length = np.arange(len(unit))
    return Design("en", length, unit, sizes, labels[:, None].astype(np.int16), n_groups, 1.0, length)


def stratum_of(
    codes: SparseCodes, unit: np.ndarray, labels: np.ndarray, n_groups: int, targets: list[int]
) -> Stratum:
    design = design_of(unit, labels, n_groups)
    cells, zero_rank = group_cells(entries_of(codes), design, codes.n_latents)
    groups = moments(cells, design.unit_sizes, labels, n_groups)
    return Stratum(groups.rest(np.array(targets)), groups.take(np.array(targets)), zero_rank)


def clustered(rng: np.random.Generator, n_units: int, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(unit of each text, group of each unit), every group with at least three units."""
    sizes = rng.integers(1, 4, n_units)
    labels = rng.permutation(np.concatenate([np.repeat(np.arange(n_groups), 3),
                                             rng.integers(0, n_groups, n_units - 3 * n_groups)]))  # fmt: skip
    return np.repeat(np.arange(n_units), sizes), labels


def unit_sums(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return np.array([values[unit == one].sum() for one in np.unique(unit)])


def naive_freedom(sums: np.ndarray, typical: float) -> float:
    """2 / (squared coefficient of variation of a variance), documents' sums and one typical document."""
    squares, fourths = np.sum(sums**2) + typical, np.sum(sums**4) + typical**2
    excess = fourths / squares**2 - 1 / len(sums)
    return min(max(2 / excess, 1), len(sums) - 1) if excess > 0 else len(sums) - 1


def cluster_variance(scores: np.ndarray, unit: np.ndarray) -> float:
    """Of a mean of centred scores, clusters in `unit`."""
    sums = np.array([scores[unit == one].sum() for one in np.unique(unit)])
    return float(np.sum(sums**2) / len(scores) ** 2 * len(sums) / (len(sums) - 1))


def naive_unpaired(x: np.ndarray, b: np.ndarray, unit: np.ndarray) -> dict[str, float]:
    """One latent; `b` marks the texts of group b."""
    xa, xb = x[~b], x[b]
    sd = np.sqrt((xa.var(ddof=1) + xb.var(ddof=1)) / 2)
    d = (xb.mean() - xa.mean()) / sd
    variance, satterthwaite = 0.0, 0.0
    sums = {sign: unit_sums(x[of], unit[of]) for sign, of in ((-1, ~b), (1, b))}
    centred = np.concatenate([unit_sums(x[of] - x[of].mean(), unit[of]) for of in (~b, b)])
    typical = np.mean(centred[np.concatenate(list(sums.values())) != 0] ** 2)
    for sign, of in ((-1, ~b), (1, b)):
        deviation = x[of] - x[of].mean()
        influence = sign * deviation / sd - d / (4 * sd**2) * (deviation**2 - np.mean(deviation**2))
        part = cluster_variance(influence, unit[of]) + typical / (sd * of.sum()) ** 2
        variance += part
        satterthwaite += part**2 / naive_freedom(sums[sign], typical)
    half = stats.t.ppf(0.975, variance**2 / satterthwaite) * np.sqrt(variance)
    table = np.array([[np.sum(xb > 0), np.sum(xb == 0)], [np.sum(xa > 0), np.sum(xa == 0)]]) + 0.5
    return {
        "mean_a": xa.mean(), "mean_b": xb.mean(), "d_av": d, "d_lo": d - half, "d_hi": d + half,
        "auroc": roc_auc_score(b, x), "log_odds": np.log(table[0, 0] * table[1, 1] / table[0, 1] / table[1, 0]),
        "fire_a": np.mean(xa > 0), "fire_b": np.mean(xb > 0),
        "magnitude_a": xa[xa > 0].mean() if (xa > 0).any() else np.nan,
        "magnitude_b": xb[xb > 0].mean() if (xb > 0).any() else np.nan,
    }  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n_groups=st.integers(2, 4))
def test_unpaired_effects_equal_dense_numpy_and_sklearn(seed: int, n_groups: int) -> None:
    rng = np.random.default_rng(seed)
    unit, labels = clustered(rng, 24, n_groups)
    codes = random_codes(rng, len(unit), 6, 3)
    targets = list(range(n_groups))
    found = unpaired_effects([stratum_of(codes, unit, labels, n_groups, targets)], 1e-9)
    x = dense(codes)
    for latent in range(6):
        for target in targets:
            b = labels[unit] == target
            if x[b, latent].var() + x[~b, latent].var() == 0:
                continue
            for name, expected in naive_unpaired(x[:, latent], b, unit).items():
                assert found[name][latent, target] == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_unpaired_interval_of_independent_normal_values_is_the_textbook_one() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    values = np.abs(rng.normal(20, 1, (n, 1))).astype(np.float32)  # always fires
    labels = (np.arange(n) < n // 4).astype(np.int64)
    codes = SparseCodes(np.zeros((n, 1), np.int32), values + 0.3 * labels[:, None].astype(np.float32), 1)
    found = unpaired_effects([stratum_of(codes, np.arange(n), labels, 2, [1])], 0)
    d = found["d_av"][0, 0]
    a, b = 3000, 1000
    textbook = 1.96 * np.sqrt(1 / a + 1 / b + d**2 / (2 * n))  # Hedges & Olkin 1985
    assert (found["d_hi"] - found["d_lo"])[0, 0] / 2 == pytest.approx(textbook, rel=0.05)
    assert found["hedges_g"][0, 0] == pytest.approx(d * (1 - 3 / (4 * (n - 2) - 1)), rel=1e-6)


def test_hedges_factor_is_the_gamma_form() -> None:
    m = np.array([2.0, 10.0, 100.0])
    assert np.allclose(hedges_factor(m), 1 - 3 / (4 * m - 1), atol=0.01)
    assert hedges_factor(m)[1] == pytest.approx(0.92275, abs=1e-4)  # Hedges 1981, table 1
    assert np.isnan(hedges_factor(np.array([1.0])))[0]


def naive_paired(a: np.ndarray, b: np.ndarray, unit: np.ndarray) -> dict[str, float]:
    sd = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    d = (b - a).mean() / sd
    squares = (a - a.mean()) ** 2 + (b - b.mean()) ** 2
    influence = ((b - a) - (b - a).mean()) / sd - d / (4 * sd**2) * (squares - squares.mean())
    change = unit_sums(b - a, unit)
    typical = np.mean(unit_sums(b - a - (b - a).mean(), unit)[change != 0] ** 2)
    variance = cluster_variance(influence, unit) + typical / (sd * len(a)) ** 2
    half = stats.t.ppf(0.975, naive_freedom(change, typical)) * np.sqrt(variance)
    both, side = np.concatenate([a, b]), np.repeat([0, 1], len(a))
    return {
        "mean_a": a.mean(), "mean_b": b.mean(), "d_av": d, "d_lo": d - half, "d_hi": d + half,
        "d_z": (b - a).mean() / (b - a).std(ddof=1), "auroc": roc_auc_score(side, both),
        "hedges_g": d * hedges_factor(np.array(len(a) - 1.0)).item(),
        "fire_a": np.mean(a > 0), "fire_b": np.mean(b > 0),
    }  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), swap=st.booleans())
def test_paired_effects_equal_dense_numpy_also_with_swapped_documents(seed: int, swap: bool) -> None:
    rng = np.random.default_rng(seed)
    unit, _ = clustered(rng, 20, 2)
    before, after = (random_codes(rng, len(unit), 6, 3) for _ in range(2))
    design = design_of(unit, np.ones(20), 0)
    cells, zero_rank = pair_cells(entries_of(after, before), design, 6)
    signs = np.where(rng.random(20) < 0.5, -1, 1) if swap else np.ones(20)
    found = paired_effects([Pairs(swapped(cells, signs), design.unit_sizes, zero_rank)], 1e-9)
    a, b = dense(before), dense(after)
    flipped = (signs[unit] < 0)[:, None]
    a, b = np.where(flipped, b, a), np.where(flipped, a, b)
    for latent in range(6):
        if a[:, latent].var() + b[:, latent].var() == 0 or np.var(b[:, latent] - a[:, latent]) == 0:
            continue
        for name, expected in naive_paired(a[:, latent], b[:, latent], unit).items():
            assert found[name][latent] == pytest.approx(expected, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=30),
    listed_zeros=st.booleans(),
)
def test_ranks_equal_scipy_with_ties_zeros_and_negatives(values: list[float], listed_zeros: bool) -> None:
    x = np.array(values)
    listed = np.flatnonzero((x != 0) | (listed_zeros & (np.arange(len(x)) % 2 == 0)))
    ranks, zero_rank = average_ranks(np.zeros(len(listed), np.int64), x[listed], 1, len(x))
    expected = stats.rankdata(x)
    assert np.allclose(ranks, expected[listed])
    if (x == 0).any():
        assert zero_rank[0] == expected[x == 0][0]


def test_statistics_under_shuffles_equal_the_naive_t_of_each_shuffle() -> None:
    rng = np.random.default_rng(5)
    unit, labels = clustered(rng, 30, 3)
    codes = random_codes(rng, len(unit), 5, 3)
    sizes = np.bincount(unit).astype(np.float64)
    columns = np.column_stack([labels, *(rng.permutation(labels) for _ in range(7))]).astype(np.int16)
    design = Design("en", np.arange(len(unit)), unit, sizes, columns, 3, 1.0, np.arange(len(unit)))
    cells, _ = group_cells(entries_of(codes), design, 5)
    found = unpaired_statistics([cells], [design], np.array([0, 2]), 1e-9)
    x = dense(codes)
    for column in range(8):
        for place, target in enumerate((0, 2)):
            b = columns[unit, column] == target
            for latent in range(5):
                xa, xb = x[~b, latent], x[b, latent]
                variance = cluster_variance(xa - xa.mean(), unit[~b]) + cluster_variance(xb - xb.mean(), unit[b])
                expected = (xb.mean() - xa.mean()) / np.sqrt(variance)
                assert found[0, latent, place, column] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.allclose(found[0], found[1])  # one language: pooled is the same


def test_paired_statistic_of_single_text_documents_is_scipys_paired_t() -> None:
    rng = np.random.default_rng(6)
    before, after = (random_codes(rng, 40, 5, 3, levels=9) for _ in range(2))
    design = design_of(np.arange(40), np.ones(40), 0)
    cells, _ = pair_cells(entries_of(after, before), design, 5)
    found = paired_statistics([cells], [design], 0)[0, :, 0, 0]
    expected = stats.ttest_rel(dense(after), dense(before)).statistic
    assert np.allclose(found, expected, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_bh_equals_scipy(p: list[float]) -> None:
    assert np.allclose(benjamini_hochberg(np.array(p)), stats.false_discovery_control(p))


def test_bh_leaves_untested_ones_out() -> None:
    q = benjamini_hochberg(np.array([[0.01, np.nan], [0.04, 0.5]]))
    assert np.isnan(q[0, 1]) and np.allclose(q[~np.isnan(q)], stats.false_discovery_control([0.01, 0.04, 0.5]))
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all() and benjamini_hochberg(np.empty(0)).shape == (0,)


def test_pareto_tail_of_known_distributions() -> None:
    rng = np.random.default_rng(7)
    for law in (stats.expon, stats.t(4)):
        z = np.array([[law.isf(1e-5)]])
        ratios = [tail_p(z, np.sort(law.rvs(size=20_000, random_state=rng)))[0, 0] / 1e-5 for _ in range(30)]
        assert 0.3 < np.exp(np.mean(np.log(ratios))) < 3
    normal = np.sort(rng.normal(size=50_000))
    assert tail_p(np.array([[5.5]]), normal)[0, 0] > stats.norm.sf(5.5)  # light tails: on the safe side
    assert tail_p(np.array([[9.0]]), np.zeros(1000))[0, 0] == 1 / 1001  # no tail to fit


def test_length_bins_are_quantiles_and_equal_lengths_share_one() -> None:
    assert np.bincount(length_bins(np.arange(100.0), 5)).tolist() == [20] * 5
    assert len(set(length_bins(np.full(9, 7.0), 5).tolist())) == 1


def test_left_out_draws_equal_a_loop() -> None:
    x = np.random.default_rng(8).lognormal(size=(3, 25))
    z = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    for row in range(3):
        for draw in range(25):
            others = np.delete(x[row], draw)
            assert left_out(z)[row, draw] == pytest.approx((x[row, draw] - others.mean()) / others.std())
    lone = np.eye(1, 25)  # one draw differs from 24 equal ones
    assert np.isfinite(left_out((lone - lone.mean()) / lone.std())).all()
