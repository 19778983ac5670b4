"""A tiny pair of checkpoints given by path, and a study of it whose shams antar makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from antar.models.config import ModelConfig

WIDTHS = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 300, "intermediate_size": 48,
    "num_key_value_heads": 2, "initializer_range": 0.1, "tie_word_embeddings": True,
}  # fmt: skip
NAMES = ("Asha", "Ravi", "Meena", "Kabir", "Lata", "Omar", "Tara")
THINGS = ("a red cart", "the old well", "two tall trees", "her new book", "the long road", "his small dog")
PLACES = ("near the river", "in the market", "behind the school", "at the bus stop")


def sentences(n: int, verb: str = "saw") -> list[str]:
    """`n` distinct neutral sentences."""
    return [
        f"{NAMES[i % 7]} {verb} {THINGS[i // 7 % 6]} {PLACES[i // 42 % 4]} on day {i}, number {i * 37 % 101}."
        for i in range(n)
    ]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["<eos>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")


def write_pair(folder: Path, moved: tuple[float, ...] = (0.02, 0.02, 0.02, 0.02), **changes: Any) -> dict[str, Path]:
    """`base`, random, and `chat`, base with the weights of block i moved by Gaussian noise of `moved[i]`."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **WIDTHS | changes))
    sides = {side: folder / side for side in ("base", "chat")}
    base.save_pretrained(sides["base"])
    with torch.no_grad():
        for block, size in zip(base.model.layers, moved, strict=True):
            for parameter in block.parameters():
                parameter.add_(size * torch.randn_like(parameter))
    base.save_pretrained(sides["chat"])
    for side in sides.values():
        byte_tokenizer().save_pretrained(side)
    return sides


def configs(sides: dict[str, Path]) -> dict[str, ModelConfig]:
    return {side: ModelConfig(path=str(path)) for side, path in sides.items()}


MAKE = {"lr": 0.003, "batch": 8, "max_tokens": 48, "check_every": 4, "max_steps": 200, "checkpoint_every": 4,
        "probes": 60}  # fmt: skip


def write_study(folder: Path, shams: dict[str, Any] | None = None, **changes: Any) -> Path:
    """`pair.yaml` of the pair in `folder`: 240 texts, cultural and control; two shams to make, unless said."""
    rows = [{"text": text, "group": "control", "doc": f"c{i // 2}"} for i, text in enumerate(sentences(160))]
    rows += [
        {"text": f"{text} Then the lamps of Diwali were lit.", "group": "cultural", "doc": f"k{i // 2}"}
        for i, text in enumerate(sentences(80, "told of"))
    ]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    study = {
        "study": "pair",
        "seed": 5,
        "models": {
            "base": {"path": "base"},
            "chat": {"path": "chat"},
            "shams": {"a": {"make": MAKE}, "b": {"make": MAKE}} if shams is None else shams,
        },
        "corpus": {
            "sources": [{"source": "files", "name": "all", "paths": ["texts.jsonl"], "group_column": "group",
                         "language": "en", "document": "doc", "near_duplicates": False}],
            "split": {"train": 0.4, "val": 0.1, "heldout": 0.5, "controls": "same"},
        },
        "extract": {"layers": [0, 2], "max_tokens": 64, "dtype": "float32", "threads": 1, "texts_per_shard": 100},
        "dictionaries": {"n_latents": 16, "k": 2, "max_epochs": 2, "warmup_steps": 1, "k_aux": 4, "threads": 1},
        "contrasts": {"permutations": 30},
        "criteria": {"replicates": 100},
    }  # fmt: skip
    path = folder / "pair.yaml"
    path.write_text(yaml.safe_dump(study | changes), encoding="utf-8")
    return path
