"""A model that was never trained: base's architecture, drawn from a seed, whatever lies in the checkpoint's files."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import HfApi

from antar import pipeline as pipeline_module
from antar.core.errors import UserError
from antar.models import ExtractConfig, ModelConfig, check_pair, load_model
from antar.models.forward import Reader
from antar.models.hub import resolve_commit
from antar.pipeline import open_study
from antar.stages.extract import model_identity
from antar.study import parse_study

CPU = torch.device("cpu")


def drawn(path: str, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    model = load_model(ModelConfig(path=path, random_weights=seed), dtype, CPU)
    assert not model.training and not any(one.requires_grad for one in model.parameters())
    return dict(model.state_dict())


def test_one_seed_is_one_model_and_another_seed_another(pair) -> None:
    path = pair["base"].path
    state = torch.random.get_rng_state()
    first, again, other = drawn(path, 1), drawn(path, 1), drawn(path, 2)
    assert torch.equal(state, torch.random.get_rng_state())  # nobody else's numbers change
    learnt = load_model(pair["base"], torch.float32, CPU).state_dict()
    assert first.keys() == learnt.keys()
    assert all(torch.equal(one, again[name]) for name, one in first.items())
    for name, one in first.items():
        if name.endswith("proj.weight") or "embed" in name:
            assert not torch.equal(one, other[name]) and not torch.equal(one, learnt[name])
            assert float(one.std()) == pytest.approx(0.2, rel=0.1)  # the architecture's own initialisation
    # Precision rounds the same draws, so that a study in fp16 has the model of one in fp32.
    assert all(
        torch.equal(one.to(torch.bfloat16), drawn(path, 1, torch.bfloat16)[name]) for name, one in first.items()
    )


def test_every_family_is_read_without_its_weights(family, checkpoint, tmp_path) -> None:
    folder = checkpoint(tmp_path / family, family)
    for path in Path(folder).glob("*.safetensors"):
        path.unlink()
    model = ModelConfig(path=str(folder), random_weights=0)
    assert check_pair({"base": model}, [0, 3]).d_model == 32
    reader = Reader(model, ExtractConfig(layers=(0, 3), dtype="float32", device="cpu"))
    ids = [np.array([0, 5, 9, 30]), np.array([0, 7])]
    (found,) = [values for _, values in reader.read(ids, [0, 3], lambda hidden_td, _: hidden_td)]
    assert all(values.shape == (6, 32) and np.isfinite(values).all() and values.any() for values in found.values())
    with pytest.raises(UserError, match=r"expected .*safetensors"):
        check_pair({"base": ModelConfig(path=str(folder))}, [0])


STUDY = {
    "study": "s",
    "corpus": {"sources": [{"source": "files", "name": "x", "paths": ["x.jsonl"], "group": "cultural", "text": "text",
                            "language": "en"}]},
    "extract": {"layers": [0]},
}  # fmt: skip


@pytest.mark.parametrize(("given", "seed"), [(True, 0), (False, None), (None, None), ({"seed": 3}, 3), ({}, 0)])
def test_the_study_switches_it_on(given, seed) -> None:
    models = {"base": {"path": "a"}, "chat": {"path": "b"}, "random_weights": given}
    found = parse_study({**STUDY, "models": models}, "here").models.random_weights
    assert (found.seed if found else None) == seed


@pytest.mark.parametrize("given", ["yes", 3, {"sed": 1}, {"seed": -1}])
def test_other_values_are_one_line(given) -> None:
    with pytest.raises(UserError, match=r"^here: models\.random_weights"):
        parse_study(
            {**STUDY, "models": {"base": {"path": "a"}, "chat": {"path": "b"}, "random_weights": given}}, "here"
        )


def write(folder: Path, base: str, chat: str, **models) -> Path:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "models": {"base": {"path": base}, "chat": {"path": chat}, **models}}))
    return path


def test_its_weights_are_named_by_base_and_seed(pair, tmp_path) -> None:
    paths = [one.path for one in pair.values()]
    context = open_study(write(tmp_path, *paths, random_weights=True), tmp_path / "runs")
    assert list(context.models()) == ["base", "chat", "untrained"]
    base, untrained = (model_identity(context, side) for side in ("base", "untrained"))
    assert untrained == f"{base} random weights 0"
    other = open_study(write(tmp_path, *paths, random_weights={"seed": 1}), tmp_path / "runs")
    assert model_identity(other, "untrained") != untrained and model_identity(other, "base") == base


def test_a_hub_model_is_pinned_once_for_both(pair, tmp_path, monkeypatch) -> None:
    """Random weights are of base's repository and commit: the lock has no entry of their own."""
    resolve_commit.cache_clear()
    monkeypatch.setattr(HfApi, "model_info", lambda *_a, **_k: SimpleNamespace(sha="a" * 40))
    checked = lambda models, _layers: SimpleNamespace(revisions=dict.fromkeys(models, "a" * 40))  # noqa: E731
    monkeypatch.setattr(pipeline_module, "check_pair", checked)
    context = open_study(write(tmp_path, "org/base", "org/chat", random_weights=True), tmp_path / "runs")
    context.folder.mkdir(parents=True)
    pipeline_module._pin_models(context)
    assert context.revisions() == {"org/base@main": "a" * 40, "org/chat@main": "a" * 40}
    assert model_identity(context, "untrained") == f"org/base@{'a' * 40} random weights 0"
    resolve_commit.cache_clear()


def test_a_broken_config_is_one_line(pair, tmp_path) -> None:
    shutil.copytree(pair["base"].path, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json that transformers knows"):
        load_model(ModelConfig(path=str(tmp_path / "m"), random_weights=0), torch.float32, CPU)
