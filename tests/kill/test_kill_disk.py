"""Disks: one that fills up, and a run folder that cannot be written."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from nursery import STAGES
from saboteur import stage_of
from survival import TEMPORARY, assert_equal, assert_nothing_half_written, copy_before, files_of, write_study

from antar.run import load_run


@contextmanager
def mounted(*arguments: str | Path, at: Path):
    """A mount for the length of the block; the test is skipped where this machine refuses one."""
    at.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *map(str, arguments), str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def small_disk(at: Path):
    with mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs", at=at):
        yield at


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves `leave` bytes free on the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return ballast


def written_by(stage: str, whole: Path) -> int:
    """Bytes that a stage adds to a run."""
    return sum(path.stat().st_size for name, path in files_of(whole).items() if stage_of(name) == stage)


def fill_up_and_go_on(stage, share, nursery, whole, disk, log):
    run, command = disk / "runs" / "kill", ("run", "kill.yaml", "--until", stage)
    copy_before(whole, run, stage)
    ballast = fill(disk, int(share * written_by(stage, whole)))
    ended = nursery.start(*command, cwd=disk, log=log).wait()
    assert ended.code == 2, ended.log
    assert len(ended.lines) == 1 and "No space left on device; make room" in ended.lines[0], ended.log
    assert "Traceback" not in ended.log
    assert [name for name in files_of(run) if TEMPORARY in name] == []
    assert_nothing_half_written(run, whole)
    ballast.unlink()
    done = nursery.start(*command, cwd=disk, log=log).wait()
    assert done.code == 0, done.log
    assert_equal(run, whole, until=stage)


@pytest.mark.kill
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_up(stage, nursery, whole, ledger, tmp_path):
    rng = random.Random(f"disk {stage}")
    with small_disk(tmp_path / "disk") as disk:
        write_study(disk)
        for share in (0.0, 0.6 * rng.random(), 0.6 * rng.random()):
            with ledger.trial("full disk", stage):
                fill_up_and_go_on(stage, share, nursery, whole, disk, tmp_path / "log")


@contextmanager
def read_only(folder: Path):
    with mounted("--bind", folder, at=folder):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield


def page_of(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with opener.open(address, timeout=60) as answer:
        return answer.read()


@pytest.mark.kill
@pytest.mark.parametrize("stage", ["organism", "train", "report", "end"])
def test_a_run_folder_that_cannot_be_written(stage, nursery, whole, ledger, tmp_path):
    write_study(tmp_path)
    run = tmp_path / "runs" / "kill"
    if stage == "end":
        shutil.copytree(whole, run)
    else:
        copy_before(whole, run, stage)
    with read_only(run), ledger.trial("read-only mount", stage):
        ended = nursery.run("run", "kill.yaml", cwd=tmp_path)
        assert ended.code == 2, ended.log
        assert len(ended.lines) == 1 and "Read-only file system" in ended.lines[0], ended.log
        assert "Traceback" not in ended.log
        planned = nursery.run("plan", "kill.yaml", cwd=tmp_path)
        assert planned.code == 0, planned.log
        if stage == "end":
            reads(run, nursery, tmp_path)


def reads(run: Path, nursery, folder: Path) -> None:
    """What only reads works on a folder that cannot be written."""
    shown = nursery.run("show", run, cwd=folder)
    assert shown.code == 0 and "the seven criteria" in shown.log, shown.log
    opened = load_run(run)
    assert opened.texts.height == len(opened.activations("delta", 1)) == len(opened.codes("base.layer01", "chat"))
    server = nursery.start("serve", run, "--port", "0", cwd=folder, log=folder / "log")
    said, deadline = "", time.monotonic() + 120
    while "http://" not in said and time.monotonic() < deadline and not server.ended:
        time.sleep(0.05)
        said = (folder / "log").read_text()
    assert "http://" in said, said
    try:
        page_at = said[said.index("http://") :].split()[0]
        until_up(lambda: page_of(page_at))
    finally:
        server.signal_after(2, 0)
        server.wait()


def until_up(ask) -> None:
    """A server says its address a moment before it answers."""
    for _ in range(100):
        try:
            assert b"<html" in ask()
            return
        except ConnectionError:
            time.sleep(0.1)
    raise AssertionError("no answer")
