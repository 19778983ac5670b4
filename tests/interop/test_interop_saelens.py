"""Against SAELens itself, in a virtual environment of its own (`make test-interop`): each opens what the other saved.

Raw activations with a large offset and scale go in, raw reconstructions come out; both tools must fire the same
latents and agree to 1e-5 of the activations' root mean square.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from antar.core.errors import UserError
from antar.dictionaries import DictionaryConfig, load_dictionary, train_dictionary
from antar.dictionaries.saelens import Portable, read_saelens, write_saelens
from antar.pipeline import open_study, run_study
from antar.run import load_run
from antar.stages.export import import_dictionary
from micro import MICRO

pytestmark = pytest.mark.interop

D, N, K = 24, 96, 6
METADATA = {"model_name": "a-model", "hook_name": "blocks.2.hook_resid_post"}


@pytest.fixture(scope="module")
def sae_lens() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sae_lens
    return sae_lens


def raw_acts(rows: int, seed: int = 0) -> np.ndarray:
    """Rows far from the origin and on a scale of their own, a few directions in each."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((40, D))
    weights = rng.exponential(1, (rows, 40)) * (rng.random((rows, 40)) < 0.1)
    return (300 * np.linspace(-1, 1, D) + 50 * weights @ directions).astype(np.float32)


def trained(kind: str, folder: Path) -> Any:
    """Trained, saved and loaded again."""
    config = DictionaryConfig(n_latents=N, k=K, max_epochs=15, warmup_steps=10, lr=3e-3, k_aux=16, threads=1)
    result = train_dictionary(
        raw_acts(1500), raw_acts(300, 1), config, seed=1, checkpoint=folder / "checkpoint", title=kind, kind=kind
    )
    result.dictionary.save(folder)
    return load_dictionary(folder)


def share_off(ours_nd: np.ndarray, theirs_nd: np.ndarray, of_nd: np.ndarray | None = None) -> float:
    """Largest difference, as a share of the root mean square of `of_nd`: of theirs, where that is not given."""
    whole_nd = theirs_nd if of_nd is None else of_nd
    return float(np.abs(ours_nd - theirs_nd).max() / np.sqrt(np.mean(np.square(whole_nd, dtype=np.float64))))


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "pca", "random", "neurons"])
def test_saelens_loads_what_antar_trained(sae_lens: Any, tmp_path: Path, kind: str) -> None:
    dictionary = trained(kind, tmp_path / "antar")
    threshold_n = dictionary.tensors().get("threshold")
    acts_nd = raw_acts(400, 2)
    write_saelens(tmp_path / "sae", dictionary.weights, K, threshold_n, METADATA)
    sae = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    assert type(sae).__name__ == ("JumpReLUSAE" if kind == "batchtopk" else "TopKSAE")
    assert sae.cfg.metadata.model_name == "a-model" and sae.cfg.metadata.hook_name == METADATA["hook_name"]
    with torch.no_grad():
        theirs_nn = sae.encode(torch.from_numpy(acts_nd)).numpy()
        their_acts_nd = sae(torch.from_numpy(acts_nd)).numpy()
    codes = dictionary.encode(acts_nd)
    ours_nn = np.asarray(codes.csr().todense())
    assert np.array_equal(ours_nn > 0, theirs_nn > 0) and (ours_nn > 0).sum() > 400
    assert share_off(ours_nn, theirs_nn, acts_nd) < 1e-5  # codes are in activation units
    assert share_off(dictionary.decode(codes), their_acts_nd) < 1e-5
    assert float((torch.linalg.vector_norm(sae.W_dec.detach(), dim=1) - 1).abs().max()) < 1e-6
    again = load_dictionary(import_dictionary(tmp_path / "sae", tmp_path / "back"))
    assert again.kind == ("batchtopk" if kind == "batchtopk" else "topk") and again.k == K
    for name, tensor in dictionary.tensors().items():
        assert torch.equal(again.tensors()[name], tensor), name


