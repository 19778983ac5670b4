"""The knobs of the recipe, one by one: what each does, against a twin that does it the slow way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from antar.dictionaries import DictionaryConfig, TopK, preset, train_dictionary
from antar.dictionaries import trainer as trainer_module
from antar.dictionaries.data import epoch_batches, fit_scaling
from antar.dictionaries.prebias import geometric_median
from antar.dictionaries.trainer import TrainedDictionary, Training

D = 24


def acts(rows: int, seed: int = 0, offset: float = 3.0) -> np.ndarray:
    """Sparse sums of 40 directions, off centre."""
    rng = np.random.default_rng(seed)
    directions_md = rng.standard_normal((40, D))
    strength_nm = (rng.random((rows, 40)) < 0.1) * (0.5 + rng.random((rows, 40)))
    noise_nd = 0.02 * rng.standard_normal((rows, D))
    return (strength_nm @ directions_md + noise_nd + offset * rng.standard_normal(D)).astype(np.float32)


def small(**overrides: Any) -> DictionaryConfig:
    fields = {"n_latents": 64, "k": 6, "k_aux": 16, "lr": 5e-3, "batch": 64, "max_epochs": 12,
              "check_every_epochs": 3, "threads": 1, "device": "cpu"}  # fmt: skip
    return preset(overrides.pop("preset", "antar"), **{**fields, **overrides})


def training_of(acts_nd: np.ndarray, **overrides: Any) -> Training:
    cfg = small(**overrides)
    return Training(acts_nd, acts_nd, fit_scaling(acts_nd, cfg.normalise), cfg, 0)


def train(cfg: DictionaryConfig, *, checkpoint: Path | None = None, rows: int = 500) -> TrainedDictionary:
    acts_nd = acts(rows)
    return train_dictionary(acts_nd[100:], acts_nd[:100], cfg, seed=1, checkpoint=checkpoint, title="test")


def same_bits(a: TopK, b: TopK) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.weights.tensors(), b.weights.tensors(), strict=True))


# --- the start of the decoder bias ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_geometric_median_is_the_point_of_least_mean_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows_nd = rng.standard_normal((60, 4)) * [1, 3, 0.2, 1]
    rows_nd[:5] *= 40  # a few far away, which would move a mean

    def distance(point_d: np.ndarray) -> float:
        return float(np.linalg.norm(rows_nd - point_d, axis=1).mean())

    best = minimize(distance, rows_nd.mean(0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13,
                                                                             "maxiter": 20000, "maxfev": 20000})  # fmt: skip
    found_d = geometric_median(rows_nd)
    np.testing.assert_allclose(found_d, best.x, atol=1e-5)
    assert distance(found_d) <= best.fun + 1e-12
    pull_d = ((rows_nd - found_d) / np.linalg.norm(rows_nd - found_d, axis=1, keepdims=True)).mean(0)
    assert np.linalg.norm(pull_d) < 1e-6


def test_geometric_median_at_a_row_and_of_equal_rows() -> None:
    """Where it is one of the rows Weiszfeld divides by zero; where an iterate merely meets one, it must go on."""
    cross_nd = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    np.testing.assert_allclose(geometric_median(cross_nd), [0, 0], atol=1e-9)
    held_nd = np.array([[0.0, 0], [0, 0], [0, 0], [4, 1], [5, -1]])  # three of five are at one point
    np.testing.assert_allclose(geometric_median(held_nd), [0, 0], atol=1e-6)
    # The mean, where it starts, is a row; the answer is elsewhere.
    line_nd = np.array([[0.0], [1], [2], [7], [2.5]]) - 2.5
    assert line_nd.mean() == 0
    np.testing.assert_allclose(geometric_median(line_nd), [-0.5], atol=1e-6)
    np.testing.assert_array_equal(geometric_median(np.full((9, 3), 4.0)), [4, 4, 4])


def test_pre_bias_says_where_the_decoder_bias_starts() -> None:
    acts_nd = acts(400)
    acts_nd[:8] *= 30
    raw = {name: training_of(acts_nd, normalise=False, pre_bias=name).weights.decoder_bias_d.numpy()
           for name in ("mean", "geometric_median", "zero")}  # fmt: skip
    np.testing.assert_allclose(raw["mean"], acts_nd.astype(np.float64).mean(0), rtol=1e-5)
    assert not raw["zero"].any()
    without_d = acts_nd[8:].astype(np.float64).mean(0)
    assert np.linalg.norm(raw["geometric_median"] - without_d) < 0.5 * np.linalg.norm(raw["mean"] - without_d)
    scaled = {name: training_of(acts_nd, pre_bias=name) for name in ("mean", "geometric_median", "zero")}
    assert not scaled["mean"].weights.decoder_bias_d.any() and not scaled["zero"].weights.decoder_bias_d.any()
    scaling = scaled["mean"].scaling
    folded_d = scaled["geometric_median"].weights.decoder_bias_d.numpy() * scaling.scale + scaling.centre_d
    np.testing.assert_allclose(folded_d, raw["geometric_median"], rtol=1e-3, atol=1e-3)


def test_the_geometric_median_of_many_texts_is_that_of_a_named_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from antar.dictionaries import prebias

    monkeypatch.setattr(prebias, "SAMPLE_ROWS", 50)
    first, again = (training_of(acts(300), pre_bias="geometric_median").weights.decoder_bias_d for _ in range(2))
    assert torch.equal(first, again)
    monkeypatch.setattr(prebias, "SAMPLE_ROWS", 5000)
    assert not torch.equal(first, training_of(acts(300), pre_bias="geometric_median").weights.decoder_bias_d)
