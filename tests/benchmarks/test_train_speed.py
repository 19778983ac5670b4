"""What of the training benchmarks runs without the peers: rows, start, evaluator, both scripts with antar alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.data import Truth, firing_probabilities, make_rows
from benchmarks.evaluate import evaluate, reconstruct, recovered
from benchmarks.peers.standins import standing_in
from benchmarks.setting import HELD_ENCODER_NORM, Plain, Setting, held_latents, start_weights
from benchmarks.train_speed import PLANS, QUICK_TRUTH, summary

ROOT = Path(__file__).parents[2]
SMALL = Setting(d_model=24, n_latents=60, k=5, held=12)


def run(script: str, *arguments: str) -> dict:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", "--quick", "--peers", "none", "--threads", "1", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout)


def test_rows_are_seeded_centred_and_scaled():
    rows, again = make_rows(QUICK_TRUTH, 600, 100), make_rows(QUICK_TRUTH, 600, 100)
    assert np.array_equal(rows.train_nd, again.train_nd)
    assert rows.train_nd.shape == (600, 64) and rows.held_out_nd.shape == (100, 64)
    assert np.abs(rows.train_nd.mean(0)).max() < 1e-5
    assert np.square(rows.train_nd).mean() == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(rows.directions_md, axis=1) == pytest.approx(1, abs=1e-5)


def test_rows_have_the_noise_and_the_spectrum_that_their_truth_says():
    quiet = make_rows(Truth(d_model=64, directions=40, active=2, noise=1e-6), 4000, 10)
    in_span_nd = quiet.train_nd @ np.linalg.pinv(quiet.directions_md) @ quiet.directions_md
    # Centring moves all rows by one vector of the span, so without noise they lie in it.
    assert np.square(quiet.train_nd - in_span_nd).mean() < 1e-5
    steep = np.linalg.eigvalsh(np.cov(make_rows(Truth(d_model=64, directions=256, active=12), 4000, 10).train_nd.T))
    flat_truth = Truth(d_model=64, directions=256, active=12, spectrum=0.0, decay=0.0)
    flat = np.linalg.eigvalsh(np.cov(make_rows(flat_truth, 4000, 10).train_nd.T))
    assert steep[-6:].sum() / steep.sum() > 1.5 * flat[-6:].sum() / flat.sum()


def test_firing_probabilities_sum_to_the_active_number_and_fall():
    truth = Truth(directions=500, active=30, decay=1.0)
    probability_m = firing_probabilities(truth)
    assert float(probability_m.sum()) == pytest.approx(30, rel=1e-4)
    assert bool((probability_m.diff() <= 1e-7).all()) and float(probability_m.max()) <= 0.5001


def test_the_start_does_not_know_the_hidden_directions():
    truth = Truth(d_model=64, directions=128, active=4, spectrum=0.0)
    start = start_weights(Setting(d_model=64, n_latents=256, k=4))
    directions_md = torch.from_numpy(make_rows(truth, 10, 10).directions_md)
    assert recovered(start.decoder_nd, directions_md) == 0.0
    assert recovered(directions_md[:32] * 3, directions_md) == 0.25


def test_held_latents_never_fire_at_the_start_though_half_of_their_pre_activations_are_positive():
    start = start_weights(SMALL)
    held_n = held_latents(SMALL)
    assert int(held_n.sum()) == 12 and bool(held_n[-12:].all())
    assert start.encoder_nd[held_n].norm(dim=1) == pytest.approx(HELD_ENCODER_NORM, abs=1e-5)
    x_bd = torch.randn(200, 24, generator=torch.Generator().manual_seed(3))
    fired_n = evaluate(start, x_bd, SMALL.k)[1]
    assert not bool((fired_n & held_n).any())
    assert 0.4 < float((x_bd @ start.encoder_nd[held_n].T > 0).double().mean()) < 0.6


def test_the_evaluator_equals_a_naive_one_in_fp64():
    generator = torch.Generator().manual_seed(5)
    weights = Plain(*(torch.randn(shape, generator=generator) for shape in ((60, 24), (60,), (60, 24), (24,))))
    x_nd = torch.randn(50, 24, generator=generator)
    guess_nd = []
    for x_d in x_nd.double():
        pre_n = weights.encoder_nd.double() @ (x_d - weights.decoder_bias_d) + weights.encoder_bias_n
        keep = set(pre_n.argsort(descending=True)[:5].tolist())
        codes_n = torch.tensor([max(float(p), 0.0) if j in keep else 0.0 for j, p in enumerate(pre_n)]).double()
        guess_nd.append(codes_n @ weights.decoder_nd.double() + weights.decoder_bias_d)
    guess_nd = torch.stack(guess_nd)
    expected = (x_nd - guess_nd).square().sum() / (x_nd.double() - x_nd.double().mean(0)).square().sum()
    assert evaluate(weights, x_nd, 5)[0] == pytest.approx(float(expected), rel=1e-5)
    assert torch.allclose(reconstruct(weights, x_nd, 5)[0].double(), guess_nd, atol=1e-4)


def test_ratios_are_taken_against_the_fastest_peer():
    def trainers(**speeds: float) -> dict:
        return {"trainers": {name: {"samples_per_s": speed, "fvu": speed / 100} for name, speed in speeds.items()}}

    result = summary({"256": trainers(antar=900, sparsify=100, saelens=300), "2048": trainers(antar=900)})
    assert result["ratio_fastest_peer"] == 3.0
    assert result["fvu_ratio_sparsify"] == 9.0
    assert result["ratio_fastest_peer_2048"] is None and result["ratio_fastest_peer_dead"] is None


def test_train_speed_prints_one_line_and_merges_configurations(tmp_path):
    out = tmp_path / "speed.json"
    result = run("train_speed", "--options", "plain", "--out", str(out))
    assert json.loads(out.read_text()) == result
    assert set(result["configurations"]) == set(PLANS)
    for name, configuration in result["configurations"].items():
        antar = configuration["trainers"]["antar"]
        assert antar["samples_per_s"] > 0 and len(antar["rounds"]) == configuration["rounds"]
        assert antar["evaluator_gap"] < 1e-4 and 0 < antar["fvu"] < 1
        assert antar["held_fired"] == 0
        assert (antar["dead_share"] >= 0.125) == name.endswith("dead")
        assert configuration["machine"]["cores"] >= 1 and antar["versions"]["torch"]


def test_recovery_finds_what_it_planted(tmp_path):
    result = run("recovery", "--out", str(tmp_path / "recovery.json"))
    assert result["recovered"]["antar"] > 0.7
    assert result["seeds"]["0"]["antar"]["fvu"] < 0.3


def test_a_stand_in_is_gone_after_the_import_and_an_installed_module_is_back():
    with standing_in("torchvision", "json"):
        from json import anything

        from torchvision import transforms  # pyright: ignore

        assert isinstance(transforms, type) and isinstance(anything, type)
    assert "torchvision" not in sys.modules
    assert sys.modules["json"] is json
