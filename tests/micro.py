"""A study that runs from organism to report in seconds: every stage for real, nothing to be learned from it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MICRO = """\
study: micro
question: Does every stage run?
seed: 3
models:
  organism: {kind: tiny, seed: 3, vocabulary: 700, d_model: 32, n_layers: 2, d_ff: 48, n_heads: 2, n_kv_heads: 1,
    base_steps: 12, align_steps: 4, batch: 8, probes_per_concept: 8, checks_per_concept: 1, threads: 1, shams: [a, b]}
corpus:
  sources: [{source: organism}]
  clean: {near_duplicates: null}
  split: {train: 0.4, val: 0.1, heldout: 0.5, controls: same}
extract: {layers: [0, 1], max_tokens: 32, dtype: float32, threads: 1, texts_per_shard: 256}
dictionaries: {preset: antar, n_latents: 32, k: 4, max_epochs: 4, check_every_epochs: 2, warmup_steps: 2, seeds: 1,
  k_aux: 8, threads: 1}
contrasts: {facets: [concept], permutations: 50, facet_permutations: 20}
interpret: {labeller: keywords, validator: keywords, predictor: keywords, features_per_site: 10}
criteria: {replicates: 100}
truth: {}
"""


def write_micro(folder: Path) -> Path:
    path = folder / "micro.yaml"
    path.write_text(MICRO, encoding="utf-8")
    return path


def antar_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from antar.cli import main; main()", *map(str, arguments)]


def quiet_environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def antar(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a process of its own."""
    return subprocess.run(
        antar_command(*arguments), cwd=cwd, env=quiet_environment(), capture_output=True, text=True, check=False
    )


def checksums(run: Path) -> dict[str, str]:
    """Of every file of a run folder, but for those that hold times."""
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in ("study.lock.json", ".lock")
    }


def run_until_killed(study: Path, milestone: Path, *options: str) -> str:
    """`antar run`, killed as soon as the file `milestone` is there; what it said."""
    with (study.parent / "log").open("w+") as log:
        process = subprocess.Popen(
            antar_command("run", study, *options), cwd=study.parent, env=quiet_environment(), stdout=log, stderr=log
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and not milestone.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        log.seek(0)
        return log.read()
