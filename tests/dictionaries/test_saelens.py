"""SAELens folders without SAELens: what is written, what comes back, what is folded, what is refused.

`sae_forward` is the naive twin: SAELens's documented forward pass, one latent at a time, in fp64. That SAELens itself
agrees is tested in tests/interop (`make test-interop`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.dictionaries import BatchTopK, Crosscoder, TopK, load_dictionary
from antar.dictionaries.saelens import Portable, read_saelens, write_saelens
from antar.dictionaries.weights import Weights, unit_rows_
from antar.stages.export import _export_dictionaries, import_dictionary

D, N, K = 7, 20, 4
METADATA = {"sae_lens_version": "6.9.1", "model_name": "m", "hook_name": "blocks.1.hook_resid_post"}


def random_dictionary(seed: int = 0) -> TopK:
    generator = torch.Generator().manual_seed(seed)
    decoder_nd = unit_rows_(torch.randn(N, D, generator=generator))
    encoder_nd = decoder_nd + 0.1 * torch.randn(N, D, generator=generator)
    bias_n = 0.3 * torch.randn(N, generator=generator)
    return TopK(Weights(encoder_nd, bias_n, decoder_nd, 4 + torch.randn(D, generator=generator)), K)


def acts(rows: int = 50) -> np.ndarray:
    return (4 + 2 * np.random.default_rng(1).standard_normal((rows, D))).astype(np.float32)


def foreign(folder: Path, seed: int = 3, lengths: str = "any", **config: Any) -> Path:
    """A folder as SAELens may have written it: rows of any length, whatever the config says."""
    rng = np.random.default_rng(seed)
    decoder_nd = rng.standard_normal((N, D))
    decoder_nd /= np.linalg.norm(decoder_nd, axis=1, keepdims=True)
    decoder_nd *= {"any": rng.uniform(0.2, 3, (N, 1)), "equal": 0.7, "unit": 1.0}[lengths]
    tensors = {
        "W_enc": rng.standard_normal((D, N)), "b_enc": 0.4 * rng.standard_normal(N), "W_dec": decoder_nd,
        "b_dec": rng.standard_normal(D),
    }  # fmt: skip
    cfg = {"architecture": "topk", "d_in": D, "d_sae": N, "dtype": "float32", "metadata": METADATA} | config
    if cfg["architecture"] == "topk":
        cfg.setdefault("k", K)
    if cfg["architecture"] == "jumprelu":
        tensors["threshold"] = rng.uniform(-0.3, 2, N)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: a.astype(np.float32) for name, a in tensors.items()}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(cfg), encoding="utf-8")
    return folder


def sae_forward(folder: Path, x_d: np.ndarray, scale: float = 1.0) -> tuple[set[int], np.ndarray]:
    """(latents that fire, reconstruction on the raw scale) as SAELens computes them, in fp64."""
    cfg = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    w = {name: array.astype(np.float64) for name, array in load_file(folder / "sae_weights.safetensors").items()}
    x_d = scale * x_d.astype(np.float64) - w["b_dec"] * cfg.get("apply_b_dec_to_input", True)
    pre = [float(x_d @ w["W_enc"][:, j] + w["b_enc"][j]) for j in range(N)]
    norms = np.linalg.norm(w["W_dec"], axis=1)
    rescale = cfg.get("rescale_acts_by_decoder_norm", False)
    if rescale:
        pre = [p * norm for p, norm in zip(pre, norms, strict=True)]
    if cfg["architecture"] == "topk":
        fire = {j for j in sorted(range(N), key=lambda j: -pre[j])[: cfg["k"]] if pre[j] > 0}
    else:
        fire = {j for j in range(N) if pre[j] > max(0.0, float(w.get("threshold", np.zeros(N))[j]))}
    sums = sum((pre[j] / (norms[j] if rescale else 1) * w["W_dec"][j] for j in fire), np.zeros(D))
    return fire, (sums + w["b_dec"]) / scale


def portable_forward(found: Portable, x_d: np.ndarray) -> tuple[set[int], np.ndarray]:
    """The same of what was read, with antar's meaning of it."""
    encoder_nd, bias_n, decoder_nd, bias_d = (t.numpy().astype(np.float64) for t in found.weights.tensors())
    pre = encoder_nd @ (x_d - bias_d) + bias_n
    if found.threshold_n is None:
        assert found.k is not None
        fire = {j for j in np.argsort(-pre)[: found.k].tolist() if pre[j] > 0}
    else:
        fire = set(np.flatnonzero(pre > found.threshold_n.numpy()).tolist())
    return fire, sum((pre[j] * decoder_nd[j] for j in fire), np.zeros(D)) + bias_d


