"""Two runs to share: a made-up one, whole and hostile, and a real one with an activation for each token."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from runs import shared_run

from micro import MICRO, antar


@pytest.fixture(scope="session")
def fake(tmp_path_factory):
    return shared_run(tmp_path_factory.mktemp("fake") / "fake")


@pytest.fixture(scope="session")
def token_level(tmp_path_factory):
    """A micro study whose activations are one row a token, as far as its examples."""
    folder = tmp_path_factory.mktemp("tokens")
    study = MICRO.replace("extract: {", "extract: {pooling: none, ").replace("study: micro", "study: tokens")
    (folder / "tokens.yaml").write_text(study, encoding="utf-8")
    done = antar("run", "tokens.yaml", "--until", "features", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "tokens"
