"""The error of a delta in half precision, as the manifest has it, against a whole run in float32."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from antar.core.sites import Site
from antar.models import precision_warning, read_site
from antar.models.precision import delta_error, sample_rows
from micro import MICRO, antar, write_micro


@pytest.mark.slow
def test_the_manifest_holds_the_error_of_every_delta(finished, tmp_path):
    exact, coarse = finished, tmp_path / "runs" / "micro"
    for name in ("organism", "corpus"):
        shutil.copytree(finished / name, coarse / name)
    study = write_micro(tmp_path)
    before, after = "dtype: float32, threads: 1", "dtype: bfloat16, threads: 1, precision_texts: 40"
    study.write_text(MICRO.replace(before, after, 1), encoding="utf-8")
    run = antar("run", study, "--until", "extract", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert not (exact / "activations" / "precision").exists()
    manifest = json.loads((coarse / "activations" / "precision" / "manifest.json").read_text("utf-8"))
    errors = manifest["facts"]["errors"]
    names = [f"{side}.layer{layer:02d}" for layer in (0, 1) for side in ("delta", "delta:a", "delta:b")]
    assert sorted(errors) == sorted(names)
    site = Site("delta", 1)
    n_texts = len(read_site(exact, site))
    rows = sample_rows(n_texts, 40)
    assert len(rows) == 40
    wanted = delta_error(read_site(coarse, site)[rows], read_site(exact, site)[rows])
    assert errors["delta.layer01"] == pytest.approx(wanted, rel=1e-3)
    assert errors["delta.layer01"] > 0.001
    again = antar("run", study, "--until", "extract", cwd=tmp_path)
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
