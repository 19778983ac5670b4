"""How far people agree: Krippendorff's alpha, Gwet's AC1, Cohen's kappa and raw agreement, with intervals or reasons.

Alpha: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011 (value: the `krippendorff` package).
AC1: K. L. Gwet, "Computing inter-rater reliability and its variance in the presence of high agreement", Br. J. Math.
Stat. Psychol. 61, 2008. Kappa: J. Cohen, "A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20,
1960; of more than two people the mean over pairs (R. J. Light, Psychol. Bull. 76, 1971). Raw agreement alone says
little: two judges who both say yes 85% of the time agree on 74.5% by chance. What is undefined is None with the
reason, never a number.

Where people agree on every item (or on none) no resample differs, and a bootstrap would call twelve alike answers
certain. There the interval is Wilson's for the share of agreement, carried through the statistic.

Each statistic is a short formula of sums over items. A resample of the items weighs the same sums, so the bootstrap
is a matrix product, and a thousand resamples cost little more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import krippendorff
import numpy as np

from antar.core.seeds import numpy_rng

BOOTSTRAPS = 2000
MOST_UNDEFINED = 0.05
"""An interval is given only when at most this share of the resamples has no value."""
Level = Literal["nominal", "ordinal"]
Answers = Mapping[str, Mapping[str, str]]
"""annotator → item → answer"""


@dataclass(frozen=True)
class Statistic:
    """A value with its 95% interval. `reason` says why what is None is None."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None


@dataclass(frozen=True)
class Agreement:
    """items: those that at least two people answered; annotators: people with at least one answer."""

    alpha: Statistic
    ac1: Statistic
    kappa: Statistic
    raw: Statistic
    items: int
    annotators: int


@dataclass(frozen=True)
class Ratings:
    """codes_ai: int `[annotators, items]`, the place of the answer among `n_choices`, -1 for none."""

    codes_ai: np.ndarray
    n_choices: int

    @classmethod
    def of(cls, answers: Answers, choices: Sequence[str]) -> Ratings:
        place = {choice: i for i, choice in enumerate(choices)}
        items = sorted({item for given in answers.values() for item in given})
        codes = [[place[given[item]] if item in given else -1 for item in items] for given in answers.values()]
        return cls(np.array(codes, dtype=np.int64).reshape(len(answers), len(items)), len(choices))

    @property
    def counts_ic(self) -> np.ndarray:
        """How many people gave each answer to each item."""
        return (self.codes_ai[:, :, None] == np.arange(self.n_choices)).sum(axis=0)


def agreement(
    answers: Answers, choices: Sequence[str], *, seed: int, level: Level = "nominal", bootstraps: int = BOOTSTRAPS
) -> Agreement:
    """How far the people of `answers` agree on one question, with 95% percentile intervals over items.

    Each answer is one of `choices`, in their order where the `level` is ordinal: alpha then counts how far two
    answers are apart; the other three count equal answers only.
    """
    ratings = Ratings.of(answers, choices)
    annotators = sum(bool(given) for given in answers.values())
    counts_ic = ratings.counts_ic
    items = int((counts_ic.sum(axis=1) >= 2).sum())
    reason = None
    if annotators < 2:
        reason = f"{annotators} annotators; agreement needs two"
    elif items == 0:
        reason = "no item was answered by two people"
    if reason is not None:
        nothing = Statistic(None, None, None, reason)
        return Agreement(nothing, nothing, nothing, nothing, items, annotators)
    n = counts_ic.shape[0]
    weights_bi = numpy_rng(seed, "people", "bootstrap").multinomial(n, np.full(n, 1 / n), size=bootstraps)
    apart, alike = float(_apart(counts_ic)), "everybody gave the same answer"
    alpha = _statistic(lambda w: alphas(counts_ic, w, level), weights_bi, f"{alike}; alpha needs variation")
    if alpha.value is not None:
        alpha = replace(alpha, value=alpha_of(counts_ic, level))
    kappa = _statistic(lambda w: kappas(ratings, w), weights_bi, f"{alike}; kappa needs variation")
    ac1 = _statistic(lambda w: ac1s(counts_ic, w), weights_bi, "AC1 needs two choices")
    raw = _statistic(lambda w: raws(counts_ic, w), weights_bi, "")
    if raw.value in (0.0, 1.0):
        # No resample can differ, however few items there are: the interval is that of the share of agreement.
        ends = share(round(raw.value * items), items)
        q = len(choices)
        chance_ac1 = float(_choice_spread(counts_ic)) / (q - 1) if q > 1 else 0.0
        alpha, kappa = _unanimous(alpha, ends, apart), _unanimous(kappa, ends, apart)
        ac1, raw = _unanimous(ac1, ends, 1 - chance_ac1), _unanimous(raw, ends, 1.0)
    return Agreement(alpha=alpha, ac1=ac1, kappa=kappa, raw=raw, items=items, annotators=annotators)


