"""The error of a delta in half precision, as the manifest has it, against a whole run in float32."""

from __future__ import annotations

import json

import numpy as np
import pytest

from antar.core.sites import Site
from antar.models import precision_warning, read_site
from antar.models.precision import delta_error, sample_rows
from micro import MICRO, antar


@pytest.mark.slow
def test_the_manifest_holds_the_error_of_every_delta(tmp_path):
    exact = MICRO.replace("study: micro", "study: exact")
    coarse = MICRO.replace("study: micro", "study: coarse").replace(
        "dtype: float32, threads: 1", "dtype: bfloat16, threads: 1, precision_texts: 40"
    )
    assert coarse.count("precision_texts") == 1
    for name, text in (("exact", exact), ("coarse", coarse)):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        run = antar("run", tmp_path / f"{name}.yaml", "--until", "extract", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
    runs = tmp_path / "runs"
    assert not (runs / "exact" / "activations" / "precision").exists()
    manifest = json.loads((runs / "coarse" / "activations" / "precision" / "manifest.json").read_text("utf-8"))
    errors = manifest["facts"]["errors"]
    names = [f"{side}.layer{layer:02d}" for layer in (0, 1) for side in ("delta", "delta:a", "delta:b")]
    assert sorted(errors) == sorted(names)
    site = Site("delta", 1)
    n_texts = len(read_site(runs / "exact", site))
    rows = sample_rows(n_texts, 40)
    assert len(rows) == 40
    wanted = delta_error(read_site(runs / "coarse", site)[rows], read_site(runs / "exact", site)[rows])
    assert errors["delta.layer01"] == pytest.approx(wanted, rel=1e-3)
    assert errors["delta.layer01"] > 0.001
    again = antar("run", tmp_path / "coarse.yaml", "--until", "extract", cwd=tmp_path)
    assert "extract: fresh" in again.stderr


def test_an_error_is_a_share_of_the_delta():
    exact = np.array([[3.0, 4.0]], np.float32)
    assert delta_error(np.array([[3.0, 4.5]], np.float32), exact) == pytest.approx(0.1)
    assert delta_error(exact, np.zeros((1, 2), np.float32)) is None


def test_a_delta_that_is_too_far_off_is_a_warning_that_names_another_dtype():
    assert precision_warning({"delta.layer06": 0.05, "delta.layer12": None}, "bfloat16") is None
    told = precision_warning({"delta.layer06": 0.01, "delta.layer12": 0.08}, "bfloat16")
    assert told == (
        "warning: in bfloat16 delta.layer12 is off by 8.0% of its size (over 5%); set extract.dtype to float32, or "
        "try float16"
    )
    assert precision_warning({"delta:a.layer01": 0.5}, "float16").endswith("set extract.dtype to float32")


def test_the_sample_is_spread_over_the_corpus():
    assert sample_rows(5, 256).tolist() == [0, 1, 2, 3, 4]
    assert sample_rows(1001, 5).tolist() == [0, 250, 500, 750, 1000]
