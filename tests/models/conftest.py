"""Tiny random checkpoints of several families with one small byte-level tokenizer that puts a BOS in front."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from antar.models import ExtractConfig, ModelConfig

SENTENCES = [
    "Diwali lamps were lit by the whole family at dusk.",
    "दिवाली की रात परिवार ने दीये जलाए।",
    "A dog runs.",
    "Two men in blue shirts are standing near a wooden cart and talk about the price of onions in the market.",
    "बच्चे मेले में मिठाई खा रहे थे और ढोल बज रहा था।",
    "Rangoli",
    "The weaver tied the threads before she dyed them, as her mother and her mother's mother had done.",
]
TEXTS = [f"{SENTENCES[i % 7]} {'और ' * (i % 3)}{i}" for i in range(23)]
COMMON = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 400}
GATED = COMMON | {"intermediate_size": 48, "num_key_value_heads": 2}
FAMILIES = {
    "qwen2": GATED,
    "llama": GATED,
    "mistral": GATED,
    "gemma2": GATED | {"head_dim": 8},
    "gpt_neox": COMMON | {"intermediate_size": 48},
    "qwen2_moe": GATED
    | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24,
    },
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "vocab_size": 400},
}


def make_tokenizer(vocabulary: int = 380) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<bos>", "<eos>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


def save_checkpoint(folder: Path, family: str = "qwen2", seed: int = 0, vocabulary: int = 380, **changes) -> Path:
    """A random model of the family and the tokenizer, as `save_pretrained` writes them."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **FAMILIES[family] | {"initializer_range": 0.2} | changes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer(vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint():
    """`checkpoint(folder, family, seed, vocabulary, **config)` saves a random model and its tokenizer."""
    return save_checkpoint


@pytest.fixture(params=list(FAMILIES))
def family(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> dict[str, ModelConfig]:
    root = tmp_path_factory.mktemp("pair")
    return {
        side: ModelConfig(path=str(save_checkpoint(root / side, seed=seed)))
        for seed, side in enumerate(["base", "chat"])
    }


@pytest.fixture
def cfg() -> ExtractConfig:
    return ExtractConfig(
        layers=(0, 2, 3), max_tokens=40, dtype="float32", token_budget=100, texts_per_shard=9, device="cpu"
    )
