"""Two runs in one folder, and what a dead one leaves of its lock."""

from __future__ import annotations

import json
import os
import platform
import signal
import time

import pytest
from nursery import STAGES
from survival import assert_equal, copy_before, write_study

from micro import antar


def wait_for_its_lock(first, lock):
    """The stage has begun, so the lock is held; stopped there, the first cannot end before the second comes."""
    deadline = time.monotonic() + 120
    while not (lock.is_file() and lock.read_bytes()) and not first.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGSTOP)


def second_is_told(stage, nursery, whole, ledger, folder):
    write_study(folder)
    run = folder / "runs" / "kill"
    copy_before(whole, run, stage)
    first = nursery.start("run", "kill.yaml", "--until", stage, cwd=folder, log=folder / "log")
    wait_for_its_lock(first, run / ".lock")
    try:
        with ledger.trial("two runs in one folder", stage):
            second = antar("run", "kill.yaml", cwd=folder)
            assert second.returncode == 2, second.stderr
            (line,) = second.stderr.splitlines()
            assert f"process {first.pid} on {platform.node()} (since 2" in line, line
            assert f"antar run kill.yaml --until {stage}) works here; wait for it or stop it" in line, line
    finally:
        os.kill(first.pid, signal.SIGCONT)
        done = first.wait()
    assert done.code == 0, done.log
    assert (run / ".lock").read_bytes() == b"", "nobody works here any more"
    assert_equal(run, whole, until=stage)


@pytest.mark.kill
@pytest.mark.parametrize("stage", STAGES[:3])
def test_the_second_of_two_runs_is_told_who_works_there(stage, nursery, whole, ledger, tmp_path):
    second_is_told(stage, nursery, whole, ledger, tmp_path)


def test_a_dead_holder_blocks_nobody(nursery, whole, tmp_path):
    write_study(tmp_path)
    run = tmp_path / "runs" / "kill"
    copy_before(whole, run, "corpus")
    dead = {"pid": 1, "host": "elsewhere", "since": "long ago", "command": "antar run kill.yaml"}
    (run / ".lock").write_text(json.dumps(dead), encoding="utf-8")
    done = nursery.run("run", "kill.yaml", "--until", "corpus", cwd=tmp_path)
    assert done.code == 0, done.log
