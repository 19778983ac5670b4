"""The battery counts what it says that it counts. Its full run is `antar prove`; this is a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from antar.organisms.vectors import LANGUAGES, make_vectors, population_auroc, population_log_odds
from antar.prove import Battery, prove, run_battery
from antar.prove import vectors as module
from antar.prove.coverage import with_truth
from antar.prove.vectors import null_config, planted_config

TINY = Battery(null_datasets=9, confounded_datasets=2, planted_datasets=4, permutations=200,
               sizes={"1000 a side": (240, 4), "200 a side": (160, 2), "40 a side": (60, 2)})  # fmt: skip

MINUTE = Battery(null_datasets=6, confounded_datasets=1, planted_datasets=2, permutations=50,
                 sizes={"1000 a side": (80, 2), "200 a side": (80, 2), "40 a side": (40, 2)})  # fmt: skip


def test_a_tiny_battery_writes_a_whole_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Battery, "quick", classmethod(lambda cls: TINY))
    proof = prove(True, tmp_path / "proof", organisms=False)
    assert json.loads((tmp_path / "proof" / "proof.json").read_text()) == proof
    assert proof["quick"] is True
    for name, n in (("null_discovery_rate", 9), ("family_wise_error", 9), ("fdr", 10), ("coverage", 4),
                    ("power_d08", 4)):  # fmt: skip
        low, high = proof[f"{name}_ci"]
        assert 0 <= low <= proof[name] <= high <= 1
        assert proof[f"{name}_n"] == n
    assert {one: part["pooled_n"] for one, part in proof["null_discovery"].items()} == {
        "shift": 3, "culture": 3, "interaction": 3,
    }  # fmt: skip
    assert proof["length_confounded"]["share_with_a_discovery_n"] == 2
    small = proof["by_size"]["40 a side"]
    assert small["power_n"] == 2 and small["power"] <= proof["power_d08"]
    assert proof["design"]["permutations"] == 200


def test_intervals_cover_and_those_that_ignore_documents_do_not() -> None:
    """PITFALLS: texts of one document treated as independent. 1,000 texts a side, four to a document."""
    few = Battery(null_datasets=3, confounded_datasets=1, planted_datasets=12, permutations=20)
    proof = run_battery(few)
    for measure in ("d_av", "log_odds", "auroc"):
        found, naive = proof["coverage_of"][measure], proof["unclustered"]["covered"][measure]
        assert 0.93 <= found["pooled"]["value"] <= 0.975
        assert naive["pooled"]["value"] < found["pooled"]["value"] - 0.005
    frequent = [
        np.mean([one[measure]["by rate"]["30-60%"]["value"] for measure in ("d_av", "log_odds", "auroc")])
        for one in (proof["coverage_of"], proof["unclustered"]["covered"])
    ]
    assert frequent[0] > 0.93 > frequent[1]
    rising = proof["rising from 1% to 10%"]["1000 a side"]
    assert rising["found by log-odds"] > 0.9 and rising["found with |d_av| above 0.8"] == 0
    assert proof["power_d08"] > 0.95


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
    assert int((np.abs(d) > 1e-9).sum()) == 18 and int(truth.rising.sum()) == 6
    assert (np.abs(d[truth.rising]) < 0.4).all()


def test_coverage_is_judged_against_the_population() -> None:
    cfg = planted_config("shift", 40, 1, large=True)
    truth = make_vectors(cfg).truth
    weights = {"en": {"en": 1.0}, "hi": {"hi": 1.0}, "pooled": {"en": 3.0, "hi": 1.0}}
    rows: list[dict[str, object]] = []
    for (language, its), n in zip(weights.items(), (3, 1, 4), strict=True):
        d = truth.shift_d(its)
        parts = [(weight, truth.shift_rates(one)) for one, weight in its.items()]
        auroc = sum(w * population_auroc(*rates) for w, rates in parts) / sum(its.values())
        odds = population_log_odds(*truth.shift_rates("en")[:2])
        for latent in range(96):
            at = {"d": d[latent], "auroc": auroc[latent], "log_odds": odds[latent]}
            rows.append(
                {"contrast": "shift", "language": language, "latent": latent, "n_a": n, "n_b": n}
                | {f"{name}_lo": value - 0.01 for name, value in at.items()}
                | {f"{name}_hi": value + 0.01 for name, value in at.items()}
            )
    table = pl.DataFrame(rows)
    judged = with_truth(table, "shift", truth)
    assert judged["covered"].all()
    infinite = int((truth.kind == "appearing").sum() + (truth.kind == "vanishing").sum())
    counts = dict(judged["measure"].value_counts().iter_rows())
    assert counts == {"d_av": 288, "auroc": 288, "log_odds": 3 * (96 - infinite)}
    ends = [name for name in table.columns if name.endswith(("_lo", "_hi"))]
    assert not with_truth(table.with_columns(pl.col(ends) + 0.02), "shift", truth)["covered"].any()
    unknown = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ends)
    assert with_truth(unknown, "shift", truth).is_empty()


def test_an_alarm_in_every_dataset_is_reported_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALPHA", 1.1)  # every feature is discovered
    proof = run_battery(MINUTE)
    assert proof["null_discovery_rate"] == 1.0
    assert proof["fdr"] > 0.75 and proof["power_d08"] == 1.0
