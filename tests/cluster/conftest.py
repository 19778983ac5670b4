"""One study for all tests of this folder, run inline: what every other way of running it must equal."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
from micro import MICRO, antar

# Six shards a side, and two dictionaries at a time on each core.
STUDY = MICRO.replace("texts_per_shard: 256", "texts_per_shard: 128") + "engine: {train: {cpus: 0.5}}\n"


@pytest.fixture(scope="session")
def inline(tmp_path_factory) -> Path:
    """A folder with `micro.yaml` and its finished run. Tests leave it as they found it."""
    folder = tmp_path_factory.mktemp("inline")
    (folder / "micro.yaml").write_text(STUDY, encoding="utf-8")
    done = antar("run", "micro.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def begun(inline, tmp_path) -> Path:
    """A folder with the study made as far as its corpus."""
    shutil.copy(inline / "micro.yaml", tmp_path)
    for name in ("organism", "corpus"):
        shutil.copytree(inline / "runs" / "micro" / name, tmp_path / "runs" / "micro" / name)
    return tmp_path
