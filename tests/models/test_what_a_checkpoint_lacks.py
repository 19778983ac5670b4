"""Checkpoints that load without a word and are not what they seem, and texts that one cannot read: one line each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from antar.core.errors import UserError
from antar.core.shards import shard_is_whole, shard_name, write_shard
from antar.models import ModelConfig, SideTask, TokenTask, check_pair, load_model, load_tokenizer
from antar.models.forward import Reader

CPU = torch.device("cpu")
GPT2 = {"n_positions": 16}


@pytest.fixture
def altered(pair, tmp_path):
    """`altered(change)` copies the chat checkpoint with its weights changed: name → tensor."""

    def make(change) -> ModelConfig:
        folder = tmp_path / "altered"
        shutil.copytree(pair["chat"].path, folder)
        (weights,) = folder.glob("*.safetensors")
        save_file(change(load_file(weights)), weights, metadata={"format": "pt"})
        return ModelConfig(path=str(folder))

    return make


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda has: {name: one for name, one in has.items() if name != "model.layers.1.mlp.up_proj.weight"},
            r"whole decoder in its shapes, found no layers\.1\.mlp\.up_proj\.weight; give a checkpoint",
        ),
        (
            lambda has: {f"module.{name}": one for name, one in has.items()},
            r"found no .* and \d+ more \(it has module\.\S+, which the architecture does not know\)",
        ),
        (
            lambda has: {n: one[:-1] if n.endswith("0.mlp.up_proj.weight") else one for n, one in has.items()},
            r"whole decoder in its shapes, found no layers\.0\.mlp\.up_proj\.weight; give",
        ),
    ],
    ids=["one is missing", "names of a wrapper", "another shape"],
)
def test_weights_that_would_be_drawn_at_random_are_refused(altered, change, told):
    with pytest.raises(UserError, match=told) as caught:
        load_model(altered(change), torch.float32, CPU)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_numbers_are_no_matter_of_precision(altered, cfg, tmp_path):
    broken = altered(lambda has: {name: one * float("nan") for name, one in has.items()})
    TokenTask(["one text"], broken, cfg, tmp_path, "t").run(0)
    with pytest.raises(UserError, match=r"found infinities or NaN in float32; its weights are damaged"):
        SideTask(broken, cfg, tmp_path, {0: (tmp_path / "out", "f")}).run(0)


def test_a_folder_without_a_tokenizer_is_named(pair, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(pair["base"].path, folder, ignore=shutil.ignore_patterns("token*", "vocab*", "special*"))
    with pytest.raises(UserError, match=r"bare: expected a tokenizer \(tokenizer\.json.*found none; copy that"):
        load_tokenizer(ModelConfig(path=str(folder)))


def test_a_text_longer_than_the_learned_positions_is_one_line(checkpoint, cfg, tmp_path):
    reader = Reader(ModelConfig(path=str(checkpoint(tmp_path / "gpt2", "gpt2", **GPT2))), cfg)
    fits, long = (np.arange(5, 5 + n, dtype=np.int32) for n in (16, 17))
    assert list(reader.read([fits], [0], lambda hidden, _: hidden[:1]))
    with pytest.raises(UserError, match=r"at most 16 tokens, .* found 17; set extract\.max_tokens to 16"):
        list(reader.read([fits, long], [0], lambda hidden, _: hidden[:1]))


def test_an_id_beyond_the_embedding_is_one_line(pair, cfg):
    reader = Reader(pair["base"], cfg)
    with pytest.raises(UserError, match=r"token ids below \d+, .* found 5,000; its tokenizer is another model's"):
        list(reader.read([np.array([5, 5000])], [0], lambda hidden, _: hidden[:1]))


def test_an_encoder_is_no_decoder(pair, cfg, tmp_path):
    folder = tmp_path / "bert"
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
    config = AutoConfig.for_model("bert", vocab_size=380, initializer_range=0.2, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    with pytest.raises(UserError, match=r"expected a decoder, .* found that they see later ones"):
        Reader(ModelConfig(path=str(folder)), cfg)


def test_another_architecture_of_one_shape_is_said(pair, checkpoint, tmp_path, capsys):
    other = ModelConfig(path=str(checkpoint(tmp_path / "llama", "llama")))
    check_pair({"base": pair["base"], "chat": other}, [0])
    assert "chat is a llama, base a qwen2: are they checkpoints of one model?" in capsys.readouterr().err


def test_a_copy_of_a_sibling_is_no_shard(tmp_path):
    first, second = (tmp_path / shard_name(n) for n in (0, 1))
    write_shard(first, {"acts": np.ones((2, 3), np.float32)}, "f")
    assert shard_is_whole(first, "f")
    shutil.copyfile(first, second)
    assert not shard_is_whole(Path(second), "f")