def forward(found: Portable, acts_nd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bool fired `[texts, n]`, reconstructions) of what was read, in fp64."""
    encoder_nd, bias_n, decoder_nd, bias_d = (t.numpy().astype(np.float64) for t in found.weights.tensors())
    pre_bn = (acts_nd - bias_d) @ encoder_nd.T + bias_n
    if found.threshold_n is not None:
        fired_bn = pre_bn > found.threshold_n.numpy()
    else:
        assert found.k is not None
        kth_b = np.sort(pre_bn, axis=1)[:, -found.k, None]
        fired_bn = (pre_bn >= kth_b) & (pre_bn > 0)
    return fired_bn, (pre_bn * fired_bn) @ decoder_nd + bias_d


def assert_same(found: Portable, sae: Any, acts_nd: np.ndarray) -> None:
    with torch.no_grad():
        codes_bn = sae.encode(torch.from_numpy(acts_nd))
        their_acts_nd = sae.decode(codes_bn).float().numpy()
    fired_bn, our_acts_nd = forward(found, acts_nd)
    assert np.array_equal(fired_bn, codes_bn.numpy() > 0) and 0 < fired_bn.mean() < 0.9
    assert share_off(our_acts_nd, their_acts_nd) < 1e-5


def scramble(sae: Any, seed: int = 5) -> None:
    """Weights as no initialisation gives them: rows of any length, every bias in use."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if name == "threshold":
                parameter.mul_(40)
        sae.b_enc.mul_(20)
        sae.b_dec.add_(torch.from_numpy(300 * np.linspace(-1, 1, D)).float())


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("name", ["TopK", "Standard", "JumpReLU"])
def test_antar_reads_what_saelens_saved(sae_lens: Any, tmp_path: Path, name: str, apply_b_dec: bool) -> None:
    more = {"k": K, "rescale_acts_by_decoder_norm": True} if name == "TopK" else {}
    config = getattr(sae_lens, f"{name}SAEConfig")(d_in=D, d_sae=N, apply_b_dec_to_input=apply_b_dec, **more)
    sae = getattr(sae_lens, f"{name}SAE")(config)
    scramble(sae)
    sae.save_model(tmp_path)
    found = read_saelens(tmp_path)
    assert (found.threshold_n is None) == (name == "TopK")
    assert_same(found, sae, raw_acts(300, 4))


@pytest.mark.parametrize("name", ["TopK", "BatchTopK"])
def test_antar_reads_what_saelens_trained(sae_lens: Any, tmp_path: Path, name: str) -> None:
    config = getattr(sae_lens, f"{name}TrainingSAEConfig")(d_in=D, d_sae=N, k=K)
    sae = getattr(sae_lens, f"{name}TrainingSAE")(config)
    scramble(sae)
    if name == "BatchTopK":
        sae.topk_threshold.fill_(25.0)
    sae.save_inference_model(tmp_path)
    found = read_saelens(tmp_path)
    assert found.k == K
    assert_same(found, sae_lens.SAE.load_from_disk(tmp_path), raw_acts(300, 6))


def test_antar_folds_the_factor_that_saelens_keeps_beside(sae_lens: Any, tmp_path: Path) -> None:
    from sae_lens.training.activation_scaler import ActivationScaler

    config = sae_lens.TopKSAEConfig(
        d_in=D, d_sae=N, k=K, rescale_acts_by_decoder_norm=True, normalize_activations="expected_average_only_in"
    )
    sae = sae_lens.TopKSAE(config)
    scramble(sae)
    factor = 0.021
    with torch.no_grad():
        sae.b_dec.mul_(factor)
    sae.save_model(tmp_path)
    ActivationScaler(scaling_factor=factor).save(str(tmp_path / "activation_scaler.json"))
    sae.fold_activation_norm_scaling_factor(factor)
    assert_same(read_saelens(tmp_path), sae, raw_acts(300, 7))


def test_selection_that_antar_lacks_is_refused(sae_lens: Any, tmp_path: Path) -> None:
    sae = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=D, d_sae=N, k=K, rescale_acts_by_decoder_norm=False))
    scramble(sae)
    sae.save_model(tmp_path / "topk")
    with pytest.raises(UserError, match="other latents would fire"):
        read_saelens(tmp_path / "topk")
    sae_lens.GatedSAE(sae_lens.GatedSAEConfig(d_in=D, d_sae=N)).save_model(tmp_path / "gated")
    with pytest.raises(UserError, match="found 'gated'"):
        read_saelens(tmp_path / "gated")


