"""What the contrasts of the published study's shape cost: 40,000 texts × 9 sites × 8,192 latents, 1,000 permutations.

    python -m benchmarks.contrasts [--sites 9] [--out benchmarks/results/contrasts.json]

Codes are synthetic (k=256 of 8,192, log-normal strengths; every text its own document; two languages, three quarters
of the texts cultural) and made anew for each site, as a run reads them from its folder. Measured: `culture` on every
site, then `shift` and `interaction` on one pair of sides, each with its select half, its shuffled null, intervals,
adjusted effects, p, q and max-|z| p. Beside: the same test for a few single features by scipy's `permutation_test`
with a studentised statistic, which is how one would do it by hand, in seconds a feature; and the sums under shuffles
without Numba, as scipy's sparse × dense products, in turns on one language of one site. Prints one JSON line. Memory
is the process's peak resident set (VmHWM), interpreter and libraries included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from antar.core.machine import machine_facts, package_versions
from antar.core.sites import DictionaryId
from antar.core.sparse import SparseCodes
from antar.features import ContrastConfig, measure_contrasts, permutation
from antar.features.cells import entries_of
from antar.features.comparisons import group_cells
from antar.features.designs import unpaired_design

TEXTS, K, LATENTS, PERMUTATIONS = 40_000, 256, 8_192, 1000
Key = tuple[DictionaryId, str]


def make_texts(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "text_id": [f"t{i}" for i in range(n)],
            "text": ["x" * int(length) for length in rng.integers(20, 200, n)],
            "group": np.where(rng.random(n) < 0.75, "cultural", "control"),
            "language": rng.choice(["en", "hi"], n),
            "source": ["made"] * n,
            "document": [f"d{i}" for i in range(n)],
            "split": ["heldout"] * n,
            "half": rng.choice(["select", "estimate"], n),
        }
    )


class Made(Mapping[Key, SparseCodes]):
    """Codes that are made when they are asked for, as a run's are read."""

    def __init__(self, keys: list[Key], n: int) -> None:
        self._keys, self._n = keys, n

    def __getitem__(self, key: Key) -> SparseCodes:
        rng = np.random.default_rng([key[0].layer, len(key[1])])
        # One latent of each 32 neighbours: k distinct ones a text without sorting.
        latents_nk = np.arange(K) * (LATENTS // K) + rng.integers(0, LATENTS // K, (self._n, K))
        return SparseCodes(latents_nk.astype(np.int32), rng.lognormal(size=(self._n, K)).astype(np.float32), LATENTS)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def timed(work: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": round(time.perf_counter() - wall, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}


def peak_gib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20, 2)


def by_hand(texts: pl.DataFrame, codes: SparseCodes, features: int) -> float:
    """Seconds a feature: scipy's permutation test of one language's estimation half, labels shuffled over texts."""
    rows = ((texts["half"] == "estimate") & (texts["language"] == "en")).to_numpy()
    cultural = (texts["group"] == "cultural").to_numpy()[rows]
    dense = codes.rows(rows).csc()
    started = time.perf_counter()
    for latent in range(features):
        x = np.asarray(dense[:, [latent]].todense(), dtype=np.float64).ravel()
        stats.permutation_test(
            (x[~cultural], x[cultural]),
            lambda a, b, axis: stats.ttest_ind(b, a, axis=axis, equal_var=False).statistic,
            n_resamples=PERMUTATIONS,
            vectorized=True,
            batch=50,
        )
    return (time.perf_counter() - started) / features


def sums_in_turns(texts: pl.DataFrame, codes: SparseCodes, rounds: int) -> dict[str, float]:
    """Median seconds of the sums under 512 shuffles, compiled and as scipy's products."""
    rows = np.flatnonzero(((texts["half"] == "estimate") & (texts["language"] == "en")).to_numpy())
    groups = (texts["group"] == "cultural").gather(rows).to_numpy().astype(np.int64)
    design = unpaired_design(texts, "en", rows, groups, 2, 5, (0, 511), 1)
    cells, _ = group_cells(entries_of(codes.rows(rows)), design, LATENTS)
    member = design.labels.astype(np.uint8)
    sizes = design.unit_sizes
    counts = tuple(one @ member for one in (sizes, np.ones(len(sizes)), sizes**2))
    ways = {"compiled": permutation._compiled_groups, "scipy": permutation._scipy_groups}
    permutation._compiled_groups(cells, sizes, member[:, :2].copy(), *(one[:2] for one in counts))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(cells, sizes, member, *counts)
            taken[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(its) for name, its in taken.items()}
    return {f"{name}_s": round(value, 3) for name, value in medians.items()} | {
        "ratio": round(medians["scipy"] / medians["compiled"], 1)
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sites", type=int, default=9)
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    texts = make_texts(asked.texts)
    deltas: list[Key] = [(DictionaryId("delta", layer), "delta") for layer in range(asked.sites)]
    pair: list[Key] = [(DictionaryId("base", 0), side) for side in ("base", "chat")]
    small = ContrastConfig(shift=False, interaction=False, permutations=20)
    measure_contrasts(texts.head(400), Made(deltas[:1], 400), small)  # compiles
    culture = ContrastConfig(shift=False, interaction=False, permutations=PERMUTATIONS)
    paired = ContrastConfig(culture=False, permutations=PERMUTATIONS, nulls=("shuffled",))
    result = {
        "benchmark": "contrasts",
        "shape": {
            "texts": asked.texts,
            "sites": asked.sites,
            "latents": LATENTS,
            "k": K,
            "permutations": PERMUTATIONS,
        },
        "culture, every site": timed(lambda: measure_contrasts(texts, Made(deltas, asked.texts), culture)),
        "shift and interaction, one pair of sides": timed(
            lambda: measure_contrasts(texts, Made(pair, asked.texts), paired)
        ),
        "peak_gib": peak_gib(),
    }
    one = Made(deltas, asked.texts)[deltas[0]]
    result |= {
        "sums under 512 shuffles, one language": sums_in_turns(texts, one, 3),
        "by hand (scipy permutation_test), seconds a feature, language and site": round(by_hand(texts, one, 5), 3),
        "machine": machine_facts(),
        "versions": package_versions(),
    }
    line = json.dumps(result)
    print(line)
    if asked.out:
        asked.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
