"""Agreement against published worked examples, naive formulas, and judges who agree by chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from antar.people.agreement import ac1_of, agreement, alpha_of, raw_of


def counts_of(rows: list[str], categories: str) -> np.ndarray:
    """One string an annotator, `.` for no answer; items that two or more answered."""
    table = [[sum(row[i] == c for row in rows) for c in categories] for i in range(len(rows[0]))]
    return np.array([row for row in table if sum(row) >= 2])


def test_alpha_is_krippendorffs_own_examples() -> None:
    # Krippendorff 2011, section B (binary, two observers) and C (nominal, four observers with missing data).
    binary = counts_of(["0100000010", "1110010000"], "01")
    assert alpha_of(binary) == pytest.approx(0.095, abs=0.0005)
    a = "1 2 3 3 2 1 4 1 2 . . .".replace(" ", "")
    b = "1 2 3 3 2 2 4 1 2 5 . 3".replace(" ", "")
    c = ". 3 3 3 2 3 4 2 2 5 1 .".replace(" ", "")
    d = "1 2 3 3 2 4 4 1 2 5 1 .".replace(" ", "")
    four = counts_of([a, b, c, d], "12345")
    assert alpha_of(four) == pytest.approx(0.743, abs=0.0005)


def test_ac1_is_gwets_own_example() -> None:
    # Gwet 2008: two raters, 125 subjects, 118 both +, 5 and 2 apart, 0 both −: kappa is negative, AC1 0.9408.
    counts = np.array([[2, 0]] * 118 + [[1, 1]] * 7)
    assert raw_of(counts) == pytest.approx(118 / 125)
    assert ac1_of(counts) == pytest.approx(0.9408, abs=0.00005)


def test_all_three_equal_naive_formulas() -> None:
    rng = np.random.default_rng(3)
    rows = ["".join(rng.choice(list("abc."), size=40, p=[0.5, 0.2, 0.2, 0.1])) for _ in range(3)]
    counts = counts_of(rows, "abc")
    items = [[row[i] for row in rows if row[i] != "."] for i in range(40)]
    items = [item for item in items if len(item) >= 2]

    raw = np.mean([np.mean([x == y for x, y in itertools.combinations(item, 2)]) for item in items])
    assert raw_of(counts) == pytest.approx(raw)
    pi = {c: np.mean([item.count(c) / len(item) for item in items]) for c in "abc"}
    chance = sum(p * (1 - p) for p in pi.values()) / 2
    assert ac1_of(counts) == pytest.approx((raw - chance) / (1 - chance))
    # Alpha: observed over expected disagreement of pairable values.
    values = [answer for item in items for answer in item]
    n = len(values)
    observed = sum(
        sum(x != y for x, y in itertools.permutations(item, 2)) / (len(item) - 1) for item in items
    ) / n  # fmt: skip
    expected = sum(x != y for x, y in itertools.permutations(values, 2)) / (n * (n - 1))
    assert alpha_of(counts) == pytest.approx(1 - observed / expected)


def test_two_judges_who_both_say_yes_often_agree_by_chance_only() -> None:
    rng = np.random.default_rng(0)
    answers = {
        who: {f"i{i}": str(a) for i, a in enumerate(rng.choice(["yes", "no"], size=400, p=[0.85, 0.15]))}
        for who in ("asha", "ravi")
    }
    found = agreement(answers, ("yes", "no"), seed=1, bootstraps=300)
    assert found.raw.value is not None
    assert found.raw.value > 0.68  # looks like agreement
    assert found.alpha.value is not None
    assert abs(found.alpha.value) < 0.12
    assert found.alpha.low is not None
    assert found.alpha.high is not None
    assert found.alpha.low < 0 < found.alpha.high


def test_the_interval_shrinks_with_items_holds_the_value_and_is_the_same_twice() -> None:
    def judged(n: int) -> dict[str, dict[str, str]]:
        rng = np.random.default_rng(5)
        first = rng.choice(["yes", "no"], size=n)
        second = np.where(rng.random(n) < 0.8, first, rng.choice(["yes", "no"], size=n))
        return {
            "a": {str(i): str(x) for i, x in enumerate(first)},
            "b": {str(i): str(x) for i, x in enumerate(second)},
        }

    small, large = (agreement(judged(n), ("yes", "no"), seed=1, bootstraps=300).alpha for n in (30, 300))
    for found in (small, large):
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high
    assert large.high - large.low < 0.6 * (small.high - small.low)  # type: ignore[operator]
    assert agreement(judged(30), ("yes", "no"), seed=1, bootstraps=300).alpha == small


def test_what_is_undefined_is_none_with_the_reason() -> None:
    alone = agreement({"a": {"1": "yes"}}, ("yes", "no"), seed=0)
    assert alone.alpha.value is alone.ac1.value is alone.raw.value is None
    assert "1 annotators" in str(alone.alpha.reason)
    apart = agreement({"a": {"1": "yes"}, "b": {"2": "yes"}}, ("yes", "no"), seed=0)
    assert apart.raw.value is None
    assert "no item" in str(apart.raw.reason)
    same = agreement({who: {str(i): "yes" for i in range(9)} for who in "ab"}, ("yes", "no"), seed=0, bootstraps=50)
    assert same.alpha.value is None
    assert "variation" in str(same.alpha.reason)
    assert same.raw.value == 1.0
    # One answer of thirty differs: a third of the resamples lack it, so alpha has a value and no honest interval.
    rare = {"a": {str(i): "yes" for i in range(30)}, "b": {str(i): "yes" if i else "no" for i in range(30)}}
    lone = agreement(rare, ("yes", "no"), seed=0, bootstraps=200).alpha
    assert lone.value is not None
    assert lone.low is None
    assert "no interval" in str(lone.reason)
