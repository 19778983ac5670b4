"""The fixtures of the tests of survival: the small study, undisturbed; antar processes; the table."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
from ledger import Ledger  # noqa: E402
from nursery import Nursery  # noqa: E402
from survival import profile, write_study  # noqa: E402

TRIALS = "ANTAR_KILL_TRIALS"
"""Environment variable: the file that the trials are written to, for the table."""


@pytest.fixture(scope="session")
def nursery():
    with Nursery() as one:
        yield one


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, nursery):
    """(run folder of the study that nobody disturbed, stage → (changes, CPU seconds)). Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_study(folder)
    done = nursery.run("run", "kill.yaml", cwd=folder, watch=str(folder / "changes"))
    assert done.code == 0, done.log
    return folder / "runs" / "kill", profile(folder / "changes")


@pytest.fixture(scope="session")
def whole(undisturbed):
    return undisturbed[0]


@pytest.fixture(scope="session")
def ledger():
    trials = os.environ.get(TRIALS)
    return Ledger(Path(trials).resolve() if trials else None)
