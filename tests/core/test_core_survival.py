"""What must hold for a run to survive: killed writers, full disks, damaged lines and checkpoints, the lock."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors import SafetensorError

from antar.core.atomic import (
    replacing,
    replacing_folder,
    sweep,
    write_json,
    write_parquet,
    write_safetensors,
)
from antar.core.disk import disk_error
from antar.core.errors import UserError
from antar.core.lines import read_line, sealed_line
from antar.core.lock import only_process
from antar.core.manifest import Fingerprint, read_manifest, write_manifest
from antar.dictionaries.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

NUMBERS = np.random.default_rng(0).normal(size=50_000)
WRITERS = {
    "json": lambda path: write_json(path, NUMBERS.tolist()),
    "parquet": lambda path: write_parquet(path, pl.DataFrame({"x": NUMBERS})),
    "safetensors": lambda path: write_safetensors(path, {"x": NUMBERS}),
}
KILLED_IN_A_WRITE = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_core_survival import WRITERS
# The kernel kills who writes past the limit: in the middle of a write, every time.
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
WRITERS[sys.argv[2]](Path(sys.argv[3]))
"""


@pytest.mark.parametrize("kind", WRITERS)
def test_a_writer_killed_in_the_middle_of_a_write_leaves_nothing_that_is_not_swept(kind, tmp_path):
    """Also what a library leaves: safetensors writes to a temporary file of its own, of another name than ours."""
    path = tmp_path / "codes" / "x"
    arguments = [str(Path(__file__).parent), kind, str(path)]
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_A_WRITE, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGXFSZ, killed.stderr
    assert list(path.parent.iterdir()), "killed before it wrote"
    assert not path.exists()
    assert sweep(tmp_path) >= 1
    assert list(path.parent.iterdir()) == []


def test_sweeping_goes_into_folders_and_leaves_what_it_is_told(tmp_path):
    left = ["a/b/.tmp-1-x", "a/.tmp-2-model/config.json", ".tmpAbC123", "people/.tmp-3-sheet", "a/people/.tmp-4-x"]
    kept = ["a/b/x", "people/x", "a/.hidden"]
    for name in [*left, *kept]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert sweep(tmp_path, leave=("people",)) == 4
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert there == {*kept, "people/.tmp-3-sheet"}


def test_all_files_have_the_mode_that_the_user_wants(tmp_path):
    modes = set()
    for kind, write in WRITERS.items():
        write(tmp_path / kind)
        modes.add(stat.S_IMODE((tmp_path / kind).stat().st_mode))
    (tmp_path / "plain").touch()
    assert modes == {stat.S_IMODE((tmp_path / "plain").stat().st_mode)}


def test_a_folder_takes_its_name_whole_or_not_at_all(tmp_path):
    final = tmp_path / "base"
    for text in ("one", "two"):
        with replacing_folder(final) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "x").write_text(text)
    with pytest.raises(RuntimeError), replacing_folder(final) as folder:
        (folder / "x").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert (final / "sub" / "x").read_text() == "two"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded; make room"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system; make it writable"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "make room"),
    ],
)
def test_what_the_disk_has_against_it_is_one_line(error, told, tmp_path):
    expected = pytest.raises(UserError, match=r"x\.bin: expected a disk that can be written, found: ")
    with expected as raised, replacing(tmp_path / "x.bin") as temporary:
        temporary.write_text("half")
        raise error
    assert told in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_not_the_disk_s():
    assert disk_error(FileNotFoundError(errno.ENOENT, "No such file")) is None
    assert disk_error(ValueError("os error 28")) is None
    assert disk_error(UserError("(os error 28)")) is None


def test_no_flipped_bit_of_a_line_is_taken_for_what_was_written():
    record = {"key": "ab12", "label": "दाल and rice", "n": 3, "of": 1}
    line = sealed_line(record)
    assert read_line(line) == record
    assert json.loads(line)["label"] == record["label"], "it is JSON for everybody else"
    for at in range(len(line) - 1):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[at] ^= 1 << bit
            found = read_line(bytes(flipped))
            # In the name of the checksum itself a flip makes a line without one; what it says is as it was.
            assert found is None or {key: found.get(key) for key in record} == record
    assert read_line(b'{"key": "from before there were checksums"}\n') == {"key": "from before there were checksums"}


def test_no_flipped_bit_of_a_manifest_is_taken_for_what_was_written(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    path = tmp_path / "manifest.json"
    written = write_manifest(path, "thing", Fingerprint(inputs={"a": "1f"}, code="v1"), [tmp_path / "x"], {"n": 768})
    data = path.read_bytes()
    for at in range(len(data)):
        for bit in (0, 1, 2, 4):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            found = read_manifest(path)
            assert found is None or found.model_copy(update={"seal": written.seal}) == written


def test_a_checkpoint_with_other_numbers_is_not_gone_on_from(tmp_path, capsys):
    folder = tmp_path / "base.layer06" / "checkpoint"
    write_checkpoint(folder, Checkpoint({"w": np.ones(100, np.float32)}, {"epoch": 3}), "f")
    assert read_checkpoint(folder, "f").state == {"epoch": 3}
    path = folder / "training.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert read_checkpoint(folder, "f") is None
    assert "base.layer06/checkpoint/training.safetensors is damaged" in capsys.readouterr().err


def test_the_second_in_a_folder_is_told_who_is_there(tmp_path):
    with only_process(tmp_path):
        told = rf"process {os.getpid()} on .* \(since 2.*\) works here; wait for it"
        with pytest.raises(UserError, match=told), only_process(tmp_path):
            pass
        assert json.loads((tmp_path / ".lock").read_bytes())["pid"] == os.getpid(), "the second did not wipe it"
    with only_process(tmp_path):  # and now there is room
        pass


def test_a_file_system_without_locks_is_told_and_worked_on(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("antar.core.lock.fcntl.flock", none)
    with only_process(tmp_path):
        pass
    assert "has no locks" in capsys.readouterr().err
