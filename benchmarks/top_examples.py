"""The strongest texts of each feature: antar's compiled pass against three other ways, on codes of the study's shape.

    python benchmarks/top_examples.py [--out benchmarks/results/top_examples.json]

The codes are synthetic: 40,000 texts × k=256 of 8,192 latents, firing rates log-normal over latents, 10.24 million
values that are all distinct, so that there is one right answer and every way's is compared with it bit by bit. Ways:
- `antar`: `top_examples`, one compiled pass with a short sorted list a latent;
- `numpy`: its fallback without Numba, a partition of each column of the compressed codes;
- `torch`: a streaming `torch.topk` merge: 512 texts at a time made dense, joined to the best so far, selected again;
- `argsort`: all firings sorted by latent, then strength, then row.
Prints one JSON line. Seconds are medians over rounds in which the ways take turns; each way has run once before, so
nothing is compiled in them. Memory is the rise of the process's peak resident set (VmHWM, reset before the call) over
what is resident with the codes loaded, in a fresh process for each way, in MiB; results that are handed back count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from antar.core.jit import have_numba
from antar.core.machine import machine_facts, package_versions
from antar.core.sparse import SparseCodes
from antar.features import examples

TEXTS, K, LATENTS, TOP = 40_000, 256, 8_192, 20
CHUNK = 512
Found = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Latents, rows and values of the examples, by latent, strongest first."""


def synthetic_codes(texts: int, k: int, latents: int, seed: int) -> SparseCodes:
    rng = np.random.default_rng(seed)
    log_rate_l = rng.normal(0, 1, latents).astype(np.float32)
    indices_nk = np.empty((texts, k), np.int32)
    for lo in range(0, texts, 500):
        waits = rng.standard_exponential((min(500, texts - lo), latents), dtype=np.float32)
        keys = log_rate_l - np.log(np.maximum(waits, 1e-30))
        indices_nk[lo : lo + 500] = np.argpartition(-keys, k, axis=1)[:, :k]
    # Neighbouring floats from 1 upwards, each once; a row is stored strongest first, as encode gives it.
    bits = np.uint32(0x3F800000) + rng.permutation(texts * k).astype(np.uint32)
    values_nk = np.sort(bits.view(np.float32).reshape(texts, k), axis=1)[:, ::-1]
    return SparseCodes(indices_nk, np.ascontiguousarray(values_nk), latents)


def with_antar(codes: SparseCodes, n: int) -> Found:
    latents, _, rows, values = examples.top_examples(codes, n)
    return latents, rows, values


def with_numpy(codes: SparseCodes, n: int) -> Found:
    top = examples._NumpyTop(codes.n_latents, n)
    top.add(codes, np.arange(len(codes)), 0)
    counts, rows, values = top.found()
    return np.repeat(np.arange(codes.n_latents), counts), rows, values


def with_torch(codes: SparseCodes, n: int) -> Found:
    best = torch.zeros(n, codes.n_latents)
    best_rows = torch.zeros(n, codes.n_latents, dtype=torch.int64)
    for lo in range(0, len(codes), CHUNK):
        indices = torch.from_numpy(codes.indices_nk[lo : lo + CHUNK]).long()
        values = torch.from_numpy(codes.values_nk[lo : lo + CHUNK])
        dense = torch.zeros(len(indices), codes.n_latents).scatter_(1, indices, values)
        top, at = dense.topk(min(n, len(dense)), dim=0)
        both, both_rows = torch.cat([best, top]), torch.cat([best_rows, at + lo])
        best, chosen = both.topk(n, dim=0)
        best_rows = both_rows.gather(0, chosen)
    fired = (best.T > 0).numpy()
    latents = np.repeat(np.arange(codes.n_latents), fired.sum(1))
    return latents, best_rows.T.numpy()[fired], best.T.numpy()[fired]


def with_argsort(codes: SparseCodes, n: int) -> Found:
    fired = np.flatnonzero(codes.values_nk.ravel() > 0)
    latents, values = codes.indices_nk.ravel()[fired], codes.values_nk.ravel()[fired]
    rows = fired // codes.indices_nk.shape[1]
    order = np.lexsort((rows, -values, latents))
    counts = np.bincount(latents, minlength=codes.n_latents)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = order[rank < n]
    return latents[first].astype(np.int64), rows[first], values[first]


WAYS: dict[str, Callable[[SparseCodes, int], Found]] = {
    "antar": with_antar,
    "numpy": with_numpy,
    "torch": with_torch,
    "argsort": with_argsort,
}


def status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {field}: memory is measured on Linux only")


def peak_rise_mib(way: str, folder: Path) -> float:
    """In this process: how far one call lifts the peak resident set."""
    codes = SparseCodes(np.load(folder / "indices.npy"), np.load(folder / "values.npy"), LATENTS)
    WAYS[way](SparseCodes(codes.indices_nk[:64].copy(), codes.values_nk[:64].copy(), LATENTS), TOP)
    Path("/proc/self/clear_refs").write_text("5")
    before = status_kib("VmRSS")
    WAYS[way](codes, TOP)
    return (status_kib("VmHWM") - before) / 1024


def measure_memory(codes: SparseCodes) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "indices.npy", codes.indices_nk)
        np.save(folder / "values.npy", codes.values_nk)
        command = [sys.executable, __file__, "--folder", name, "--memory-of"]
        runs = {way: subprocess.run([*command, way], stdout=subprocess.PIPE, text=True, check=True) for way in WAYS}
    return {way: round(float(run.stdout), 1) for way, run in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(peak_rise_mib(args.memory_of, args.folder))
        return
    if not have_numba():
        raise SystemExit("expected Numba, found none: pip install -e '.[fast]'")
    codes = synthetic_codes(TEXTS, K, LATENTS, seed=0)
    expected = with_argsort(codes, TOP)
    for way, function in WAYS.items():  # warms each up, too
        for ours, right in zip(function(codes, TOP), expected, strict=True):
            if not np.array_equal(ours, right):
                raise SystemExit(f"{way} gives other examples than a full sort")
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way, function in WAYS.items():
            start = time.perf_counter()
            function(codes, TOP)
            seconds[way].append(time.perf_counter() - start)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    result = {
        "benchmark": "top_examples",
        "texts": TEXTS,
        "k": K,
        "n_latents": LATENTS,
        "top": TOP,
        "examples": len(expected[0]),
        "all_equal": True,
        "rounds": args.rounds,
        "seconds": {way: round(value, 4) for way, value in median.items()},
        "seconds_slowest": {way: round(max(times), 4) for way, times in seconds.items()},
        "ratio": {way: round(value / median["antar"], 1) for way, value in median.items() if way != "antar"},
        "peak_rise_mib": measure_memory(codes),
        "codes_mib": round((codes.indices_nk.nbytes + codes.values_nk.nbytes) / 2**20, 1),
        "torch_threads": torch.get_num_threads(),
        "machine": machine_facts(),
        "packages": package_versions(),
    }
    print(json.dumps(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
