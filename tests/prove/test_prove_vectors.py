"""The battery counts what it says that it counts. Its full run is `antar prove`; this is a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from antar.organisms.vectors import LANGUAGES, make_vectors
from antar.prove import Battery, prove, run_battery
from antar.prove import vectors as module
from antar.prove.vectors import null_config, planted_config, with_truth

TINY = Battery(null_datasets=9, confounded_datasets=2, planted_datasets=4, small_datasets=2, documents=160,
               small=60, permutations=200)  # fmt: skip

MINUTE = Battery(null_datasets=6, confounded_datasets=1, planted_datasets=2, small_datasets=1, documents=80, small=40,
                 permutations=50)  # fmt: skip


def test_a_tiny_battery_writes_a_whole_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Battery, "quick", classmethod(lambda cls: TINY))
    proof = prove(True, tmp_path / "proof", organisms=False)
    assert json.loads((tmp_path / "proof" / "proof.json").read_text()) == proof
    assert proof["quick"] is True
    for name, n in (("null_discovery_rate", 9), ("fdr", 4), ("coverage", 4), ("power_d08", 4)):
        low, high = proof[f"{name}_ci"]
        assert 0 <= low <= proof[name] <= high <= 1
        assert proof[f"{name}_n"] == n
    assert {one: part["pooled_n"] for one, part in proof["null_discovery"].items()} == {
        "shift": 3, "culture": 3, "interaction": 3,
    }  # fmt: skip
    assert proof["length_confounded"]["pooled_n"] == 2
    assert proof["with_60_documents"]["power_d08_n"] == 2
    assert proof["with_60_documents"]["power_d08"] <= proof["power_d08"]
    assert proof["coverage"] > 0.7  # an interval that ignored its features' scale would cover almost nothing
    assert proof["design"]["permutations"] == 200


def test_the_battery_is_deterministic() -> None:
    first, second = run_battery(MINUTE), run_battery(MINUTE)
    timing = {"seconds", "machine", "versions"}
    assert {k: v for k, v in first.items() if k not in timing} == {k: v for k, v in second.items() if k not in timing}


@pytest.mark.parametrize("contrast", ["shift", "culture", "interaction"])
def test_a_null_dataset_is_null_for_its_contrast_and_differs_elsewhere(contrast: str) -> None:
    truth = make_vectors(null_config(contrast, False, 40, 1)).truth
    change = truth.mean[1] - truth.mean[0]
    for language in LANGUAGES:
        nothing = {
            "shift": truth.shift_d({language: 1.0}),
            "culture": truth.culture_d({language: 1.0}),
            "interaction": change[1, LANGUAGES.index(language)] - change[0, LANGUAGES.index(language)],
        }
        assert nothing[contrast] == pytest.approx(0.0)
    elsewhere = truth.cultural if contrast == "shift" else truth.changed
    assert elsewhere.any()


@pytest.mark.parametrize("contrast", ["shift", "culture"])
def test_planted_datasets_hold_twelve_features_of_d_08(contrast: str) -> None:
    truth = make_vectors(planted_config(contrast, 40, 1)).truth
    d = truth.shift_d({"en": 1, "hi": 1}) if contrast == "shift" else truth.culture_d({"en": 1, "hi": 1})
    assert int((np.abs(np.abs(d) - 0.8) < 1e-9).sum()) == 12
    assert int((np.abs(d) > 1e-9).sum()) == 12


def test_coverage_is_judged_against_the_population() -> None:
    truth = make_vectors(planted_config("shift", 40, 1)).truth
    true = {
        "en": truth.shift_d({"en": 1}),
        "hi": truth.shift_d({"hi": 1}),
        "pooled": truth.shift_d({"en": 3, "hi": 1}),
    }
    rows = pl.DataFrame(
        [
            {"contrast": "shift", "language": language, "latent": latent, "n_a": n, "n_b": n, "fire_a": 0.5,
             "fire_b": 0.5, "d_lo": d[latent] - 0.01, "d_hi": d[latent] + 0.01}
            for (language, d), n in zip(true.items(), (3, 1, 4), strict=True)
            for latent in range(96)
        ]
    )  # fmt: skip
    judged = with_truth(rows, "shift", truth)
    assert judged["covered"].all() and judged.height == rows.height
    off = with_truth(rows.with_columns(pl.col("d_lo", "d_hi") + 0.02), "shift", truth)
    assert not off["covered"].any()
    unknown = rows.with_columns(d_lo=pl.lit(None, pl.Float64))
    assert with_truth(unknown, "shift", truth).is_empty()


def test_an_alarm_in_every_dataset_is_reported_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALPHA", 1.1)  # every feature is discovered
    proof = run_battery(MINUTE)
    assert proof["null_discovery_rate"] == 1.0
    assert proof["fdr"] > 0.8 and proof["power_d08"] == 1.0
