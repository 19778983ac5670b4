"""A whole study by Ray on this machine, and Ctrl-C in the middle of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from micro import antar, antar_command, quiet_environment
from run_files import differing

pytestmark = pytest.mark.cluster
MARK = "ANTAR_TEST_MARK"


@pytest.fixture(autouse=True)
def ray_is_there():
    pytest.importorskip("ray", reason="ray is not installed: pip install 'antar[ray]'")


def test_a_study_by_ray_is_the_study_inline_bit_for_bit(inline, begun):
    done = antar("run", "micro.yaml", "--engine", "ray", cwd=begun)
    assert done.returncode == 0, done.stderr
    assert differing(begun / "runs" / "micro", inline / "runs" / "micro") == []
    again = antar("run", "micro.yaml", "--engine", "ray", cwd=begun)
    assert again.returncode == 0 and again.stderr.count(": fresh") == 8, again.stderr


def test_ctrl_c_ends_the_workers_too_and_the_same_command_goes_on(inline, begun):
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        antar_command("extract", "micro.yaml", "--engine", "ray"),
        cwd=begun, env=quiet_environment() | {MARK: mark}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = begun / "runs" / "micro" / "activations" / "base.layer00" / "00000.safetensors"
    deadline = time.monotonic() + 900
    while not first.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("antar: stopped; what was complete stays")
    deadline = time.monotonic() + 60
    while alive := marked(mark):
        assert time.monotonic() < deadline, alive
        time.sleep(0.5)
    assert not list((begun / "runs" / "micro").glob(".tmp-seen-*"))
    done = antar("extract", "micro.yaml", cwd=begun)
    assert done.returncode == 0, done.stderr
    assert differing(begun / "runs" / "micro" / "activations", inline / "runs" / "micro" / "activations") == []


def marked(mark: str) -> list[str]:
    """The processes that were started with the mark in their environment, Ray's own among them."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}".encode() in environ.read_bytes():
                found.append((environ.parent / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue
    return [command for command in found if command]
