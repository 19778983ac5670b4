"""The features that write in nearly the same direction, in a feature's own dictionary and in those of its layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError, safe_open

from antar.core.sites import DictionaryId
from antar.run import Run

ROWS_AT_ONCE = 2048
SHOWN = 5
WEIGHTS_FILE = "sae_weights.safetensors"
"""As `dictionaries.files` names it; that room loads torch, which this page does not need."""


@dataclass(frozen=True)
class Nearest:
    """`found`: (latent, cosine) of the nearest directions of `dictionary`. chance: about the largest |cosine| that as
    many random directions have with one direction, √(2 ln n / d)."""

    dictionary: str
    found: list[tuple[int, float]]
    chance: float


def nearest_features(run: Run, dictionary: DictionaryId, latent: int) -> list[Nearest]:
    """For the dictionary itself, then for the others of its layer that are no nulls and have directions of its width.
    Empty where its weights are not there."""
    mine = _direction(run, dictionary, latent)
    if mine is None:
        return []
    others = [one for one in run.dictionary_ids if one.layer == dictionary.layer and one != dictionary]
    others = [one for one in others if not one.is_replica and not one.is_null]
    found = [_nearest(run, one, mine, latent if one == dictionary else -1) for one in (dictionary, *others)]
    return [one for one in found if one is not None]


def _direction(run: Run, dictionary: DictionaryId, latent: int) -> np.ndarray | None:
    try:
        with safe_open(_path(run, dictionary), framework="numpy") as handle:
            return np.asarray(handle.get_slice("W_dec")[latent : latent + 1])[0]
    except (FileNotFoundError, SafetensorError, IndexError):
        return None


def _nearest(run: Run, dictionary: DictionaryId, mine: np.ndarray, itself: int) -> Nearest | None:
    parts: list[np.ndarray] = []
    try:
        with safe_open(_path(run, dictionary), framework="numpy") as handle:
            rows_nd = handle.get_slice("W_dec")
            n, width = rows_nd.get_shape()
            if width != len(mine):
                return None
            # In parts, so that a page never holds a whole decoder.
            parts += [rows_nd[lo : min(n, lo + ROWS_AT_ONCE)] @ mine for lo in range(0, n, ROWS_AT_ONCE)]
    except (FileNotFoundError, SafetensorError):
        return None
    cosine = np.concatenate(parts)
    if itself >= 0:
        cosine[itself] = -np.inf
    best = np.argsort(-cosine, kind="stable")[:SHOWN]
    chance = math.sqrt(2 * math.log(max(2, n)) / width)
    return Nearest(str(dictionary), [(int(i), float(cosine[i])) for i in best if np.isfinite(cosine[i])], chance)


def _path(run: Run, dictionary: DictionaryId) -> str:
    return str(run.folder / "dictionaries" / dictionary.folder / WEIGHTS_FILE)
