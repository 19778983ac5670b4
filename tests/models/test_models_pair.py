"""What may be compared: each mistake in a pair is one line that names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from pydantic import ValidationError

from antar.core.errors import UserError
from antar.models import ExtractConfig, ModelConfig, check_pair, load_model, load_tokenizer
from antar.models.hub import resolve_commit
from antar.models.pair import decoder_blocks, load_config, local_width, pick_device

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def fresh_commits():
    resolve_commit.cache_clear()
    yield
    resolve_commit.cache_clear()


@pytest.fixture
def one_line():
    """`one_line(models, layers)`: the message of the UserError that check_pair raises, checked to be one line."""

    def message(models: dict[str, ModelConfig], layers=(0,)) -> str:
        with pytest.raises(UserError) as caught:
            check_pair(models, layers)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


def other(checkpoint, folder: Path, **changes) -> ModelConfig:
    return ModelConfig(path=str(checkpoint(folder, seed=5, **changes)))


def test_a_good_pair(pair):
    facts = check_pair(pair, [0, 3])
    assert (facts.d_model, facts.n_layers) == (32, 4)
    assert facts.revisions == {"base": None, "chat": None}


def test_no_weights_are_read(pair, tmp_path):
    shutil.copytree(pair["base"].path, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"not weights")
    model = ModelConfig(path=str(tmp_path / "m"))
    assert check_pair({"base": pair["base"], "chat": model}, [1]).d_model == 32
    with pytest.raises(UserError, match="expected a checkpoint with whole safetensors weights"):
        load_model(model, torch.float32, torch.device("cpu"))


def test_every_family_has_its_blocks_found(family, checkpoint, tmp_path):
    cfg = ModelConfig(path=str(checkpoint(tmp_path / family, family)))
    model = load_model(cfg, torch.bfloat16, torch.device("cpu"))
    blocks = decoder_blocks(model, 4)
    assert [type(block).__name__ for block in blocks] == [type(blocks[0]).__name__] * 4
    assert any(word in type(blocks[0]).__name__ for word in ("Layer", "Block"))
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())
    assert model.get_output_embeddings() is None  # no logits can be computed
    assert load_config(cfg).num_hidden_layers == 4


def test_blocks_that_cannot_be_told_are_a_user_error():
    with pytest.raises(UserError, match="expected one list of 4 decoder blocks, found none"):
        decoder_blocks(torch.nn.Linear(2, 2), 4)
    twins = torch.nn.Module()
    twins.a = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
    twins.b = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
    with pytest.raises(UserError, match="found a, b"):
        decoder_blocks(twins, 4)


def test_a_layer_that_the_model_does_not_have(pair, one_line):
    assert "has blocks 0 to 3, found 4, 30" in one_line(pair, [0, 4, 30])


def test_other_width(pair, checkpoint, tmp_path, one_line):
    wide = other(checkpoint, tmp_path, hidden_size=64)
    assert "should have a width of 32 like base" in (line := one_line({"base": pair["base"], "chat": wide}))
    assert line.endswith("found 64; compare two checkpoints of one model")


def test_other_number_of_blocks(pair, checkpoint, tmp_path, one_line):
    deep = other(checkpoint, tmp_path, num_hidden_layers=5)
    assert "should have this number of blocks: 4 like base" in one_line({"base": pair["base"], "chat": deep})


def test_other_tokenizer(pair, checkpoint, tmp_path, one_line):
    line = one_line({"base": pair["base"], "chat": other(checkpoint, tmp_path, vocabulary=330)})
    assert line.startswith("models: chat (")
    assert "should have the tokenizer of base" in line
    assert "50 tokens with another id" in line
    assert "both sides must read the same token ids" in line


def test_same_vocabulary_other_ids(pair, tmp_path, one_line):
    # The same tokens, but text is cut up another way: only the probe strings can tell.
    shutil.copytree(pair["base"].path, tmp_path / "m")
    path = tmp_path / "m" / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["model"]["merges"] = stored["model"]["merges"][:10]
    path.write_text(json.dumps(stored), encoding="utf-8")
    line = one_line({"base": pair["base"], "chat": ModelConfig(path=str(tmp_path / "m"))})
    assert 'found other token ids for "The family lit' in line


def test_a_tokenizer_is_loaded_as_it_was_saved(pair, checkpoint):
    # AutoTokenizer puts Qwen2's own normaliser and split over the tokenizer.json of a qwen2 folder.
    saved = json.loads((Path(pair["base"].path) / "tokenizer.json").read_text(encoding="utf-8"))
    loaded = json.loads(load_tokenizer(pair["base"]).backend_tokenizer.to_str())
    assert {key: loaded[key] for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")} == {
        key: saved[key] for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")
    }


def test_a_chat_side_may_have_added_chat_markers(pair, tmp_path):
    shutil.copytree(pair["chat"].path, tmp_path / "m")
    tokenizer = load_tokenizer(pair["chat"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(tmp_path / "m")
    check_pair({"base": pair["base"], "chat": ModelConfig(path=str(tmp_path / "m"))}, [0])


def test_a_path_that_is_not_there(one_line):
    for path in ("./no/such/folder", "/nowhere/at/all", "a/b/c"):
        assert f"found {path!r}, which is no folder here" in one_line({"base": ModelConfig(path=path)})


def test_a_folder_without_safetensors(pair, tmp_path, one_line):
    shutil.copytree(pair["base"].path, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    assert "expected *.safetensors in this folder" in one_line({"base": ModelConfig(path=str(tmp_path / "m"))})


def test_a_folder_that_is_no_checkpoint(tmp_path, one_line):
    line = one_line({"base": ModelConfig(path=str(tmp_path))})
    assert line.startswith(f"{tmp_path}: expected a checkpoint with a config.json")


# -- the hub ------------------------------------------------------------------------------------------------------


def unreachable(*_args, **_options):
    raise ConnectionError("Name or service not known")


def test_an_unreachable_hub_says_what_to_do(monkeypatch, one_line):
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    line = one_line({"base": ModelConfig(path="antar-tests/not-in-any-cache")})
    assert "found the hub unreachable (ConnectionError)" in line
    assert "put the model's files into a folder and write that folder as `path`" in line


def test_a_model_that_the_hub_does_not_have(monkeypatch, one_line):
    def missing(*_args, **_options):
        raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(HfApi, "model_info", missing)
    assert "neither a folder here nor a model that the hub shows you" in one_line({"base": ModelConfig(path="a/b")})


def test_revisions_are_commits_and_asked_once(monkeypatch):
    asked: list[tuple[str, str | None]] = []

    def info(_self, repo, revision=None, timeout=None):
        assert timeout is not None
        asked.append((repo, revision))
        return SimpleNamespace(sha=SHA)

    monkeypatch.setattr(HfApi, "model_info", info)
    assert [resolve_commit("a/b", None) for _ in range(3)] == [SHA] * 3
    assert resolve_commit("a/b", "v1") == SHA
    assert asked == [("a/b", None), ("a/b", "v1")]


def test_a_cached_snapshot_is_used_without_the_hub(pair, tmp_path, monkeypatch):
    """The layout of the hub's own cache: refs/main names the commit, snapshots/<commit> has the files."""
    repo = tmp_path / "models--antar--tiny"
    shutil.copytree(pair["base"].path, repo / "snapshots" / SHA)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(SHA)
    for name in ("huggingface_hub.constants.HF_HUB_CACHE", "huggingface_hub.file_download.constants.HF_HUB_CACHE"):
        monkeypatch.setattr(name, str(tmp_path))
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    assert resolve_commit("antar/tiny", None) == SHA
    assert local_width(ModelConfig(path=pair["base"].path)) == 32
    assert local_width(ModelConfig(path="antar/absent")) is None
    assert local_width(ModelConfig(path="./absent")) is None


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(), (-1,), (2, 2)])
def test_layers_that_make_no_sense(layers):
    with pytest.raises(ValidationError):
        ExtractConfig(layers=layers)


def test_every_setting_is_documented():
    for model in (ModelConfig, ExtractConfig):
        assert all(field.description for field in model.model_fields.values())


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="expected auto, cpu or cuda:0, found 'gpu0'"):
        pick_device("gpu0")