def assert_same(folder: Path, scale: float = 1.0, may_differ: int | None = None) -> Portable:
    found = read_saelens(folder)
    lengths = torch.linalg.vector_norm(found.weights.decoder_nd, dim=1)
    assert float((lengths - 1).abs().max()) < 1e-6
    fired = 0
    for x_d in acts() / scale:
        theirs, their_x_d = sae_forward(folder, x_d, scale)
        ours, our_x_d = portable_forward(found, x_d)
        assert ours - {may_differ} == theirs - {may_differ}
        np.testing.assert_allclose(our_x_d, their_x_d, rtol=1e-5, atol=1e-5 / scale)
        fired += len(theirs)
    assert fired > 50, "a test in which nothing fires shows nothing"
    return found


def test_written_folders_compute_what_the_dictionary_does(tmp_path: Path) -> None:
    dictionary, acts_nd = random_dictionary(), acts()
    files = write_saelens(tmp_path, dictionary.weights, K, metadata={"model_name": "m"})
    assert sorted(path.name for path in files) == ["cfg.json", "sae_weights.safetensors"]
    codes = dictionary.encode(acts_nd)
    again_nd = dictionary.decode(codes)
    for row, x_d in enumerate(acts_nd):
        fire, x_hat_d = sae_forward(tmp_path, x_d)
        assert fire == set(codes.indices_nk[row][codes.values_nk[row] > 0].tolist())
        np.testing.assert_allclose(again_nd[row], x_hat_d, rtol=1e-5, atol=1e-5)
    cfg = json.loads((tmp_path / "cfg.json").read_text(encoding="utf-8"))
    assert (cfg["d_in"], cfg["d_sae"], cfg["metadata"]["model_name"]) == (D, N, "m")


def test_export_and_import_change_no_bit(tmp_path: Path) -> None:
    dictionary = random_dictionary()
    write_saelens(tmp_path / "out", dictionary.weights, K, metadata={"hook_name": "h"})
    again = load_dictionary(import_dictionary(tmp_path / "out", tmp_path / "back"))
    assert again.k == K
    for ours, theirs in zip(again.weights.tensors(), dictionary.weights.tensors(), strict=True):
        assert torch.equal(ours, theirs)
    about = json.loads((tmp_path / "back" / "cfg.json").read_text(encoding="utf-8"))["about"]
    assert about["from"] == "saelens" and about["metadata"]["hook_name"] == "h"


def test_thresholds_go_out_as_jumprelu_and_come_back(tmp_path: Path) -> None:
    weights = random_dictionary().weights
    threshold_n = torch.rand(N, generator=torch.Generator().manual_seed(2))
    write_saelens(tmp_path, weights, K, threshold_n)
    found = assert_same(tmp_path)
    assert found.k == K and found.threshold_n is not None and torch.equal(found.threshold_n, threshold_n)
    for ours, theirs in zip(found.weights.tensors(), weights.tensors(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        {"rescale_acts_by_decoder_norm": True},
        {"lengths": "equal"},
        {"lengths": "equal", "rescale_acts_by_decoder_norm": True},
        {"lengths": "unit", "rescale_acts_by_decoder_norm": False},
        {"architecture": "standard"},
        {"architecture": "jumprelu"},
        {"architecture": "jumprelu", "lengths": "unit"},
    ],
    ids=lambda config: "-".join(str(value) for value in config.values()),
)
def test_what_is_read_computes_the_same(tmp_path: Path, config: dict[str, Any], apply_b_dec: bool) -> None:
    found = assert_same(foreign(tmp_path, apply_b_dec_to_input=apply_b_dec, **config))
    assert (found.threshold_n is None) == (config.get("architecture", "topk") == "topk")


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_a_factor_on_the_inputs_is_folded(tmp_path: Path, architecture: str, apply_b_dec: bool) -> None:
    folder = foreign(
        tmp_path, architecture=architecture, rescale_acts_by_decoder_norm=architecture == "topk",
        normalize_activations="expected_average_only_in", apply_b_dec_to_input=apply_b_dec,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"activation_scaler\.json"):
        read_saelens(folder)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.037}), encoding="utf-8")
    assert_same(folder, scale=0.037)


def test_a_decoder_row_of_zeros_never_fires(tmp_path: Path) -> None:
    folder = foreign(tmp_path, architecture="jumprelu")
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["W_dec"][5] = 0
    save_file(tensors, folder / "sae_weights.safetensors")
    found = assert_same(folder, may_differ=5)
    assert not any(5 in portable_forward(found, x_d)[0] for x_d in acts())


