"""The GPU benchmark at a size that a CPU does in seconds: that it runs to its end and says what it is to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "--rows 300 --held-out 60 --d-model 16 --n-latents 64 --k 4 --active 3 --batches 32,128 --dictionaries 4 "
    "--epochs 3 --cpu-epochs 2 --peer-steps 3 --device cpu --peers nobody,saelens"
)


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu_and_agrees_with_the_cpu_path(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train_gpu", *SMALL.split(), "--out", str(tmp_path / "result.json")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result == json.loads((tmp_path / "result.json").read_bytes())
    assert result["device"] == "cpu" and list(result["batches"]) == ["32", "128"]
    for batch, steps in (("32", 30), ("128", 9)):
        found = result["batches"][batch]
        assert set(found["dictionaries"]) == {"base.layer00", "chat.layer00", "delta.layer00", "base.layer01"}
        for one in found["dictionaries"].values():
            assert 0 < one["val_fvu"] < 1 and one["steps"] == steps
        assert found["samples_per_s"] > 0
        assert found["share_of_bound"] > 0 and found["paper_bound_seconds"] is None
        assert found["cpu_path"]["largest_gap"] < 0.01  # the goal
        assert min(found["decode"].values()) > 0 and found["milliseconds_a_step"] > 0
        assert found["peers"]["antar"]["fvu"] > 0
        assert found["peers"]["nobody"] == {"skipped": "KeyError: 'nobody'"}
