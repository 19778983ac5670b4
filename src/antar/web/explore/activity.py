"""Where one feature fires: its column of the stored codes, and the texts that come near to firing it.

Read a shard at a time, so that a page costs no more memory than one shard, and without the libraries that the
stages need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from antar.core.shards import read_shard, shard_paths
from antar.core.sites import DictionaryId, codes_folder
from antar.run import Run

SIDES = ("base", "chat", "delta", "joint")
QUANTILES = (0.75, 0.6, 0.5, 0.4, 0.25)


@dataclass(frozen=True)
class Firing:
    """The texts that fire a latent at a side: `rows` int64 ascending, and `values` float32, all above 0."""

    rows: np.ndarray
    values: np.ndarray

    @property
    def largest(self) -> float:
        return float(self.values.max()) if len(self.values) else 0.0


def sides_of(run: Run, dictionary: DictionaryId) -> list[str]:
    """The sides that have codes under `dictionary`: base and chat first, shams last."""
    found = [path.name.split("@", 1)[1] for path in run.folder.glob(f"codes/{dictionary.folder}@*")]
    names = [name.replace("-", ":", 1) for name in found]
    return sorted(names, key=lambda name: (SIDES.index(name) if name in SIDES else len(SIDES), name))


def home_side(run: Run, dictionary: DictionaryId) -> str | None:
    """The side that a dictionary's own texts are read on: what it was trained on, else the first that there is."""
    sides = sides_of(run, dictionary)
    return dictionary.trained_on if dictionary.trained_on in sides else (sides[0] if sides else None)


def firing(run: Run, dictionary: DictionaryId, side: str, latent: int) -> Firing:
    """Where `latent` fires. Row i is text i of the run."""
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    before = 0
    for shard in _shards(run, dictionary, side):
        if "counts" in shard:
            its = np.flatnonzero(shard["indices"] == latent)
            ends = np.cumsum(shard["counts"], dtype=np.int64)
            rows.append(np.searchsorted(ends, its, side="right") + before)
            values.append(shard["values"][its])
            before += len(ends)
        else:
            row, place = np.nonzero(shard["indices"] == latent)
            value = shard["values"][row, place]
            rows.append(row[value > 0] + before)
            values.append(value[value > 0])
            before += len(shard["indices"])
    if not rows:
        return Firing(np.zeros(0, np.int64), np.zeros(0, np.float32))
    return Firing(np.concatenate(rows), np.concatenate(values))


def spread(found: Firing) -> list[tuple[float, int, float]]:
    """(quantile, row, value) of the texts at QUANTILES of the strengths, strongest first; each text once."""
    order = np.argsort(found.values, kind="stable")
    picked: list[tuple[float, int, float]] = []
    seen: set[int] = set()
    for quantile in QUANTILES if len(order) else ():
        place = int(order[round(quantile * (len(order) - 1))])
        if place not in seen:
            seen.add(place)
            picked.append((quantile, int(found.rows[place]), float(found.values[place])))
    return picked


def near_misses(
    run: Run, dictionary: DictionaryId, side: str, latent: int, examples: np.ndarray, n: int = 5
) -> list[tuple[int, float]]:
    """(row, likeness) of the `n` texts on which `latent` is silent and whose other latents are most like those of
    `examples` (rows): the cosine of a text's code with the examples' mean code, the latent itself left out."""
    weights, wanted = _mean_code(run, dictionary, side, latent, examples)
    if not len(weights) or not np.any(weights):
        return []
    scores: list[np.ndarray] = []
    for text, index, value, size in _entries(run, dictionary, side):
        # Latents past the last of the examples' weigh nothing.
        weight = np.where(index < len(weights), weights[np.minimum(index, len(weights) - 1)], 0.0)
        along = np.bincount(text, value * weight, size)
        length = np.sqrt(np.bincount(text, value.astype(np.float64) ** 2, size))
        score = np.divide(along, length, out=np.zeros(size), where=length > 0)
        score[text[index == latent]] = -1.0
        scores.append(score)
    score = np.concatenate(scores) / np.linalg.norm(weights)
    score[wanted] = -1.0
    best = np.argsort(-score, kind="stable")[:n]
    return [(int(row), float(score[row])) for row in best if score[row] > 0]


def _mean_code(
    run: Run, dictionary: DictionaryId, side: str, latent: int, examples: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the examples' codes, each of length 1, without `latent`; and the examples that are rows."""
    weights = np.zeros(0)
    before = 0
    for text, index, value, n in _entries(run, dictionary, side):
        shown = np.zeros(n, dtype=bool)
        shown[examples[(examples >= before) & (examples < before + n)] - before] = True
        its = shown[text]
        if its.any():
            length = np.sqrt(np.bincount(text[its], value[its].astype(np.float64) ** 2, n))
            code = np.bincount(index[its], value[its] / length[text[its]])
            width = max(len(code), len(weights))
            weights = np.pad(weights, (0, width - len(weights))) + np.pad(code, (0, width - len(code)))
        before += n
    if latent < len(weights):
        weights[latent] = 0.0
    return weights, examples[examples < before].astype(np.int64)


def _entries(
    run: Run, dictionary: DictionaryId, side: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Shard by shard: (text in the shard, latent, strength, texts in the shard) of everything that fires."""
    for shard in _shards(run, dictionary, side):
        if "counts" in shard:
            counts = shard["counts"]
            text = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
            yield text, shard["indices"], shard["values"], len(counts)
        else:
            fired = shard["values"] > 0
            text, _ = np.nonzero(fired)
            yield text, shard["indices"][fired], shard["values"][fired], len(fired)


def _shards(run: Run, dictionary: DictionaryId, side: str) -> Iterator[dict[str, np.ndarray]]:
    for path in shard_paths(run.folder / "codes" / codes_folder(dictionary, side)):
        yield read_shard(path)
