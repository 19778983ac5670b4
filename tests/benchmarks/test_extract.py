"""The benchmarks of extraction at a size that takes seconds: they run, agree with the twin, and say what they are to
say. Their numbers mean nothing here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.extract_gpu import QWEN, flops

ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: str) -> dict:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path):
    out = tmp_path / "result.json"
    found = run(
        "benchmarks.extract_gpu", "--small", "--device", "cpu", "--texts", "30", "--rounds", "1", "--out", str(out)
    )
    assert found == json.loads(out.read_bytes())
    assert found["mfu"] is None and found["packed"] is True and found["texts"] == 30
    assert found["token_budget"] == 2048
    assert found["seconds_two_sides_40k"] == pytest.approx(2 * found["seconds"][0] * 40_000 / 30)


@pytest.mark.long
def test_antar_and_naive_read_the_same_vectors():
    names = ("naive", "antar_packed")
    found = run("benchmarks.extract_speed", "--quick", "--texts", "20", "--rounds", "1", "--readers", ",".join(names))
    assert set(found["texts_per_second"]) == {
        f"{name}_{dtype}" for name in names for dtype in ("float32", "bfloat16")
    }
    apart = found["farthest_from_naive_float32"]
    assert apart["naive_float32"] == 0
    assert max(apart[f"{name}_float32"] for name in names) < 1e-5
    assert 1e-4 < apart["antar_packed_bfloat16"] < 0.05
    assert found["ratio_packed_naive"] > 0 and "ratio_fastest_peer" not in found


def test_operations_are_counted_as_by_hand():
    # One text of two tokens, one block: q, k, v, o (4 d²) and gate, up, down (3 d ff) a token; three pairs.
    d, ff = QWEN["hidden_size"], QWEN["intermediate_size"]
    assert flops(np.array([2]), QWEN, 1) == 2 * 2 * (4 * d * d + 3 * d * ff) + 3 * 2 * 2 * d
