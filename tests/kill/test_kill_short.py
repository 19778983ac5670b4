"""The short form, part of `make test`: one run killed in every stage, stopped, starved of disk and damaged."""

from __future__ import annotations

import random
import signal

import pytest
from nursery import STAGES
from survival import assert_equal, assert_nothing_half_written, write_study
from test_kill_damage import a_copy, flip
from test_kill_disk import fill_up_and_go_on, small_disk
from test_kill_lock import second_is_told
from test_kill_signals import BY_FILE, stop_and_go_on

pytestmark = pytest.mark.slow


def test_a_run_killed_in_every_stage_ends_like_one_that_was_not(nursery, undisturbed, ledger, tmp_path):
    whole, shapes = undisturbed
    write_study(tmp_path)
    run = tmp_path / "runs" / "kill"
    for stage in STAGES:
        number = max(1, shapes[stage][0] // 3)
        killed = nursery.run("run", "kill.yaml", cwd=tmp_path, kill_at=(stage, number))
        assert killed.code == -signal.SIGKILL, killed.log
        assert killed.stage == stage, killed.log
        with ledger.trial(BY_FILE, stage):
            assert_nothing_half_written(run, whole)
    done = nursery.run("run", "kill.yaml", cwd=tmp_path)
    assert done.code == 0, done.log
    assert_equal(run, whole)
    again = nursery.run("run", "kill.yaml", cwd=tmp_path)
    assert again.log.count(": fresh\n") == len(STAGES), again.log
    assert_equal(run, whole)


def test_leftovers_of_every_kind_are_swept(nursery, whole, tmp_path):
    run = a_copy(whole, tmp_path)
    sheet = run / "people" / ".tmp-7-annotations.sqlite"
    names = ("codes/old@base/.tmp-7-00000.safetensors", ".tmp-7-study.yaml", "organism/.tmp-7-chat/model.safetensors",
             "interpret/calls/.tmp-7-labeller.jsonl", "codes/.tmpAbC123")  # fmt: skip
    left = [run / name for name in names]
    for path in [*left, sheet]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    done = nursery.run("run", "kill.yaml", "--until", "organism", cwd=tmp_path)
    assert done.code == 0, done.log
    assert [path for path in left if path.exists()] == []
    assert sheet.exists(), "somebody may be drawing a sheet now"


def test_one_that_is_stopped_says_so(nursery, undisturbed, ledger, tmp_path):
    whole, shapes = undisturbed
    write_study(tmp_path)
    with ledger.trial("SIGTERM", "train"):
        stop_and_go_on("train", signal.SIGTERM, nursery, whole, shapes["train"][1], tmp_path)


def test_one_that_finds_the_disk_full_says_so(nursery, whole, ledger, tmp_path):
    with small_disk(tmp_path / "disk") as disk, ledger.trial("full disk", "extract"):
        write_study(disk)
        fill_up_and_go_on("extract", 0.5, nursery, whole, disk, tmp_path / "log")


def test_the_second_of_two_runs_is_told_who_works_there(nursery, whole, ledger, tmp_path):
    second_is_told("corpus", nursery, whole, ledger, tmp_path)


def test_damage_is_found_named_and_mended(nursery, whole, tmp_path):
    run = a_copy(whole, tmp_path)
    names = ["activations/chat.layer01/00000.safetensors", "dictionaries/base.layer01/cfg.json",
             "codes/base.layer01@chat/manifest.json", "interpret/verdicts.jsonl"]  # fmt: skip
    for name in names:
        flip(run / name, random.Random(name))
    done = nursery.run("run", "kill.yaml", cwd=tmp_path)
    assert done.code == 0, done.log
    for name in names:
        told = (
            f"{name}: edited, made again" if "manifest" not in name else "base.layer01@chat: manifest.json is damaged"
        )
        assert told in done.log
    assert done.log.count(": fresh\n") == 4, "what was built on them stays fresh"
    assert_equal(run, whole)
