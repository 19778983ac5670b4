"""What the tests of the browser share: a made-up run, and clients with and without a session."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("starlette", reason="the web extra is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.testclient import TestClient

from antar.run import load_run
from antar.web.app import create_app
from antar.web.explore.build import build_index
from antar.web.explore.index import CACHE

TOKEN = "the-token"
HERE = "http://127.0.0.1:8437"


def _client(run, **settings) -> TestClient:
    # The index is built here, so that no test waits for the process that builds it; one test watches that process.
    if run.has("features/features.parquet"):
        build_index(run, run.folder / CACHE)
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


def _write_matches(run) -> None:
    """Half of base's features of layer 1 have a counterpart; of another seed's, all."""
    n = run.features.filter(pl.col("dictionary") == "base.layer01").height
    rows = [
        {"layer": 1, "null": null, "dictionary_a": "base.layer01", "latent_a": i, "dictionary_b": other,
         "latent_b": (i + 1) % n if matched else None, "cosine": 0.5 + i / 100 if matched else None,
         "correlation": 0.7 if matched else None, "matched": matched}
        for null, other in (("", "chat.layer01"), ("other_seed", "base.layer01.seed1"))
        for i in range(n)
        for matched in [null != "" or i % 2 == 0]
    ]  # fmt: skip
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(run.folder / "features/matches.parquet")
    share = {"layer": 1, "null": "", "dictionary_a": "base.layer01", "dictionary_b": "chat.layer01", "live_a": n,
             "live_b": n, "matched": n // 2, "cosine": 0.6, "correlation": 0.7, "cosine_bar": 0.3,
             "correlation_bar": 0.2, "texts": 80}  # fmt: skip
    (run.folder / "features/matches.json").write_text(json.dumps([share]), encoding="utf-8")
    live = run.features.filter("live").select("feature", pl.lit(0.66).alias("coherence"))
    live.write_parquet(run.folder / "features/coherence.parquet")


@pytest.fixture(scope="session")
def run(fake, tmp_path_factory):
    """A run with everything: labels, shams, contrasts, counterparts, coherence, a report."""
    made = load_run(fake.write_fake_run(tmp_path_factory.mktemp("runs") / "fake"))
    _write_matches(made)
    (made.folder / "report").mkdir()
    (made.folder / "report/index.html").write_text("<!doctype html><p>the report</p>", encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def browser(run) -> TestClient:
    return _browser(run)
