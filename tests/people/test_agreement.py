"""Agreement against published worked examples, other libraries, naive formulas, and judges who agree by chance."""

from __future__ import annotations

import itertools

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

from antar.people.agreement import (
    Agreement,
    Ratings,
    Statistic,
    ac1s,
    agreement,
    alpha_of,
    alphas,
    kappas,
    raws,
    share,
)


def answers_of(rows: list[str]) -> dict[str, dict[str, str]]:
    """One string an annotator, `.` for no answer."""
    return {f"p{a}": {f"i{i:03d}": c for i, c in enumerate(row) if c != "."} for a, row in enumerate(rows)}


def judged(rows: list[str], choices: str, **settings) -> Agreement:
    return agreement(answers_of(rows), choices, seed=1, **{"bootstraps": 50, **settings})


def random_rows(seed: int, people: int, n: int, choices: str = "abc.") -> list[str]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(len(choices), 3))
    truth = rng.choice(list(choices[:-1]), size=n)
    return [
        "".join(np.where(rng.random(n) < 0.5, truth, rng.choice(list(choices), size=n, p=p))) for _ in range(people)
    ]


def test_alpha_is_krippendorffs_own_examples():
    # Krippendorff 2011, section B (binary, two observers) and C (four observers with missing data).
    binary = judged(["0100000010", "1110010000"], "01")
    assert binary.alpha.value == pytest.approx(0.095, abs=0.0005)
    four = ["12332141 2...", "12332241 25.3", ".3332342 251.", "12332441 251."]
    four = [row.replace(" ", "") for row in four]
    assert judged(four, "12345").alpha.value == pytest.approx(0.743, abs=0.0005)
    assert judged(four, "12345", level="ordinal").alpha.value == pytest.approx(0.815, abs=0.0005)


def test_ac1_is_gwets_own_example():
    # Gwet 2008: two raters, 125 subjects, 118 both +, 5 and 2 apart, 0 both −: kappa is negative, AC1 0.9408.
    found = judged(["+" * 118 + "+" * 5 + "-" * 2, "+" * 118 + "-" * 5 + "+" * 2], "+-")
    assert found.raw.value == pytest.approx(118 / 125)
    assert found.ac1.value == pytest.approx(0.9408, abs=0.00005)
    assert found.kappa.value == pytest.approx(-0.0234, abs=0.00005)


IRRCAC = [
    (
        ["KKRKKIKKIKKKRKRRRKRKIKKKRKKRIKKKKRKKRKIK", "KKRKKIKRIRKKRRKRKKRKIKKKKKKRKKKKKRIKRKIK"],
        0.72765957, 0.8, 0.62352941,
    ),
    (
        [
            "KIK..KR...KIIRKRKK.KRRKRKRK...RKKKKRKKKKIK.KIRKRKRKK.KKRR.KR",
            ".RKK..KRKKK.KKIRRK.K.RKKKRKK.KRKKKKKKRKKKKKKRK..KKKKKK.I.KRR",
            "K.KKK.KR.KKRK.I.RKKRKR.KKRKK.KK.KKKKKKKKKKKKKKKKKK.KKKKRRIK.",
        ],
        0.61990936, 0.70303030, None,
    ),
    (
        [
            ".IKRKKKI.IRIKRKK.K...KRK.",
            "..KRKK...KRIKKKK.RR....KK",
            "KIIK.K..R.RIKRKKK....KR..",
            "K..RK.II.K..KRKK.K.KK.R..",
        ],
        0.70805287, 0.78947368, None,
    ),
]  # fmt: skip
"""Ratings, and AC1, raw agreement and (of two people) kappa as irrCAC 0.4.4 gives them: `CAC(frame, categories=["K",
"R", "I"], digits=8)`, `.gwet()` and `.conger()`. irrCAC itself wants old numpy and scipy, so it cannot stand here."""


