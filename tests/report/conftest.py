"""One fake run with its report for all tests of this room: drawing the figures takes seconds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from antar.report import write_report
from antar.run import Run, load_run

_PATH = Path(__file__).resolve().parent.parent / "fake_run.py"


def _module():
    spec = importlib.util.spec_from_file_location("fake_run", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake():
    """The module tests/fake_run.py."""
    return _module()


@pytest.fixture(scope="session")
def reported(fake, tmp_path_factory) -> Run:
    """A fake run with its report written."""
    run = load_run(fake.write_fake_run(tmp_path_factory.mktemp("runs") / "fake"))
    write_report(run)
    return run


@pytest.fixture(scope="session")
def page(reported) -> str:
    return (reported.folder / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def make_run(fake, tmp_path) -> Callable[..., Run]:
    return lambda **parts: load_run(fake.write_fake_run(tmp_path / "run", **parts))
