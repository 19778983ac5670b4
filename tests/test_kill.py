"""`kill -9` in the middle of each stage, then the same command: the result equals an uninterrupted run's."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time
from pathlib import Path

import pytest

from micro import antar, antar_command, quiet_environment, write_micro

# A file that appears in the middle of each stage: the process is killed as soon as it is there.
MILESTONES = {
    "organism": "organism/base/model.safetensors",
    "corpus": "corpus/texts.parquet",
    "extract": "activations/chat.layer00/00001.safetensors",
    "train": "dictionaries/chat.layer00/cfg.json",
    "features": "codes/chat.layer01@chat/00000.safetensors",
    "interpret": "interpret/verdicts.jsonl",
    "measure": "features/contrasts.parquet",
    "report": "report/figures",
}
NOT_COMPARED = {"study.lock.json", ".lock"}


def checksums(run: Path) -> dict[str, str]:
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in NOT_COMPARED
    }


def run_until_killed(study: Path, milestone: Path, *options: str) -> str:
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


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_like_one_that_was_not(finished, tmp_path):
    study, run = write_micro(tmp_path), tmp_path / "runs" / "micro"
    for stage, milestone in MILESTONES.items():
        assert not (run / "report" / "manifest.json").exists(), f"the run ended before {stage} was killed"
        log = run_until_killed(study, run / milestone)
        assert (run / milestone).exists(), f"never came to {stage}:\n{log}"
    resumed = antar("run", study, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    found, wanted = checksums(run), checksums(finished)
    assert sorted(found.keys() ^ wanted.keys()) == []  # by name first: which file is there on one side only?
    assert found == wanted


@pytest.mark.slow
def test_a_second_run_says_that_everything_is_fresh(finished):
    before = checksums(finished)
    folder = finished.parent.parent
    again = antar("run", folder / "micro.yaml", cwd=folder)
    assert again.returncode == 0, again.stderr
    lines = [line for line in again.stderr.splitlines() if line]
    assert len(lines) == 8
    assert all(line.endswith(": fresh") for line in lines), again.stderr
    assert checksums(finished) == before


@pytest.mark.slow
def test_an_edited_shard_is_found_said_and_redone(finished):
    before = checksums(finished)
    shard = finished / "activations" / "base.layer01" / "00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    folder = finished.parent.parent
    again = antar("run", folder / "micro.yaml", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "activations/base.layer01/00000.safetensors: edited, made again" in again.stderr
    assert again.stderr.count(": fresh") == 7, "what was built on the shard stays fresh"
    assert checksums(finished) == before
