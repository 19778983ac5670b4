"""Configs, encoding and decoding, files that round-trip or are refused, and the numbers about activations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from antar.core.errors import UserError
from antar.core.sparse import SparseCodes
from antar.dictionaries import (
    DictionaryConfig,
    TopK,
    evaluate,
    geometry,
    load_dictionary,
    preset,
    published_faults,
    topk,
    train_dictionary,
)
from antar.dictionaries.data import Scaling, fit_scaling
from antar.dictionaries.evaluate import density_histogram
from antar.dictionaries.loss import forward
from antar.dictionaries.topk import fold
from antar.dictionaries.weights import Weights, unit_rows_

D, N, K = 12, 30, 5


def random_dictionary(seed: int = 0) -> TopK:
    generator = torch.Generator().manual_seed(seed)
    decoder_nd = unit_rows_(torch.randn(N, D, generator=generator))
    encoder_nd = decoder_nd + 0.1 * torch.randn(N, D, generator=generator)
    bias_n = 0.3 * torch.randn(N, generator=generator)
    return TopK(Weights(encoder_nd, bias_n, decoder_nd, 4 + torch.randn(D, generator=generator)), K)


def acts(rows: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (4 + 3 * rng.standard_normal((rows, D)) * np.linspace(0.2, 2, D)).astype(np.float32)


# --- encode and decode ----------------------------------------------------------------------------------------


def naive_codes(dictionary: TopK, x_d: np.ndarray) -> dict[int, float]:
    encoder_nd, bias_n, _, bias_d = (t.numpy().astype(np.float64) for t in dictionary.weights.tensors())
    pre = [float(encoder_nd[j] @ (x_d - bias_d) + bias_n[j]) for j in range(N)]
    top = sorted(range(N), key=lambda j: -pre[j])[:K]
    return {j: pre[j] for j in top if pre[j] > 0}


def test_codes_and_reconstructions_equal_the_naive_twin() -> None:
    dictionary, acts_nd = random_dictionary(), acts(40)
    codes = dictionary.encode(acts_nd)
    assert codes.indices_nk.dtype == np.int32 and codes.values_nk.dtype == np.float32
    again_nd = dictionary.decode(codes)
    for row, x_d in enumerate(acts_nd):
        expected = naive_codes(dictionary, x_d)
        found = dict(zip(codes.indices_nk[row].tolist(), codes.values_nk[row].tolist(), strict=True))
        assert len(found) == K and {j for j, v in found.items() if v > 0} == set(expected)
        for j, value in expected.items():
            assert found[j] == pytest.approx(value, rel=1e-4, abs=1e-4)
        x_hat_d = sum((v * dictionary.decoder_nd[j] for j, v in expected.items()), np.zeros(D))
        np.testing.assert_allclose(again_nd[row], x_hat_d + dictionary.weights.decoder_bias_d.numpy(), atol=1e-3)
    assert (np.diff(codes.values_nk, axis=1) <= 0).all()


def test_chunks_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary, acts_nd = random_dictionary(), acts(101)
    whole = dictionary.encode(acts_nd)
    largest = 0

    def watched(weights: Weights, x_bd: torch.Tensor, k: int) -> Any:
        nonlocal largest
        largest = max(largest, len(x_bd))
        return forward(weights, x_bd, k)

    monkeypatch.setattr(topk, "CHUNK_BYTES", 8 * 4 * N)
    monkeypatch.setattr(topk, "forward", watched)
    parts = dictionary.encode(torch.from_numpy(acts_nd))
    assert largest == 8
    assert np.array_equal(whole.indices_nk, parts.indices_nk)
    np.testing.assert_allclose(whole.values_nk, parts.values_nk, rtol=1e-5)
    np.testing.assert_allclose(dictionary.decode(parts), dictionary.decode(whole), rtol=1e-5, atol=1e-5)
    assert len(dictionary.encode(acts_nd[:0])) == 0 and dictionary.decode(whole.rows(np.arange(0))).shape == (0, D)


def test_inputs_that_do_not_fit_are_refused_in_one_line() -> None:
    dictionary, acts_nd = random_dictionary(), acts(9)
    broken_nd = acts_nd.copy()
    broken_nd[6, 2] = np.nan
    cases = [
        (lambda: dictionary.encode(acts_nd[:, :5]), r"expected shape \[texts, 12\]"),
        (lambda: dictionary.encode(acts_nd[0]), r"found \[12\]"),
        (lambda: dictionary.encode(broken_nd), "row 6: expected finite"),
        (lambda: dictionary.decode(SparseCodes(np.zeros((1, 2)), np.zeros((1, 2)), 7)), "30 latents, found 7"),
    ]
    for call, message in cases:
        with pytest.raises(UserError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


# --- files ----------------------------------------------------------------------------------------------------


def test_folding_the_scaling_is_exact() -> None:
    """PITFALLS: decoder bias not unscaled. Normalised in and out, and raw in and out, are the same dictionary."""
    acts_nd = acts(50)
    scaling = fit_scaling(acts_nd, True)
    inner = random_dictionary().weights
    inner.decoder_bias_d.sub_(4)
    raw = TopK(fold(inner, scaling), K)
    out = forward(inner, scaling.apply(acts_nd, torch.device("cpu")), K)
    codes = raw.encode(acts_nd)
    np.testing.assert_array_equal(codes.indices_nk, out.indices_bk.numpy())
    np.testing.assert_allclose(codes.values_nk, scaling.scale * out.values_bk.numpy(), rtol=1e-4, atol=1e-4)
    expected_nd = out.reconstruction_bd.numpy() * scaling.scale + scaling.centre_d
    np.testing.assert_allclose(raw.decode(codes), expected_nd, rtol=1e-4, atol=1e-4)
    assert inner.encoder_bias_n.data_ptr() != raw.weights.encoder_bias_n.data_ptr()
    assert isinstance(scaling, Scaling)


def test_raw_in_raw_out_after_save_and_load(tmp_path: Path) -> None:
    """PITFALLS: normalisation applied in training and forgotten on load."""
    acts_nd = 100 * acts(400)
    cfg = preset("antar", n_latents=N, k=K, lr=1e-2, max_epochs=30, batch=64, threads=1, device="cpu")
    found = train_dictionary(acts_nd[100:], acts_nd[:100], cfg, seed=0, checkpoint=None, title="test")
    found.dictionary.save(tmp_path / "x", {"facts": found.facts})
    loaded = load_dictionary(tmp_path / "x")
    before, after = found.dictionary.encode(acts_nd), loaded.encode(acts_nd)
    assert np.array_equal(before.indices_nk, after.indices_nk) and np.array_equal(before.values_nk, after.values_nk)
    again_nd = loaded.decode(after)
    assert np.array_equal(found.dictionary.decode(before), again_nd)
    variance = np.square(acts_nd[:100] - acts_nd[:100].mean(0)).sum()
    fvu = np.square(acts_nd[:100] - again_nd[:100]).sum() / variance
    best = found.history["val_fvu"].min()
    assert isinstance(best, float) and fvu == pytest.approx(best, rel=1e-3) and fvu < 0.35
    assert (loaded.d_model, loaded.n_latents, loaded.k) == (D, N, K)
    np.testing.assert_allclose(np.linalg.norm(loaded.decoder_nd, axis=1), 1, atol=1e-6)
    assert json.loads((tmp_path / "x" / "cfg.json").read_text())["about"]["facts"]["seed"] == 0


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        random_dictionary().save(tmp_path / name)
    for file in ("cfg.json", "sae_weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "cfg.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder: Path, **changes: np.ndarray | None) -> None:
    path = folder / "sae_weights.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def cut(folder: Path) -> None:
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def only_a_pickle(folder: Path) -> None:
    (folder / "cfg.json").unlink()
    (folder / "sae_weights.safetensors").rename(folder / "sae.pt")


DAMAGE = {
    "width": (lambda f: edit_config(f, d_model=D + 1), r"expected W_enc to be float32 \[30, 13\]"),
    "latents": (lambda f: edit_config(f, n_latents=N - 1), r"expected W_enc to be float32 \[29, 12\]"),
    "k": (lambda f: edit_config(f, k=N + 1), "expected k of at most"),
    "k missing": (lambda f: edit_config(f, k=None), "expected k to be a positive whole number, found None"),
    "k true": (lambda f: edit_config(f, k=True), "positive whole number, found True"),
    "version": (lambda f: edit_config(f, version=2), "expected version 1, found 2"),
    "format": (lambda f: edit_config(f, format=None), "expected format 'antar.dictionary', found None"),
    "architecture": (
        lambda f: edit_config(f, architecture="jumprelu"),
        "expected architecture .*'pca'.*, found 'jump",
    ),
    "normalisation": (lambda f: edit_config(f, normalisation="layer_norm"), "expected normalisation 'folded'"),
    "missing tensor": (lambda f: edit_tensors(f, b_enc=None), "expected the tensors W_enc, b_enc"),
    "extra tensor": (lambda f: edit_tensors(f, threshold=np.zeros(N, np.float32)), "found .*threshold"),
    "dtype": (lambda f: edit_tensors(f, b_enc=np.zeros(N, np.float16)), "found float16"),
    "NaN": (lambda f: edit_tensors(f, b_enc=np.full(N, np.nan, np.float32)), "finite numbers in b_enc"),
    "free rows": (lambda f: edit_tensors(f, W_dec=np.ones((N, D), np.float32)), "unit length, found 3.464"),
    "truncated": (cut, "whole safetensors file"),
    "no weights": (lambda f: (f / "sae_weights.safetensors").unlink(), "whole safetensors file"),
    "no JSON": (lambda f: (f / "cfg.json").write_text("{"), "expected JSON"),
    "no object": (lambda f: (f / "cfg.json").write_text("[1]"), "expected a JSON object, found list"),
    "not text": (lambda f: (f / "cfg.json").write_bytes(b"\xff\xfe\x00"), "expected JSON"),
    "no config": (lambda f: (f / "cfg.json").unlink(), "expected a dictionary"),
    "pickle": (only_a_pickle, r"found sae.pt; antar opens no pickles"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_it_does_not_understand_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    random_dictionary().save(tmp_path)
    load_dictionary(tmp_path)
    change, message = DAMAGE[damage]
    change(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        load_dictionary(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_pickle_file_or_an_absent_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sae.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="antar opens no pickles"):
        load_dictionary(tmp_path / "sae.pt")
    with pytest.raises(UserError, match="train it first"):
        load_dictionary(tmp_path / "absent")


# --- config ---------------------------------------------------------------------------------------------------


def test_the_published_preset_is_the_published_study_number_for_number() -> None:
    cfg = preset("published")
    published = {
        "n_latents": 8192, "k": 256, "auxk_coefficient": 0.03, "k_aux": 512, "lr": 1e-4, "weight_decay": 0.01,
        "warmup_steps": 1000, "warmup_share": 1.0, "clip": 1.0, "batch": 256, "max_epochs": 100,
        "check_every_epochs": 5, "dead_rule": "published", "dead_window_steps": 1000, "dead_share": 0.001,
        "reset_every_steps": 3000, "decoder_init": "xavier", "train_on": "cultural", "validate_on": "control",
    }  # fmt: skip
    assert {name: getattr(cfg, name) for name in published} == published


def test_presets_fill_what_is_not_set_and_survive_a_round_trip() -> None:
    assert DictionaryConfig() == preset("antar")
    assert DictionaryConfig().auxk_coefficient == 1 / 32
    cfg = DictionaryConfig.model_validate({"preset": "published", "reset_every_steps": 0, "k": 8})
    assert cfg.auxk_coefficient == 0.03 and cfg.reset_every_steps == 0 and cfg.k == 8
    assert DictionaryConfig.model_validate_json(cfg.model_dump_json()) == cfg
    assert set(cfg.training_fields()).isdisjoint({"preset", "seeds", "folds", "train_on", "validate_on"})
    assert all(field.description for field in DictionaryConfig.model_fields.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "mine"}, "antar.*published"),
        ({"k": 9, "n_latents": 8}, "k: expected at most n_latents = 8, found 9"),
        ({"folds": 1}, "folds: expected 0 or at least 2"),
        ({"learning_rate": 1}, "learning_rate"),
        ({"lr": 0}, "greater than 0"),
    ],
)
def test_configs_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DictionaryConfig.model_validate(given)


def test_presets_by_name_and_their_faults() -> None:
    with pytest.raises(UserError, match="expected one of antar, published, found 'gpt'"):
        preset("gpt")
    assert len({fault.name for fault in published_faults}) == len(published_faults) >= 5
    assert all(fault.was.endswith(".") and fault.now.endswith(".") for fault in published_faults)


# --- evaluation and geometry ----------------------------------------------------------------------------------


def test_metrics_equal_their_definitions() -> None:
    dictionary, acts_nd = random_dictionary(), acts(80)
    rows = np.arange(50, 80)
    report = evaluate(dictionary, acts_nd, {"train": np.arange(50), "heldout": rows})
    part = report["parts"]["heldout"]
    x = acts_nd[rows].astype(np.float64)
    codes = dictionary.encode(acts_nd[rows])
    again = dictionary.decode(codes).astype(np.float64)
    total = np.square(x - x.mean(0)).sum()
    assert part["mse"] == pytest.approx(np.square(x - again).mean())
    assert part["fvu"] == pytest.approx(np.square(x - again).sum() / total)
    fired = codes.values_nk > 0
    assert part["l0"] == pytest.approx(fired.sum(1).mean())
    assert part["n_latents_over_l0"] == pytest.approx(N / fired.sum(1).mean())
    assert part["live"] == len(np.unique(codes.indices_nk[fired]))
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, again, strict=True)]
    assert part["cosine"] == pytest.approx(np.mean(cosines))
    from sklearn.decomposition import PCA

    pca = PCA(K, svd_solver="full").fit(acts_nd[:50].astype(np.float64))
    expected = np.square(x - pca.inverse_transform(pca.transform(x))).sum() / total
    assert part["fvu_pca"] == pytest.approx(expected, rel=1e-6)
    assert part["fvu_random"] > 0 and part["rows"] == 30
    assert sum(part["density"]["counts"]) + part["density"]["never"] == N
    json.dumps(report, allow_nan=False)


def test_fvu_takes_the_mean_of_the_part_that_it_evaluates() -> None:
    """A part far from the training mean: dividing by the distance to the training mean would flatter it."""
    dictionary = random_dictionary()
    acts_nd = np.concatenate([acts(60), acts(60, seed=2) + 50])
    part = evaluate(dictionary, acts_nd, {"train": np.arange(60), "far": np.arange(60, 120)})["parts"]["far"]
    assert part["variance"] == pytest.approx(acts_nd[60:].astype(np.float64).var(axis=0).mean())
    assert part["fvu"] == pytest.approx(part["mse"] / part["variance"]) and part["fvu"] > 1


def test_random_baseline_has_the_gain_that_suits_it_best() -> None:
    acts_nd = acts(300)
    parts = {"train": np.arange(300)}
    first, again = (evaluate(random_dictionary(), acts_nd, parts, seed=4) for _ in range(2))
    other = evaluate(random_dictionary(), acts_nd, parts, seed=5)
    assert first == again
    assert first["parts"]["train"]["fvu_random"] != other["parts"]["train"]["fvu_random"]
    assert 0 < first["parts"]["train"]["fvu_random"] < 1  # the gain 0 would give 1


def test_parts_that_have_no_number_say_why() -> None:
    acts_nd = acts(20)
    report = evaluate(random_dictionary(), acts_nd, {"one": np.array([3]), "none": np.zeros(20, dtype=bool)})
    assert report["parts"]["one"]["fvu"] is None and "no variance" in report["parts"]["one"]["fvu_reason"]
    assert report["parts"]["one"]["mse"] > 0 and report["parts"]["one"]["fvu_pca"] is None
    assert report["parts"]["none"]["rows"] == 0 and "no texts" in report["parts"]["none"]["fvu_reason"]
    with pytest.raises(UserError, match="part 'x': expected rows of 20"):
        evaluate(random_dictionary(), acts_nd, {"x": np.array([20])})


def test_density_bins_are_half_decades_of_the_firing_rate() -> None:
    found = density_histogram(np.array([0, 1, 10, 99, 100, 1000, 999]), 1000)
    assert found["never"] == 1 and sum(found["counts"]) == 6
    expected = [0] * 10
    for rate in (1e-3, 1e-2, 0.099, 0.1, 1.0, 0.999):
        expected[min(math.floor((math.log10(rate) + 5 + 1e-12) * 2), 9)] += 1
    assert found["counts"] == expected


def test_geometry_knows_planted_dimensions() -> None:
    rng = np.random.default_rng(0)
    basis_dr = np.linalg.qr(rng.standard_normal((40, 10)))[0]
    acts_nd = (rng.standard_normal((20000, 10)) @ basis_dr.T + 5).astype(np.float32)
    found = geometry(acts_nd)
    assert found.participation_ratio == pytest.approx(10, rel=0.01) and found.pca90_rank == 9
    assert found.mean_norm == pytest.approx(np.linalg.norm(acts_nd, axis=1).mean(), rel=1e-6)


def test_geometry_equals_its_formula_on_some_rows() -> None:
    acts_nd = acts(500)
    mask = np.arange(500) % 3 == 0
    variances = np.linalg.eigvalsh(np.cov(acts_nd[mask].astype(np.float64).T, bias=True))[::-1]
    for rows in (mask, np.flatnonzero(mask)):
        found = geometry(acts_nd, rows)
        assert found.rows == mask.sum()
        assert found.participation_ratio == pytest.approx(variances.sum() ** 2 / np.square(variances).sum())
        shares = np.cumsum(variances) / variances.sum()
        assert found.pca90_rank == next(i + 1 for i, share in enumerate(shares) if share >= 0.9)


def test_geometry_of_rows_without_variance_is_null() -> None:
    for value in (0.0, 0.1):
        found = geometry(np.full((30, 8), value, dtype=np.float32))
        assert found.participation_ratio is None and found.pca90_rank is None
        assert found.mean_norm == pytest.approx(value * math.sqrt(8))
