"""One finished micro study, made once for all tests that look at a whole run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from micro import antar, write_micro


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The run folder of a micro study that ran from organism to report. Tests leave it as they found it."""
    folder = tmp_path_factory.mktemp("whole")
    done = antar("run", write_micro(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "micro"
