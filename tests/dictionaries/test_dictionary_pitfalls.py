"""Where other tools go wrong with dictionaries, as far as no other test here holds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from antar.dictionaries import preset, train_dictionary
from antar.dictionaries.trainer import TrainedDictionary

D = 32


def planted(rows: int, seed: int = 0) -> np.ndarray:
    """Rows that are sparse sums of known directions, without an offset."""
    rng = np.random.default_rng(seed)
    truth_md = rng.standard_normal((40, D))
    truth_md /= np.linalg.norm(truth_md, axis=1, keepdims=True)
    strength_nm = (rng.random((rows, 40)) < 0.075) * (0.5 + rng.random((rows, 40)))
    return (strength_nm @ truth_md + 0.02 * rng.standard_normal((rows, D))).astype(np.float32)


def train(acts_nd: np.ndarray, seed: int = 1, **overrides: Any) -> TrainedDictionary:
    fields = {
        "n_latents": 64,
        "k": 6,
        "k_aux": 16,
        "lr": 5e-3,
        "batch": 64,
        "max_epochs": 12,
        "check_every_epochs": 3,
    }
    cfg = preset("antar", **{**fields, "threads": 1, "device": "cpu", **overrides})
    return train_dictionary(acts_nd[100:], acts_nd[:100], cfg, seed=seed, checkpoint=None, title="test")


def test_an_offset_that_all_texts_share_kills_no_latents() -> None:
    """PITFALLS: activations with outlier norms kill latents; mean-centre.

    What texts share is the largest part of an activation. Uncentred it decides which latents fire, the same few on
    every text; centred, as inputs are unless `normalise` is off, or with a decoder bias that starts at the mean, a
    dictionary learns what it learns without the offset. AuxK, which would wake some of the dead, is off.
    """
    acts_nd = planted(700)
    far_nd = acts_nd + 20 * np.random.default_rng(5).standard_normal(D).astype(np.float32)
    plain, centred = (train(one, auxk_coefficient=0.0) for one in (acts_nd, far_nd))
    assert centred.facts["best_val_fvu"] == pytest.approx(plain.facts["best_val_fvu"], rel=0.01)
    assert centred.facts["live_share"] == plain.facts["live_share"] == 1
    by_bias = train(far_nd, auxk_coefficient=0.0, normalise=False, pre_bias="mean")
    assert by_bias.facts["best_val_fvu"] == pytest.approx(plain.facts["best_val_fvu"], rel=0.05)
    neither = train(far_nd, auxk_coefficient=0.0, normalise=False, pre_bias="zero")
    assert neither.facts["live_share"] < 0.2 and neither.facts["best_val_fvu"] > 0.9


def test_dictionaries_trained_apart_share_no_latent_index() -> None:
    """PITFALLS: by index, two dictionaries of the same data are as unlike as random ones; matched, they are not.

    So nothing in antar pairs latents of two dictionaries by their number: a shift is measured in one dictionary that
    encodes both sides (tests/stages/test_train.py), stability on matched rows (features/matching.py).
    """
    acts_nd = planted(1500)
    one_nd, other_nd = (train(acts_nd, seed=seed).dictionary.decoder_nd for seed in (1, 2))
    cosines_nn = one_nd @ other_nd.T
    rng = np.random.default_rng(0)
    random_nd = rng.standard_normal((4000, D))
    random = np.abs(random_nd[:, 0]) / np.linalg.norm(random_nd, axis=1)  # |cosine| of two random directions
    by_index = np.abs(np.diag(cosines_nn))
    assert by_index.mean() == pytest.approx(random.mean(), abs=4 * random.std() / 8)
    rows, columns = linear_sum_assignment(-cosines_nn)
    assert cosines_nn[rows, columns].mean() > by_index.mean() + 0.4
    assert (rows == columns).mean() < 0.2
