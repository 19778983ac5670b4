"""A process that is killed, or asked to stop, at any moment of any stage: the same command then ends as if not."""

from __future__ import annotations

import random
import signal

import pytest
from nursery import STAGES
from survival import TEMPORARY, assert_equal, assert_nothing_half_written, copy_before, files_of, write_study

KILLS = 13
"""In each of the eight stages: 104 in all."""
BY_FILE, BY_CLOCK = "SIGKILL before a file operation", "SIGKILL at a moment"


def killed(nursery, tmp_path, stage, shape, rng, by_file):
    """`antar run --until stage`, killed on the way; what became of it."""
    changes, seconds = shape
    command = ("run", "kill.yaml", "--until", stage)
    if by_file:
        # Most kills come early in what is left, so that one stage can be killed many times on its way.
        number = 1 + int((changes - 1) * rng.random() ** 2)
        return nursery.run(*command, cwd=tmp_path, kill_at=(stage, number))
    victim = nursery.start(*command, cwd=tmp_path, log=tmp_path / "log")
    victim.signal_after(signal.SIGKILL, rng.random() * seconds, stage)
    return victim.wait()


@pytest.mark.kill
@pytest.mark.parametrize("stage", STAGES)
def test_killed_again_and_again_in_one_stage(stage, nursery, undisturbed, ledger, tmp_path):
    whole, shapes = undisturbed
    rng = random.Random(f"kill {stage}")
    write_study(tmp_path)
    run = tmp_path / "runs" / "kill"
    copy_before(whole, run, stage)
    for number in range(KILLS):
        while True:
            by_file = number % 2 == 0
            ended = killed(nursery, tmp_path, stage, shapes[stage], rng, by_file)
            if ended.code == -signal.SIGKILL:
                break
            assert ended.code == 0, ended.log
            # It came through before its time: it must be right, and the stage begins anew.
            assert_equal(run, whole, until=stage)
            copy_before(whole, run, stage)
        with ledger.trial(BY_FILE if by_file else BY_CLOCK, ended.stage):
            assert_nothing_half_written(run, whole)
    with ledger.trial(BY_FILE, "end", times=0):
        done = nursery.run("run", "kill.yaml", cwd=tmp_path)
        assert done.code == 0, done.log
        assert_equal(run, whole)


@pytest.mark.kill
def test_every_stage_was_hit(ledger):
    """Last of the kills: counts where they hit."""
    for stage in STAGES:
        assert ledger.hits(stage, BY_FILE, BY_CLOCK) >= 10, stage
    assert sum(one["times"] for one in ledger.trials if one["fault"] in (BY_FILE, BY_CLOCK)) >= 100


@pytest.mark.kill
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("stage", STAGES)
def test_asked_to_stop(stage, number, nursery, undisturbed, ledger, tmp_path):
    whole, shapes = undisturbed
    write_study(tmp_path)
    with ledger.trial(number.name, stage):
        stop_and_go_on(stage, number, nursery, whole, shapes[stage][1], tmp_path)


def stop_and_go_on(stage, number, nursery, whole, seconds, folder):
    rng = random.Random(f"{number} {stage}")
    run = folder / "runs" / "kill"
    asked = False
    while not asked:
        copy_before(whole, run, stage)
        victim = nursery.start("run", "kill.yaml", "--until", stage, cwd=folder, log=folder / "log")
        asked = victim.signal_after(number, rng.random() * seconds * 0.8, stage)
        stopped = victim.wait()
    assert stopped.code == 128 + number, stopped.log
    assert stopped.lines == ["antar: stopped; what was complete stays, and the same command goes on from here"]
    assert "Traceback" not in stopped.log
    assert [name for name in files_of(run) if TEMPORARY in name] == []
    assert_nothing_half_written(run, whole)
    done = nursery.run("run", "kill.yaml", "--until", stage, cwd=folder)
    assert done.code == 0, done.log
    assert_equal(run, whole, until=stage)