def test_lower_precision_is_rounded_as_saelens_rounds_it(tmp_path: Path) -> None:
    folder = foreign(tmp_path, lengths="unit", rescale_acts_by_decoder_norm=True)
    whole = read_saelens(folder).weights.encoder_nd
    foreign(tmp_path, lengths="unit", rescale_acts_by_decoder_norm=True, dtype="torch.bfloat16")
    rounded = read_saelens(folder).weights.encoder_nd
    assert 1e-4 < float((whole - rounded).abs().max()) < 2e-2


def test_the_layout_before_version_6(tmp_path: Path) -> None:
    old = {
        "architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "metadata": None,
        "normalize_activations": False, "hook_point": "blocks.3.hook_resid_pre", "model_name": "gpt2",
    }  # fmt: skip
    folder = foreign(tmp_path, lengths="unit", **old)
    tensors = load_file(folder / "sae_weights.safetensors")
    save_file(tensors | {"scaling_factor": np.ones(N, np.float32)}, folder / "sae_weights.safetensors")
    found = read_saelens(folder)
    assert (found.k, found.threshold_n, found.about["metadata"]["model_name"]) == (K, None, "gpt2")
    relu = read_saelens(foreign(tmp_path, **(old | {"activation_fn_str": "relu"})))
    assert relu.threshold_n is not None and not relu.threshold_n.any()
    with pytest.raises(UserError, match="expected activation_fn relu or topk, found 'tanh-relu'"):
        read_saelens(foreign(tmp_path, **(old | {"activation_fn_str": "tanh-relu"})))
    with pytest.raises(UserError, match="reshape_activations"):
        read_saelens(foreign(tmp_path, **(old | {"hook_point": "blocks.3.attn.hook_z"})))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rescale_acts_by_decoder_norm": False}, "other latents would fire"),
        ({"architecture": "gated"}, "expected architecture topk or standard or jumprelu, found 'gated'"),
        ({"architecture": "batchtopk"}, "found 'batchtopk'"),
        ({"normalize_activations": "layer_norm"}, "found 'layer_norm'"),
        ({"normalize_activations": "covariance_whitening"}, "found 'covariance_whitening'"),
        ({"reshape_activations": "hook_z"}, "found 'hook_z'"),
        ({"k": 0}, "expected k to be a positive whole number"),
        ({"k": N + 1, "lengths": "unit"}, "expected k of at most"),
        ({"d_sae": N + 1}, "expected W_enc to be floats"),
        ({"dtype": "int8"}, "expected dtype"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    folder = foreign(tmp_path, **config)
    with pytest.raises(UserError, match=told) as caught:
        read_saelens(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_broken_folders_and_pickles_are_refused(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "sae", rescale_acts_by_decoder_norm=True)
    weights = folder / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"topk_threshold": np.ones(1, np.float32)}, weights)
    with pytest.raises(UserError, match="save_inference_model"):
        read_saelens(folder)
    save_file(tensors | {"b_dec": np.full(D, np.nan, np.float32)}, weights)
    with pytest.raises(UserError, match="finite numbers in b_dec"):
        read_saelens(folder)
    zeros = {name: array.copy() for name, array in tensors.items()}
    zeros["W_dec"][2] = 0
    save_file(zeros, weights)
    with pytest.raises(UserError, match="zeros in row 2"):
        read_saelens(folder)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="whole safetensors file"):
        read_saelens(folder)
    weights.rename(folder / "sae_weights.pt")
    for place in (folder, folder / "sae_weights.pt"):
        with pytest.raises(UserError, match="opens no pickles"):
            read_saelens(place)
    with pytest.raises(UserError, match="found none"):
        read_saelens(tmp_path / "nowhere")
    (folder / "sae_weights.pt").unlink()
    (folder / "cfg.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="JSON object"):
        read_saelens(folder)
    random_dictionary().save(tmp_path / "own")
    with pytest.raises(UserError, match="dictionary of antar's own"):
        read_saelens(tmp_path / "own")


def test_import_overwrites_nothing(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "sae", rescale_acts_by_decoder_norm=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match="expected a new or empty folder"):
        import_dictionary(folder, tmp_path / "mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "study.yaml").write_text("study: x", encoding="utf-8")
    out = import_dictionary(folder, tmp_path / "run")
    assert out == tmp_path / "run" / "imported" / "sae" and load_dictionary(out).d_model == D


def test_thresholds_become_a_batchtopk_and_fire_alike(tmp_path: Path) -> None:
    folder = foreign(tmp_path / "jump", architecture="jumprelu")
    for k, told in ((None, "none in its metadata"), (N + 1, f"found {N + 1}"), (0, "found 0")):
        with pytest.raises(UserError, match=told):
            import_dictionary(folder, tmp_path / "mine", k)
    mine = load_dictionary(import_dictionary(folder, tmp_path / "mine", 5))
    assert (mine.kind, mine.k) == ("batchtopk", 5)
    codes = mine.encode(acts())
    again_nd = mine.decode(codes)
    for row, x_d in enumerate(acts()):
        fire, x_hat_d = sae_forward(folder, x_d)
        assert fire == set(codes.indices_nk[row][codes.values_nk[row] > 0].tolist())
        np.testing.assert_allclose(again_nd[row], x_hat_d, rtol=1e-4, atol=1e-4)
    topk = foreign(tmp_path / "topk", rescale_acts_by_decoder_norm=True)
    with pytest.raises(UserError, match="thresholds only"):
        import_dictionary(topk, tmp_path / "other", 5)
    told = foreign(
        tmp_path / "told", architecture="jumprelu", metadata=METADATA | {"training_architecture_details": {"k": 3.0}}
    )
    assert load_dictionary(import_dictionary(told, tmp_path / "three")).k == 3
    with pytest.raises(UserError, match="has k 3"):
        import_dictionary(told, tmp_path / "four", 4)


class OneDictionary:
    """As much of a run as an export looks at."""

    def __init__(self, dictionary: TopK) -> None:
        self.held = dictionary
        self.dictionary_ids = [DictionaryId("joint", 3, "crosscoder")]
        models = {"base": {"path": "b", "revision": "1"}, "chat": {"path": "c"}}
        self.study = {"study": "s", "models": models, "extract": {"max_tokens": 8, "pooling": "mean"}}

    def dictionary(self, _: DictionaryId) -> TopK:
        return self.held


def test_batchtopk_goes_out_with_its_threshold_and_a_crosscoder_stays(tmp_path: Path) -> None:
    weights, threshold_n = random_dictionary().weights, torch.full((N,), 0.7)
    run: Any = OneDictionary(BatchTopK(weights, K, threshold_n=threshold_n))
    assert _export_dictionaries(run, tmp_path, run.dictionary_ids, asked=False) == 2
    found = assert_same(tmp_path / "joint.layer03.crosscoder")
    assert found.threshold_n is not None and torch.equal(found.threshold_n, threshold_n) and found.k == K
    about = found.about["metadata"]["antar"]
    assert set(about["checkpoints"]) == {"base", "chat"} and found.about["metadata"]["hook_name"] is None
    run.held = Crosscoder(weights, K, threshold_n=threshold_n)
    assert (
        _export_dictionaries(run, tmp_path / "x", run.dictionary_ids, asked=False) == 0
        and not (tmp_path / "x").exists()
    )
    with pytest.raises(UserError, match="found a crosscoder"):
        _export_dictionaries(run, tmp_path / "x", run.dictionary_ids, asked=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", ["unit", "equal"])
def test_rows_that_only_rounding_made_unequal_are_made_unit(
    tmp_path: Path, dtype: torch.dtype, lengths: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = foreign(tmp_path, lengths=lengths)
    path = folder / "sae_weights.safetensors"
    tensors = {name: torch.from_numpy(array).to(dtype) for name, array in load_file(path).items()}
    off = 0.003 if dtype == torch.bfloat16 else 0.0004
    row = tensors["W_dec"][0].double()
    tensors["W_dec"][0] = (row / row.norm() * (1 + off) * (0.7 if lengths == "equal" else 1)).to(dtype)
    save_torch(tensors, path)
    found = read_saelens(folder)
    assert "equal but for the rounding of the file; each is made unit" in capsys.readouterr().err
    norms = torch.linalg.vector_norm(found.weights.decoder_nd, dim=1)
    assert float((norms - 1).abs().max()) < 1e-6
    save_file({name: tensor.float().numpy() for name, tensor in tensors.items()}, path)  # what sae_forward reads
    for x_d in acts():
        theirs, their_x_d = sae_forward(folder, x_d)
        ours, our_x_d = portable_forward(found, x_d)
        assert ours == theirs, "the same latents are chosen"
        np.testing.assert_allclose(our_x_d, their_x_d, rtol=0.02, atol=0.02 * np.abs(their_x_d).max())
    with pytest.raises(UserError, match="other latents would fire"):
        read_saelens(folder)  # float32 rounds by no such share
    tensors["W_dec"][0] *= 1.05
    save_torch(tensors, path)
    with pytest.raises(UserError, match="other latents would fire"):
        read_saelens(folder)


@pytest.mark.parametrize("name", ["sae_weights.safetensors", "cfg.json"])
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = foreign(tmp_path, lengths="unit")
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: expected") as caught:
        read_saelens(folder)
    assert "\n" not in str(caught.value)