def _unanimous(found: Statistic, ends: Statistic, beyond_chance: float) -> Statistic:
    """`found` of people who agree on every item or on none, with the interval that `ends` of raw agreement gives it.

    Each statistic is 1 − (1 − raw) / (1 − chance); beyond_chance: 1 − chance, where all agree and the value hides it.
    """
    if found.value is None or ends.low is None or ends.high is None:
        return found
    scale = 1 / beyond_chance if ends.value == 1.0 else 1 - found.value
    low, high = (max(-1.0, 1 - (1 - end) * scale) for end in (ends.low, ends.high))
    return Statistic(found.value, low, high, None)


def _apart(counts_ic: np.ndarray) -> np.floating:
    """The chance that two of all pairable answers, drawn without putting back, differ."""
    values_c = counts_ic[counts_ic.sum(axis=1) >= 2].sum(axis=0)
    n = values_c.sum()
    return 1 - (values_c * (values_c - 1)).sum() / np.float64(n * (n - 1))


def _choice_spread(counts_ic: np.ndarray) -> np.floating:
    """Σ π(1 − π) over the choices, π over all items."""
    shares_c = (counts_ic / counts_ic.sum(axis=1, keepdims=True)).mean(axis=0)
    return (shares_c * (1 - shares_c)).sum()


def share(hits: int, n: int) -> Statistic:
    """`hits` of `n` with its Wilson interval."""
    if n == 0:
        return Statistic(None, None, None, "nothing was answered")
    from scipy.stats import binomtest  # here: a browser that only serves pages starts without scipy

    ends = binomtest(hits, n).proportion_ci(method="wilson")
    return Statistic(hits / n, float(ends.low), float(ends.high), None)


def alpha_of(counts_ic: np.ndarray, level: Level = "nominal") -> float:
    """Krippendorff's alpha by his package; items with one answer do not count."""
    pairable = counts_ic[counts_ic.sum(axis=1) >= 2]
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement=level))


# Below, `weights_bi` is how often each item is in each resample; each function returns `[b]`, NaN where undefined.


def alphas(counts_ic: np.ndarray, weights_bi: np.ndarray, level: Level = "nominal") -> np.ndarray:
    """Krippendorff's alpha: 1 − observed / expected disagreement of pairs of answers to one item."""
    n_i, c = counts_ic.sum(axis=1), counts_ic.shape[1]
    pairs_icc = counts_ic[:, :, None] * counts_ic[:, None, :] - counts_ic[:, :, None] * np.eye(c, dtype=np.int64)
    pairs_icc = np.where(n_i >= 2, 1 / np.maximum(n_i - 1, 1), 0)[:, None, None] * pairs_icc
    coincidences_bcc = (weights_bi @ pairs_icc.reshape(len(counts_ic), c * c)).reshape(-1, c, c)
    values_bc = coincidences_bcc.sum(axis=2)
    total_b = values_bc.sum(axis=1)
    distances_bcc = _squared_distances(values_bc, level)
    observed_b = (coincidences_bcc * distances_bcc).sum(axis=(1, 2))
    expected_b = (values_bc[:, :, None] * values_bc[:, None, :] * distances_bcc).sum(axis=(1, 2))
    return 1 - _ratio((total_b - 1) * observed_b, expected_b)


