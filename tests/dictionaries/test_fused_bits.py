"""bfloat16 in the kernels, bit for bit: what torch makes of the same numbers, and rounding at random that loses
nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antar.core.jit import have_numba, jit

if not have_numba():
    pytest.skip("the extra [fast] (numba) is not installed", allow_module_level=True)

from antar.dictionaries.fast.bits import put, put_random, to_f32
from antar.dictionaries.fast.update import row_key


@jit()
def narrow(values_n, out_n):
    for i in range(values_n.shape[0]):
        put(out_n, i, values_n[i])


@jit()
def widen(bits_n, out_n):
    for i in range(bits_n.shape[0]):
        out_n[i] = to_f32(bits_n[i])


@jit()
def narrow_at_random(values_n, step, row, out_n):
    for i in range(values_n.shape[0]):
        put_random(out_n, i, values_n[i], row_key(step, row))


def bits_of(values_n: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values_n).bfloat16().view(torch.uint16).numpy()


def test_rounding_is_that_of_torch_for_every_kind_of_number() -> None:
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    ties = (np.arange(0, 2**16, 7, dtype=np.uint32) << 16 | 0x8000).view(np.float32)  # half way between two
    values_n = np.concatenate([anything, ties, np.float32([0, -0.0, np.inf, -np.inf, 1e-40, 3.4e38])])
    numbers = ~np.isnan(values_n)
    out_n = np.empty(len(values_n), np.uint16)
    narrow(values_n, out_n)
    np.testing.assert_array_equal(out_n[numbers], bits_of(values_n[numbers]))
    back_n = np.empty(len(values_n), np.float32)
    widen(out_n, back_n)
    assert np.isnan(back_n[~numbers]).all() and not np.isnan(back_n[numbers]).any()


def test_float32_goes_through_as_it_is() -> None:
    values_n = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    for function in (narrow, widen):
        out_n = np.empty_like(values_n)
        function(values_n, out_n)
        np.testing.assert_array_equal(out_n, values_n)


def test_rounding_at_random_takes_a_neighbour_and_the_right_mean() -> None:
    n = 200_000
    below, above = np.float32(1.0), np.float32(1.0 + 2**-7)  # neighbours in bfloat16
    for share in (0.1, 0.5, 0.9):
        values_n = np.full(n, below + share * (above - below), np.float32)
        out_n, back_n = np.empty(n, np.uint16), np.empty(n, np.float32)
        narrow_at_random(values_n, 3, 5, out_n)
        widen(out_n, back_n)
        assert set(np.unique(back_n).tolist()) == {float(below), float(above)}
        assert (back_n == above).mean() == pytest.approx(share, abs=0.005)
    exact_n = np.float32([0.0, 1.0, np.inf])
    narrow_at_random(exact_n, 1, 1, out_n[:3])
    np.testing.assert_array_equal(out_n[:3], bits_of(exact_n))


def test_draws_differ_by_step_and_by_row_and_repeat() -> None:
    values_n = np.full(4096, 1.0 + 2**-8, np.float32)
    made = {}
    for place in ((1, 1), (1, 2), (2, 1), (1, 1)):
        out_n = np.empty(len(values_n), np.uint16)
        narrow_at_random(values_n, *place, out_n)
        if place in made:
            np.testing.assert_array_equal(made[place], out_n)
        made[place] = out_n
    for one, other in (((1, 1), (1, 2)), ((1, 1), (2, 1)), ((1, 2), (2, 1))):
        assert (made[one] == made[other]).mean() == pytest.approx(0.5, abs=0.05)
