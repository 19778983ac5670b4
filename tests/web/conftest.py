"""What the tests of the browser share: a made-up run, and clients with and without a session."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the web extra is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.testclient import TestClient

from antar.run import load_run
from antar.web.app import create_app

TOKEN = "the-token"
HERE = "http://127.0.0.1:8437"


def _client(run, **settings) -> TestClient:
    return TestClient(create_app(run, [TOKEN], **settings), base_url=HERE, follow_redirects=False)


def _browser(run, **settings) -> TestClient:
    client = _client(run, **settings)
    assert client.get(f"/?token={TOKEN}").status_code == 303
    return client


@pytest.fixture(scope="session")
def client_of():
    """run, settings of `create_app` → a client that has no session yet; its link's token is `the-token`."""
    return _client


@pytest.fixture(scope="session")
def browser_of():
    """The same, with a session."""
    return _browser


@pytest.fixture(scope="session")
def fake():
    path = Path(__file__).resolve().parent.parent / "fake_run.py"
    spec = importlib.util.spec_from_file_location("fake_run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run(fake, tmp_path_factory):
    """A run with everything: labels of a language model, shams, contrasts, a report."""
    made = load_run(fake.write_fake_run(tmp_path_factory.mktemp("runs") / "fake"))
    (made.folder / "report").mkdir()
    (made.folder / "report/index.html").write_text("<!doctype html><p>the report</p>", encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def browser(run) -> TestClient:
    return _browser(run)
