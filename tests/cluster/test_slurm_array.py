"""An array job makes the extraction in parts; one of its tasks is requeued in the middle; a run seals: same bits."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from attempts import ATTEMPTS, PAUSE, attempts
from network import SOURCE
from slurm import Slurm, lacking

from micro import antar
from run_files import differing

HERE = Path(__file__).parent
pytestmark = pytest.mark.slurm
SHARDS, SIDES, TASKS, REQUEUED = 6, 4, 4, 1


def test_an_array_with_a_requeued_task_ends_like_one_extraction(inline, begun):
    if reason := lacking():
        pytest.skip(reason)
    log = begun / "attempts"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(SOURCE), str(HERE)]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1", ATTEMPTS: str(log), PAUSE: "1.0",
    }  # fmt: skip
    with Slurm(environment) as slurm:
        job, restarts = run_array(slurm, begun, log)
        said = {path.name: path.read_text() for path in sorted(begun.glob("part-*"))}
        assert restarts == {str(task): "1" if task == REQUEUED else "0" for task in range(TASKS)}, said
    assert len(said) == TASKS and all(f"part {n}/{TASKS}: " in said[f"part-{n}"] for n in range(TASKS)), said

    made = Counter((side, shard) for side, shard, _ in attempts(log, "end"))
    assert set(made.values()) == {1} and len(made) == SHARDS * SIDES, "no shard was made twice, and none was left out"
    times = Counter((side, shard) for side, shard, _ in attempts(log, "start"))
    assert {shard % TASKS for (_, shard), n in times.items() if n > 1} == {REQUEUED}
    assert sum(times.values()) == SHARDS * SIDES + 1, "the requeued task lost the one shard that it was making"

    sealed = antar("run", "micro.yaml", cwd=begun)
    assert sealed.returncode == 0, sealed.stderr
    assert differing(begun / "runs" / "micro", inline / "runs" / "micro") == []
    print(f"job {job}: {TASKS} tasks, {SHARDS * SIDES} shards, task {REQUEUED} requeued once")


def run_array(slurm: Slurm, folder: Path, log: Path) -> tuple[str, dict[str, str]]:
    """Submit, requeue one task as it makes its second shard, wait for all. The job, and restarts by task."""
    part = f"$SLURM_ARRAY_TASK_ID/{TASKS}"
    words = f"{shlex.quote(sys.executable)} {HERE / 'attempts.py'} run micro.yaml --stage extract --shard {part}"
    options = ["--parsable", f"--array=0-{TASKS - 1}", "--requeue", "--output=part-%a", "--open-mode=append"]
    job = slurm.ask("sbatch", *options, "--wrap", words, cwd=folder).strip()
    wait(lambda: [who for _, _, who in attempts(log, "start")].count(str(REQUEUED)) == 2, slurm, folder)
    slurm.ask("scontrol", "requeue", f"{job}_{REQUEUED}")
    wait(lambda: not slurm.ask("squeue", "-h", "-j", job, check=False).strip(), slurm, folder)
    shown = [slurm.ask("scontrol", "show", "job", f"{job}_{task}") for task in range(TASKS)]
    assert all("JobState=COMPLETED" in one for one in shown), shown
    return job, {str(task): one.split("Restarts=")[1].split()[0] for task, one in enumerate(shown)}


def wait(there, slurm: Slurm, folder: Path, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        said = {path.name: path.read_text() for path in folder.glob("part-*")}
        assert time.monotonic() < deadline, f"{slurm.ask('squeue', check=False)}\n{said}\n{slurm.logs()}"
        time.sleep(0.1)