def _squared_distances(values_bc: np.ndarray, level: Level) -> np.ndarray:
    """`[b, c, c]`; ordinal: how many answers lie between two, half of either's own among them."""
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(values_bc.shape[1]), (len(values_bc), *[values_bc.shape[1]] * 2))
    middle_bc = values_bc.cumsum(axis=1) - values_bc / 2
    return (middle_bc[:, :, None] - middle_bc[:, None, :]) ** 2


def raws(counts_ic: np.ndarray, weights_bi: np.ndarray) -> np.ndarray:
    """The mean over items of the share of pairs of people who agree."""
    n_i = counts_ic.sum(axis=1)
    pairable_i = n_i >= 2
    agreed_i = (counts_ic * (counts_ic - 1)).sum(axis=1) / np.where(pairable_i, n_i * (n_i - 1), 1)
    return _ratio(weights_bi @ agreed_i, weights_bi @ pairable_i.astype(np.float64))


def ac1s(counts_ic: np.ndarray, weights_bi: np.ndarray) -> np.ndarray:
    """Gwet's AC1: (pa − pe) / (1 − pe), pe = Σ π(1 − π) / (q − 1) over the q choices offered.

    π is over all items that anybody answered, as in Gwet's own programs."""
    q = counts_ic.shape[1]
    if q < 2:
        return np.full(len(weights_bi), np.nan)
    shares_bc = weights_bi @ (counts_ic / counts_ic.sum(axis=1, keepdims=True)) / weights_bi.sum(axis=1)[:, None]
    chance_b = (shares_bc * (1 - shares_bc)).sum(axis=1) / (q - 1)
    return (raws(counts_ic, weights_bi) - chance_b) / (1 - chance_b)


def kappas(ratings: Ratings, weights_bi: np.ndarray) -> np.ndarray:
    """Cohen's kappa of each pair of people on the items that both answered, and the mean of those that have one."""
    c = ratings.n_choices
    of_pairs: list[np.ndarray] = []
    for one, other in combinations(ratings.codes_ai, 2):
        both_i = (one >= 0) & (other >= 0)
        cells_icc = np.eye(c * c)[one[both_i] * c + other[both_i]]
        table_bcc = (weights_bi[:, both_i] @ cells_icc).reshape(-1, c, c)
        n_b = table_bcc.sum(axis=(1, 2))
        agreed_b = _ratio(np.trace(table_bcc, axis1=1, axis2=2), n_b)
        chance_b = _ratio((table_bcc.sum(axis=2) * table_bcc.sum(axis=1)).sum(axis=1), n_b**2)
        of_pairs.append(_ratio(agreed_b - chance_b, 1 - chance_b))
    pairs_pb = np.array(of_pairs)
    return _ratio(np.nansum(pairs_pb, axis=0), np.isfinite(pairs_pb).sum(axis=0).astype(np.float64))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above / below`, NaN where that is nothing by nothing."""
    tiny = np.abs(below) < 1e-12
    return np.where(tiny, np.nan, above / np.where(tiny, 1.0, below))


def _statistic(of: Callable[[np.ndarray], np.ndarray], weights_bi: np.ndarray, undefined: str) -> Statistic:
    value = float(of(np.ones((1, weights_bi.shape[1])))[0])
    if not np.isfinite(value):
        return Statistic(None, None, None, undefined)
    resampled = of(weights_bi)
    defined = resampled[np.isfinite(resampled)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(resampled):
        lost = 1 - len(defined) / len(resampled)
        return Statistic(value, None, None, f"no interval: {lost:.0%} of the resamples have no variation")
    low, high = np.quantile(defined, [0.025, 0.975])
    return Statistic(value, float(low), float(high), None)