@pytest.mark.parametrize(("rows", "ac1", "raw", "kappa"), IRRCAC)
def test_ac1_raw_and_kappa_are_those_of_irrcac_also_where_answers_are_missing(rows, ac1, raw, kappa):
    found = judged(rows, "KRI")
    assert found.ac1.value == pytest.approx(ac1, abs=1e-8)
    assert found.raw.value == pytest.approx(raw, abs=1e-8)
    if kappa is not None:
        assert found.kappa.value == pytest.approx(kappa, abs=1e-8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("people", [2, 3])
def test_all_four_equal_libraries_and_naive_formulas(seed, people):
    rows = random_rows(seed, people, 40)
    found = judged(rows, "abc")
    items = [[row[i] for row in rows if row[i] != "."] for i in range(40)]
    anyone, items = [item for item in items if item], [item for item in items if len(item) >= 2]

    raw = np.mean([np.mean([x == y for x, y in itertools.combinations(item, 2)]) for item in items])
    assert found.raw.value == pytest.approx(raw)
    pi = {c: np.mean([item.count(c) / len(item) for item in anyone]) for c in "abc"}
    chance = sum(p * (1 - p) for p in pi.values()) / 2
    assert found.ac1.value == pytest.approx((raw - chance) / (1 - chance))
    data = [[np.nan if c == "." else "abc".index(c) for c in row] for row in rows]
    assert found.alpha.value == pytest.approx(krippendorff.alpha(data, level_of_measurement="nominal"))
    ordinal = judged(rows, "abc", level="ordinal").alpha.value
    assert ordinal == pytest.approx(krippendorff.alpha(data, level_of_measurement="ordinal"))
    pairs = [
        [(x, y) for x, y in zip(*two, strict=True) if "." not in (x, y)] for two in itertools.combinations(rows, 2)
    ]
    by_sklearn = [cohen_kappa_score(*zip(*pair, strict=True), labels=list("abc")) for pair in pairs]
    by_statsmodels = [
        cohens_kappa([[sum(p == (x, y) for p in pair) for y in "abc"] for x in "abc"]).kappa for pair in pairs
    ]
    assert found.kappa.value == pytest.approx(np.mean(by_sklearn))
    assert found.kappa.value == pytest.approx(np.mean(by_statsmodels))


def test_a_resample_gives_what_the_repeated_items_give():
    """The sums of the bootstrap against each statistic of items that stand as often as they were drawn."""
    rng = np.random.default_rng(0)
    rows = random_rows(9, 3, 30, "abcd.")
    ratings = Ratings.of(answers_of(rows), "abcd")
    draws = [rng.integers(ratings.codes_ai.shape[1], size=ratings.codes_ai.shape[1]) for _ in range(20)]
    weights = np.array([np.bincount(draw, minlength=ratings.codes_ai.shape[1]) for draw in draws])
    for level in ("nominal", "ordinal"):
        naive = [alpha_of(ratings.counts_ic[draw], level) for draw in draws]
        assert alphas(ratings.counts_ic, weights, level) == pytest.approx(naive)
    ones = np.ones((1, len(draws[0])))
    for of in (raws, ac1s):
        assert of(ratings.counts_ic, weights) == pytest.approx([of(ratings.counts_ic[d], ones)[0] for d in draws])
    drawn = [Ratings(ratings.codes_ai[:, draw], 4) for draw in draws]
    assert kappas(ratings, weights) == pytest.approx([kappas(one, ones)[0] for one in drawn])


def test_two_judges_who_both_say_yes_often_agree_by_chance_only():
    rng = np.random.default_rng(0)
    answers = {
        who: {f"i{i}": str(a) for i, a in enumerate(rng.choice(["yes", "no"], size=400, p=[0.85, 0.15]))}
        for who in ("asha", "ravi")
    }
    found = agreement(answers, ("yes", "no"), seed=1, bootstraps=300)
    assert found.raw.value > 0.68  # looks like agreement
    for chance_corrected in (found.alpha, found.kappa):
        assert abs(chance_corrected.value) < 0.12
        assert chance_corrected.low < 0 < chance_corrected.high


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    """Two judges of known make: of 200 sheets of 100 items, whose interval holds the value of a very large one?"""

    def rows(n: int, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        truth = rng.choice(list("KRI"), size=n, p=[0.6, 0.3, 0.1])
        return [
            "".join(np.where(rng.random(n) < 0.8, truth, rng.choice(list("KRI"), size=n, p=[0.6, 0.3, 0.1])))
            for _ in range(2)
        ]

    truth = judged(rows(200_000, 10**6), "KRI", bootstraps=1)
    sheets = [judged(rows(100, seed), "KRI", bootstraps=400) for seed in range(200)]
    for name in ("alpha", "ac1", "kappa", "raw"):
        held = [getattr(one, name).low <= getattr(truth, name).value <= getattr(one, name).high for one in sheets]
        assert 0.90 <= np.mean(held) <= 0.98, name


def test_the_interval_shrinks_with_items_holds_the_value_and_is_the_same_twice():
    small, large = (judged(random_rows(3, 2, n, "ab."), "ab", bootstraps=300).alpha for n in (40, 400))
    for found in (small, large):
        assert found.low < found.value < found.high
    assert large.high - large.low < 0.6 * (small.high - small.low)
    assert judged(random_rows(3, 2, 40, "ab."), "ab", bootstraps=300).alpha == small


def test_few_people_who_always_agree_are_not_certain():
    """Twelve alike answers against a loop: what the statistic is when the share of agreement is at Wilson's ends."""
    few, many = (judged(["yn" * n, "yn" * n], "yn") for n in (6, 100))
    for found, n in ((few, 12), (many, 200)):
        low, high = proportion_confint(n, n, method="wilson")
        assert found.raw == Statistic(1.0, pytest.approx(low), pytest.approx(high), None)
        differ = n / (2 * n - 1)  # the chance that two of 2n answers, half of them y, differ
        assert found.alpha.low == pytest.approx(1 - (1 - low) / differ)
        assert found.kappa.low == found.alpha.low < found.raw.low
        assert found.ac1.low == pytest.approx(1 - (1 - low) / 0.5)
        assert found.alpha.value == found.alpha.high == 1.0
    assert few.alpha.low < 0.7 < many.alpha.low
    never = judged(["yn" * 6, "ny" * 6], "yn")
    assert never.raw.low == 0 < never.raw.high < 0.3
    assert never.kappa.value == -1 < never.kappa.high < -0.4


def test_what_is_undefined_is_none_with_the_reason():
    alone = judged(["y"], "yn")
    assert alone.alpha.value is alone.ac1.value is alone.raw.value is alone.kappa.value is None
    assert "1 annotators" in alone.alpha.reason
    apart = judged(["y.", ".y"], "yn")
    assert apart.raw.value is None and "no item" in apart.raw.reason
    same = judged(["y" * 9, "y" * 9], "yn")
    assert same.alpha.value is None and "variation" in same.alpha.reason
    assert same.kappa.value is None and "variation" in same.kappa.reason
    assert same.raw.value == same.ac1.value == 1.0
    assert judged(["y" * 9, "y" * 9], "y").ac1.reason == "AC1 needs two choices"
    # One answer of thirty differs: a third of the resamples lack it, so alpha has a value and no honest interval.
    lone = judged(["y" * 30, "n" + "y" * 29], "yn", bootstraps=200).alpha
    assert lone.value is not None and lone.low is None
    assert "no interval" in lone.reason
    assert share(0, 0).value is None
    assert share(9, 10).value == 0.9