def train_with_saelens(sae_lens: Any, name: str, acts_nd: np.ndarray, folder: Path) -> None:
    """A few hundred steps of SAELens's own trainer on raw activations, saved as SAELens saves for inference."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(0)
    config = getattr(sae_lens, f"{name}TrainingSAEConfig")(d_in=acts_nd.shape[1], d_sae=48, k=4)
    sae = getattr(sae_lens, f"{name}TrainingSAE")(config)
    batch, steps = 64, 300
    settings = SAETrainerConfig(
        n_checkpoints=0, checkpoint_path=None, save_final_checkpoint=False, total_training_samples=batch * steps,
        device="cpu", autocast=False, lr=3e-3, lr_end=3e-3, lr_scheduler_name="constant", lr_warm_up_steps=0,
        adam_beta1=0.9, adam_beta2=0.999, lr_decay_steps=0, n_restart_cycles=0, train_batch_size_samples=batch,
        dead_feature_window=200, feature_sampling_window=200, logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    rng, rows_nd = np.random.default_rng(0), torch.from_numpy(acts_nd)
    batches = iter(lambda: rows_nd[rng.integers(0, len(acts_nd), batch)], None)
    trained = SAETrainer(cfg=settings, sae=sae, data_provider=batches).fit()
    trained.cfg.metadata.hook_name, trained.cfg.metadata.model_name = "blocks.1.hook_resid_post", "antar-tiny"
    trained.save_inference_model(folder)


def test_what_saelens_trained_is_contrasted_like_the_studys_own(sae_lens: Any, tmp_path: Path) -> None:
    study = yaml.safe_load(MICRO)
    study["models"]["organism"]["shams"] = ["a"]
    study["extract"]["layers"], study["contrasts"] = [1], {"facets": [], "permutations": 20}
    study["dictionaries"] |= {"sides": ["base"], "baselines": ["random"], "seeds": 0}
    study.pop("truth")
    path = tmp_path / "micro.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    run_study(open_study(path, tmp_path / "runs"), until="extract")
    run = load_run(tmp_path / "runs/micro")
    train_rows = np.flatnonzero((run.texts["split"] == "train").to_numpy())
    for name in ("TopK", "BatchTopK"):
        train_with_saelens(sae_lens, name, run.activations("base", 1)[train_rows], tmp_path / name)
    study["dictionaries"]["imported"] = [
        {"path": name, "name": name.lower(), "layer": 1} for name in ("TopK", "BatchTopK")
    ]
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    run_study(open_study(path, tmp_path / "runs"))
    run = load_run(tmp_path / "runs/micro")
    page = (run.folder / "report/index.html").read_text(encoding="utf-8")
    for name in ("TopK", "BatchTopK"):
        ours, sae = f"base.layer01.imported_{name.lower()}", sae_lens.SAE.load_from_disk(tmp_path / name)
        for side in ("base", "chat", "sham:a"):
            acts_nd = run.activations(side, 1)
            with torch.no_grad():
                codes_nn = sae.encode(torch.from_numpy(acts_nd))
                their_acts_nd = sae.decode(codes_nn).numpy()
            codes = run.codes(ours, side)
            lengths_n = torch.linalg.vector_norm(sae.W_dec.detach(), dim=1).numpy()
            assert share_off(np.asarray(codes.csr().todense()), codes_nn.numpy() * lengths_n, acts_nd) < 1e-5
            assert share_off(run.dictionary(ours).decode(codes), their_acts_nd) < 1e-5
        its = run.contrasts.filter(dictionary=ours)
        assert set(its["contrast"]) == {"shift", "culture", "interaction"}
        assert set(its["null"]) == {"", "shuffled", "same_checkpoint", "sham:a"}
        assert its.filter(null="", contrast="shift")["d_av"].is_not_null().any()
        assert not run.examples.filter(dictionary=ours).is_empty() and ours in page
        assert ours in {row["dictionary"] for row in run.criteria["criteria"][0]["per_dictionary"]}
        assert run.metrics(ours)["parts"]["heldout"]["fvu"] < run.metrics(ours)["parts"]["heldout"]["fvu_random"]
