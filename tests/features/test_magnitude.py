"""How large a shift is: noise adds nothing, a planted shift comes out at its size, and intervals hold it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from antar.features.magnitude import Magnitude, shift_magnitudes, stands_above_shams


def planted(noise: float, shift: float, seed: int, n_documents: int = 60):
    """Texts of two groups, two a document, whose differences have a document's noise; culture moves by `shift`."""
    rng = np.random.default_rng(seed)
    d = 24
    documents = np.repeat(np.arange(2 * n_documents), 2)
    cultural = documents < n_documents
    delta_nd = noise * rng.normal(size=(2 * n_documents, d))[documents] + 0.3
    delta_nd[cultural, 0] += shift
    texts = pl.DataFrame(
        {
            "split": ["heldout"] * len(documents),
            "language": ["en"] * len(documents),
            "group": np.where(cultural, "cultural", "control"),
            "document": documents.astype(str),
        }
    )
    return texts, delta_nd.astype(np.float32)


def magnitude_of(noise: float, shift: float, seed: int):
    texts, delta_nd = planted(noise, shift, seed)
    (one,) = shift_magnitudes("delta", 1, texts, np.ones_like(delta_nd), delta_nd, seed=0)
    return one


def test_noise_alone_is_no_cultural_shift():
    """Uncorrected, the norm would be sqrt(24 · 2/60) ≈ 0.9 in every draw; its square must average to nothing."""
    found = [magnitude_of(1.0, 0.0, seed) for seed in range(100)]
    # The estimate has mean 0 and a spread of about 0.23, and is clipped at 0: about 0.09 is left, where 0.8 was.
    assert np.mean([one.cultural**2 for one in found]) < 0.15
    assert np.mean([one.cultural_ci[0] == 0 for one in found]) > 0.9


def test_a_planted_shift_is_found_at_its_size_with_honest_intervals():
    found = [magnitude_of(1.0, 1.5, seed) for seed in range(60)]
    assert abs(np.mean([one.cultural**2 for one in found]) - 1.5**2) < 0.15
    covered = np.mean([one.cultural_ci[0] <= 1.5 <= one.cultural_ci[1] for one in found])
    assert covered > 0.85


def test_the_whole_shift_equals_its_naive_twin():
    texts, delta_nd = planted(1.0, 0.5, seed=3)
    (one,) = shift_magnitudes("delta", 1, texts, 2 * np.ones_like(delta_nd), delta_nd, seed=0)
    cultural = (texts["group"] == "cultural").to_numpy()
    squares = [sum(float(x) ** 2 for x in row) for row in delta_nd[cultural]]
    assert one.whole == pytest.approx(np.sqrt(np.mean(squares)))
    assert one.whole_ci[0] < one.whole < one.whole_ci[1]
    assert one.base == pytest.approx(2 * np.sqrt(24))
    assert (one.side, one.layer, one.language, one.texts) == ("delta", 1, "en", int(cultural.sum()))


def test_without_controls_there_is_no_cultural_shift_and_without_texts_no_row():
    texts, delta_nd = planted(1.0, 0.5, seed=3)
    only = (texts["group"] == "cultural").to_numpy()
    (one,) = shift_magnitudes("delta", 1, texts.filter(pl.Series(only)), delta_nd[only], delta_nd[only], seed=0)
    assert (one.cultural, one.cultural_ci) == (None, None)
    unseen = texts.with_columns(split=pl.lit("train"))
    assert shift_magnitudes("delta", 1, unseen, delta_nd, delta_nd, seed=0) == []


def at(side, layer, low, high):
    return Magnitude(side, layer, "en", 10, 1.0, (0.9, 1.1), (low + high) / 2, (low, high), 5.0)


def test_a_shift_stands_above_only_when_it_clears_every_sham():
    clear = [at("delta", 1, 3, 4), at("delta:a", 1, 1, 2), at("delta:b", 1, 1, 2.5)]
    touching = [at("delta", 2, 3, 4), at("delta:a", 2, 1, 2), at("delta:b", 2, 2, 3.5)]
    assert stands_above_shams(clear + touching) == (1, 2)
    assert stands_above_shams([at("delta", 1, 3, 4)]) == (0, 0), "no sham, no comparison"
