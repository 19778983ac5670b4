"""How well a dictionary does, part by part, with the baselines that it has to beat.

MSE is on the raw scale, as published. FVU = Σ‖x − x̂‖² / Σ‖x − x̄‖² with x̄ of the evaluated part, so that a part
with another mean than the training texts is not flattered. Beside it stand PCA with as many components as a text has
latents, random unit directions and raw neurons with the same TopK (baselines.py), all fitted on `train`. A
crosscoder's MSE and FVU are of both sides together, and of each under `sides`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from antar.core.errors import UserError
from antar.dictionaries.baselines import neuron_dictionary, pca_dictionary, random_dictionary
from antar.dictionaries.crosscoder import SIDES, Crosscoder
from antar.dictionaries.geometry import NO_VARIANCE, spectrum
from antar.dictionaries.kinds import Dictionary
from antar.dictionaries.topk import TopK

CHUNK_ROWS = 2048
# log10 of the firing rate: from 1 in 100,000 texts to all of them, half a decade a bin.
DENSITY_EDGES = tuple(round(-5.0 + 0.5 * i, 1) for i in range(11))


@dataclass(frozen=True)
class Baselines:
    """Dictionaries that know the training part only."""

    pca: TopK
    random: TopK
    neurons: TopK


def evaluate(
    dictionary: Dictionary,
    acts_nd: np.ndarray,
    parts: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    beside_baselines: bool = True,
) -> dict[str, Any]:
    """Metrics of `dictionary` on each part (name → rows of the raw `acts_nd`), as JSON.

    Baselines need a part called `train`; without one, or where it is empty, they are null, and without
    `beside_baselines` (for what is one itself). A number that is not defined is null and its `…_reason` says why.
    """
    indexed = {name: np.flatnonzero(rows) if rows.dtype == np.bool_ else rows for name, rows in parts.items()}
    for name, rows in indexed.items():
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(acts_nd):
            raise UserError(
                f"part {name!r}: expected rows of {len(acts_nd)} activations, found row {int(rows.max())}"
            )
    train = indexed.get("train", np.arange(0))
    wanted = beside_baselines and len(train) > 0
    baselines = _baselines(dictionary, acts_nd, train, seed) if wanted else None
    return {
        "kind": dictionary.kind,
        "d_model": dictionary.d_model,
        "n_latents": dictionary.n_latents,
        "k": dictionary.k,
        "parts": {name: _part(dictionary, acts_nd, rows, baselines) for name, rows in indexed.items()},
    }


def _part(
    dictionary: Dictionary, acts_nd: np.ndarray, rows: np.ndarray, baselines: Baselines | None
) -> dict[str, Any]:
    if len(rows) == 0:
        return {"rows": 0, "mse": None, "fvu": None, "fvu_reason": "the part has no texts"}
    mean_d = acts_nd[rows].mean(axis=0, dtype=np.float64)
    sides = {side: dictionary.columns(side) for side in SIDES} if isinstance(dictionary, Crosscoder) else {}
    sums = _Sums(dictionary.n_latents, sides)
    for lo in range(0, len(rows), CHUNK_ROWS):
        x_bd = acts_nd[rows[lo : lo + CHUNK_ROWS]].astype(np.float32)
        codes = dictionary.encode(x_bd)
        sums.add(x_bd, dictionary.decode(codes), mean_d)
        sums.firing_n += codes.firing_counts()
        if baselines:
            sums.pca += _squares(x_bd, baselines.pca)
            sums.random += _squares(x_bd, baselines.random)
            sums.neurons += _squares(x_bd, baselines.neurons)
    return sums.report(len(rows), acts_nd.shape[1], dictionary, baselines is not None)


class _Sums:
    """Sums over the texts of a part, in fp64."""

    def __init__(self, n_latents: int, sides: Mapping[str, slice]) -> None:
        self.error = self.variance = self.square = 0.0
        self.pca = self.random = self.neurons = 0.0
        self.sides = sides
        self.of_side = {side: np.zeros(3) for side in sides}  # error, variance, square
        self.cosine = self.centred_cosine = 0.0
        self.cosine_rows = self.centred_rows = 0
        self.firing_n = np.zeros(n_latents, dtype=np.int64)

    def add(self, x_bd: np.ndarray, reconstruction_bd: np.ndarray, mean_d: np.ndarray) -> None:
        x, again = x_bd.astype(np.float64), reconstruction_bd.astype(np.float64)
        self.error += float(np.square(x - again).sum())
        self.variance += float(np.square(x - mean_d).sum())
        self.square += float(np.square(x).sum())
        for side, at in self.sides.items():
            self.of_side[side] += [np.square(part[:, at]).sum() for part in (x - again, x - mean_d, x)]
        total, count = _cosines(x, again)
        self.cosine, self.cosine_rows = self.cosine + total, self.cosine_rows + count
        total, count = _cosines(x - mean_d, again - mean_d)
        self.centred_cosine, self.centred_rows = self.centred_cosine + total, self.centred_rows + count

    def report(self, rows: int, d_model: int, dictionary: Dictionary, with_baselines: bool) -> dict[str, Any]:
        varies = self.variance > NO_VARIANCE * self.square
        l0 = float(self.firing_n.sum()) / rows
        fired_n = self.firing_n > 0
        return {
            "rows": rows,
            "mse": self.error / (rows * d_model),
            "fvu": self.error / self.variance if varies else None,
            "fvu_reason": None if varies else "the part has no variance",
            "fvu_pca": self.pca / self.variance if varies and with_baselines else None,
            "fvu_random": self.random / self.variance if varies and with_baselines else None,
            "fvu_neurons": self.neurons / self.variance if varies and with_baselines else None,
            "variance": self.variance / (rows * d_model),
            "l0": l0,
            "n_latents_over_l0": dictionary.n_latents / l0 if l0 else None,
            "live": int(fired_n.sum()),
            "live_share": float(fired_n.mean()),
            "cosine": self.cosine / self.cosine_rows if self.cosine_rows else None,
            "centred_cosine": self.centred_cosine / self.centred_rows if self.centred_rows else None,
            "density": density_histogram(self.firing_n, rows),
            **({"sides": self._by_side(rows, d_model)} if self.sides else {}),
        }

    def _by_side(self, rows: int, d_model: int) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for side, (error, variance, square) in self.of_side.items():
            varies = variance > NO_VARIANCE * square
            mse = float(error) / (rows * (d_model // len(self.sides)))
            found[side] = {"mse": mse, "fvu": float(error / variance) if varies else None}
        return found


def density_histogram(firing_n: np.ndarray, rows: int) -> dict[str, Any]:
    """Latents by log10 of their firing rate: `counts[i]` lie in [edges[i], edges[i+1]); `never` fired on no text.

    The last bin takes a rate of 1; rates below the first edge (more than 100,000 texts) go to the first bin."""
    rates = firing_n[firing_n > 0] / rows
    counts, _ = np.histogram(np.clip(np.log10(rates), DENSITY_EDGES[0], 0.0), bins=np.array(DENSITY_EDGES))
    return {
        "log10_edges": list(DENSITY_EDGES),
        "counts": [int(count) for count in counts],
        "never": int((firing_n == 0).sum()),
    }


def _cosines(a_bd: np.ndarray, b_bd: np.ndarray) -> tuple[float, int]:
    """Sum of the rows' cosines, and how many rows have one (both vectors non-zero)."""
    lengths_b = np.linalg.norm(a_bd, axis=1) * np.linalg.norm(b_bd, axis=1)
    defined_b = lengths_b > 0
    dots_b = np.einsum("bd,bd->b", a_bd, b_bd)
    return float((dots_b[defined_b] / lengths_b[defined_b]).sum()), int(defined_b.sum())


def _squares(x_bd: np.ndarray, dictionary: TopK) -> float:
    return float(np.square(x_bd.astype(np.float64) - dictionary.decode(dictionary.encode(x_bd))).sum())


def _baselines(dictionary: Dictionary, acts_nd: np.ndarray, train: np.ndarray, seed: int) -> Baselines:
    found = spectrum(acts_nd, train)
    random = random_dictionary(acts_nd, train, found.mean_d, dictionary.n_latents, dictionary.k, seed)
    return Baselines(pca_dictionary(found, dictionary.k), random, neuron_dictionary(found.mean_d, dictionary.k))
