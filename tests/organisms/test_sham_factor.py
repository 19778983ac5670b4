"""The factor that brings a layer's drift to its target: on known functions, against plain bisection."""

from __future__ import annotations

import math

import pytest

from antar.organisms.sham.scale import LARGEST, find_factor

SHAPES = {
    "linear": lambda f: 3 * f,
    "late": lambda f: 3 * f**6,
    "early": lambda f: 3 * math.sqrt(f),
    "propagated": lambda f: math.hypot(1.0, 4 * f),
    "step": lambda f: 0.1 * f + 3 / (1 + math.exp(-60 * (f - 0.7))),
}


def bisected(drift_at, target: float) -> float:
    """The naive twin: halve the bracket until nothing is left of it."""
    low, high = 0.0, LARGEST
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if drift_at(middle) < target else (low, middle)
    return high


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", [1.2, 2.0, 3.4])
def test_the_factor_is_bisections(shape, target):
    asked: list[float] = []

    def drift_at(factor: float) -> float:
        asked.append(factor)
        return SHAPES[shape](factor)

    if SHAPES[shape](LARGEST) < target:
        pytest.skip("cannot be reached by this shape")
    found = find_factor(drift_at, target, tolerance=1e-6)
    assert found.factor == pytest.approx(bisected(SHAPES[shape], target), rel=1e-3)
    assert found.drift == pytest.approx(target, rel=1e-6)
    assert found.drift == SHAPES[shape](found.factor)
    assert all(0 <= one <= LARGEST for one in asked)
    assert len(asked) < 42


def test_a_linear_drift_takes_three_readings():
    asked: list[float] = []
    find_factor(lambda f: asked.append(f) or 3 * f, 2.0, tolerance=0.02)
    assert len(asked) == 3


def test_what_shallower_layers_propagate_is_not_undone():
    found = find_factor(lambda f: 2.5 + f, 2.0, tolerance=0.02)
    assert (found.factor, found.drift, found.propagated) == (0.0, 2.5, 2.5)


def test_a_change_is_stretched_so_far_and_no_further():
    found = find_factor(lambda f: f, 1.7, tolerance=0.01)
    assert found.factor == pytest.approx(1.7, rel=0.01)
    short = find_factor(lambda f: f, 5.0, tolerance=0.01)
    assert (short.factor, short.drift) == (LARGEST, LARGEST)
