"""Extraction against a naive twin: one text at a time, every hidden state, a Python loop over tokens."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from antar.core.errors import UserError
from antar.core.shards import read_rows, read_shard, shard_about, shard_name
from antar.core.sites import Site
from antar.models import ModelConfig, SideTask, TokenTask, forced_budget, n_shards, read_site, site_folder
from antar.models.forward import Reader, batches
from antar.models.tokens import read_tokens


@cache
def naive_model(path: str):
    return PreTrainedTokenizerFast.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path).eval()


def naive_hidden_states(path: str, text: str, max_tokens: int) -> tuple[list[int], dict[int, torch.Tensor]]:
    """Token ids, and layer → `[t, d]`, from the whole causal model; the last block by a hook, before the norm."""
    tokenizer, model = naive_model(path)
    ids = tokenizer(text)["input_ids"][:max_tokens]
    last: list[torch.Tensor] = []
    backbone = model.base_model
    blocks = backbone.h if hasattr(backbone, "h") else backbone.layers

    def keep(_module, _inputs, output):
        last.append(output[0] if isinstance(output, tuple) else output)

    handle = blocks[-1].register_forward_hook(keep)
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    handle.remove()
    states = {layer: out.hidden_states[layer + 1][0] for layer in range(len(blocks) - 1)}
    return ids, states | {len(blocks) - 1: last[0][0]}


def naive_pooled(path: str, text: str, layer: int, max_tokens: int) -> np.ndarray:
    ids, states = naive_hidden_states(path, text, max_tokens)
    total = np.zeros(states[layer].shape[1], np.float64)
    content = 0
    for position, token in enumerate(ids):
        if token > 2:  # 0, 1, 2 are <bos>, <eos>, <pad>
            total += states[layer][position].double().numpy()
            content += 1
    return total / content


def extract(pair, cfg, run, texts):
    tokens = run / "activations" / "tokens"
    token_task = TokenTask(texts, pair["base"], cfg, tokens, "t")
    for shard in range(n_shards(len(texts), cfg)):
        token_task.run(shard)
    for side, model in pair.items():
        out = {layer: (site_folder(run, Site(side, layer)), f"{side}{layer}") for layer in cfg.layers}
        task = SideTask(model, cfg, tokens, out)
        for shard in reversed(range(n_shards(len(texts), cfg))):
            task.run(shard)


def test_pooled_layers_equal_the_naive_twin(family, checkpoint, texts, cfg, tmp_path):
    folder = checkpoint(tmp_path / family, family)
    extract({"base": ModelConfig(path=str(folder))}, cfg, tmp_path, texts[:11])
    for layer in cfg.layers:
        found = read_site(tmp_path, Site("base", layer))
        expected = np.stack([naive_pooled(str(folder), text, layer, cfg.max_tokens) for text in texts[:11]])
        assert found.dtype == np.float32
        assert found.shape == (11, 32)
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_the_last_block_is_read_before_the_final_norm(pair, texts, cfg, tmp_path):
    extract({"base": pair["base"]}, cfg, tmp_path, texts[:3])
    model = AutoModelForCausalLM.from_pretrained(pair["base"].path)
    ids, states = naive_hidden_states(pair["base"].path, texts[0], cfg.max_tokens)
    with torch.no_grad():
        normed = model.model.norm(states[3])[[i for i, token in enumerate(ids) if token > 2]].mean(dim=0)
    assert np.abs(read_site(tmp_path, Site("base", 3))[0] - normed.numpy()).max() > 0.1


def test_the_pass_stops_after_the_deepest_wanted_block(pair, cfg):
    reader = Reader(pair["base"], cfg)
    ran: list[int] = []
    for number, block in enumerate(reader.model.layers):
        block.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    list(reader.read([np.array([5, 6, 7])], [0, 1], lambda hidden_td, _: hidden_td[:1]))
    assert ran == [0, 1]


def test_results_do_not_depend_on_batching_or_sharding(pair, texts, cfg, tmp_path):
    settings = {"one at a time": (1, 5), "small": (64, 9), "all at once": (100_000, 1000)}
    results = []
    for name, (budget, per_shard) in settings.items():
        changed = cfg.model_copy(update={"token_budget": budget, "texts_per_shard": per_shard})
        extract({"base": pair["base"]}, changed, tmp_path / name, texts)
        results.append(np.stack([read_site(tmp_path / name, Site("base", layer)) for layer in cfg.layers]))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-4, atol=1e-5)


def test_batches_cover_every_text_once_within_the_budget():
    lengths = np.array([7, 3, 90, 3, 12, 1, 40, 40, 8])
    made = batches(lengths, 80)
    assert sorted(np.concatenate(made).tolist()) == list(range(9))
    assert all(len(b) == 1 or lengths[b].max() * len(b) <= 80 for b in made)
    assert made[0].tolist() == [2]


def test_both_sides_read_the_same_tokens_and_special_ones_are_not_pooled(pair, texts, cfg, tmp_path):
    extract(pair, cfg, tmp_path, texts)
    rows = read_rows(tmp_path / "activations" / "tokens", ["ids", "keep", "left_out"])
    assert rows["ids"].dtype == np.int32
    assert rows["keep"].dtype == np.uint8
    np.testing.assert_array_equal(rows["keep"] == 0, rows["ids"] <= 2)
    assert (rows["ids"] == 0).sum() == len(texts)  # one <bos> a text, there and left out
    assert rows["left_out"].tolist() == [0] * len(texts)
    tokens = read_tokens(tmp_path / "activations" / "tokens" / shard_name(1))
    assert len(tokens) == 9
    tokenizer = PreTrainedTokenizerFast.from_pretrained(pair["chat"].path)
    assert tokenizer.decode(tokens.ids[0], skip_special_tokens=True) == texts[9]
    assert all(len(ids) <= cfg.max_tokens for ids in tokens.ids)


def test_delta_is_chat_minus_base_on_read(pair, texts, cfg, tmp_path):
    extract(pair, cfg, tmp_path, texts)
    base, chat = (read_site(tmp_path, Site(side, 2)) for side in ("base", "chat"))
    np.testing.assert_array_equal(read_site(tmp_path, Site("delta", 2)), chat - base)
    assert np.abs(chat - base).max() > 0.01
    assert not (tmp_path / "activations" / "delta.layer02").exists()


def test_delta_of_sides_with_other_rows_is_a_user_error(pair, texts, cfg, tmp_path):
    extract(pair, cfg, tmp_path, texts)
    (site_folder(tmp_path, Site("chat", 2)) / shard_name(2)).unlink()
    with pytest.raises(UserError, match=r"delta\.layer02: expected two sides of one shape, found \(18, 32\)"):
        read_site(tmp_path, Site("delta", 2))


def test_whole_shards_are_kept_and_damaged_or_foreign_ones_remade(pair, texts, cfg, tmp_path, monkeypatch):
    extract({"base": pair["base"]}, cfg, tmp_path, texts)
    folder = site_folder(tmp_path, Site("base", 2))
    before = {path: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}
    stamps = {path: path.stat().st_mtime_ns for path in before}
    first, second, third = before
    second.write_bytes(before[second][:-40])
    changed = bytearray(before[third])
    changed[-1] ^= 1
    third.write_bytes(bytes(changed))

    layers_read: list[list[int]] = []
    read = Reader.read
    monkeypatch.setattr(
        Reader, "read", lambda self, ids, layers, *a: (layers_read.append(layers), read(self, ids, layers, *a))[1]
    )
    extract({"base": pair["base"]}, cfg, tmp_path, texts)
    assert layers_read == [[2], [2]]  # two shards, and of them the damaged layer alone
    assert {path: path.read_bytes() for path in before} == before
    assert first.stat().st_mtime_ns == stamps[first]

    task = SideTask(pair["base"], cfg, tmp_path / "activations" / "tokens", {2: (folder, "another fingerprint")})
    task.run(0)
    assert len(layers_read) == 3


def test_a_run_with_nothing_to_do_loads_no_weights(pair, texts, cfg, tmp_path, monkeypatch):
    extract({"base": pair["base"]}, cfg, tmp_path, texts)
    monkeypatch.setattr("antar.models.forward.load_model", lambda *_: pytest.fail("loaded"))
    extract({"base": pair["base"]}, cfg, tmp_path, texts)


def test_a_text_without_content_is_a_user_error(pair, cfg, tmp_path):
    task = TokenTask(["a dog", "<eos><pad>"], pair["base"], cfg, tmp_path, "t")
    with pytest.raises(UserError, match=r"text in row 1 .*at least one token that is not special"):
        task.run(0)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_long_text_is_cut_at_its_end_whatever_the_checkpoint_says(checkpoint, texts, cfg, tmp_path):
    folder = checkpoint(tmp_path / "left")
    said = folder / "tokenizer_config.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"truncation_side": "left"}))
    short = cfg.model_copy(update={"max_tokens": 6})
    TokenTask(texts, ModelConfig(path=str(folder)), short, tmp_path, "t").run(0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    for ids, text in zip(read_tokens(tmp_path / shard_name(0)).ids, texts, strict=False):
        assert ids.tolist() == tokenizer(text)["input_ids"][:6]


def test_out_of_memory_halves_the_budget_and_changes_nothing_else(pair, texts, cfg, tmp_path, monkeypatch):
    extract({"base": pair["base"]}, cfg, tmp_path / "roomy", texts)
    forward = torch.nn.Module.__call__

    def narrow(self, *args, **kwargs):
        if "input_ids" in kwargs and kwargs["input_ids"].numel() > 45:
            raise torch.OutOfMemoryError("CUDA out of memory (a pretence)")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "__call__", narrow)
    tokens = tmp_path / "roomy" / "activations" / "tokens"
    task = SideTask(pair["base"], cfg, tokens, {2: (tmp_path / "narrow", "f")})
    task.run(0)
    assert shard_about(tmp_path / "narrow" / shard_name(0)) == {"packed": True, "token_budget": 40}
    expected = read_shard(site_folder(tmp_path / "roomy", Site("base", 2)) / shard_name(0))["acts"]
    np.testing.assert_allclose(
        read_shard(tmp_path / "narrow" / shard_name(0))["acts"], expected, rtol=1e-4, atol=1e-5
    )

    masked = cfg.model_copy(update={"outliers": True})
    TokenTask(texts, pair["base"], masked, tmp_path / "masked", "t").run(0)
    assert forced_budget(tmp_path / "masked") == {"token_budget": 40}, "the mask is found by a pass, too"

    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(UserError, match=r"one text of .* tokens does not fit"):
        SideTask(pair["base"], cfg, tokens, {2: (tmp_path / "none", "f")}).run(0)


def test_overflow_in_half_precision_is_a_user_error(checkpoint, texts, cfg, tmp_path):
    folder = checkpoint(tmp_path / "huge", initializer_range=60.0)
    half = cfg.model_copy(update={"dtype": "float16"})
    with pytest.raises(UserError, match=r"found infinities or NaN in float16; set extract\.dtype"):
        extract({"base": ModelConfig(path=str(folder))}, half, tmp_path, texts[:3])
    masked = half.model_copy(update={"outliers": True})
    with pytest.raises(UserError, match=r"layer \d: .*found infinities or NaN in float16; set extract\.dtype"):
        extract({"base": ModelConfig(path=str(folder))}, masked, tmp_path / "masked", texts[:3])
    assert not list((tmp_path / "masked").rglob("*.*"))


def test_a_pass_runs_on_the_threads_of_the_config_and_leaves_the_others_alone(pair, cfg):
    before = torch.get_num_threads()
    reader = Reader(pair["base"], cfg.model_copy(update={"threads": before + 2}))
    seen: list[int] = []

    def reduce(hidden, rows):
        seen.append(torch.get_num_threads())
        return hidden[:1]

    seen.extend(torch.get_num_threads() for _ in reader.read([np.array([5, 6, 7])], [0], reduce))
    assert seen == [before + 2, before]


# -- outliers ------------------------------------------------------------------------------------------------------


def naive_norms(path: str, text: str, layers, max_tokens: int) -> tuple[list[int], dict[int, np.ndarray]]:
    ids, states = naive_hidden_states(path, text, max_tokens)
    return ids, {layer: states[layer].norm(dim=-1).numpy() for layer in layers}


def test_outliers_of_base_are_left_out_on_every_side_and_layer(pair, texts, cfg, tmp_path):
    """PITFALLS: activations with outlier norms kill latents; mask outliers."""
    masked = cfg.model_copy(update={"outliers": True, "outlier_multiple": 1.25, "calibration_texts": 6})
    extract(pair, masked, tmp_path, texts)
    calibration = [0, 4, 9, 13, 18, 22]  # evenly spread over 23 texts
    medians = {}
    for layer in cfg.layers:
        norms = []
        for row in calibration:
            ids, by_layer = naive_norms(pair["base"].path, texts[row], cfg.layers, cfg.max_tokens)
            norms += [norm for token, norm in zip(ids, by_layer[layer], strict=True) if token > 2]
        medians[layer] = np.median(norms)
    keep, left_out = [], []
    for text in texts:
        ids, by_layer = naive_norms(pair["base"].path, text, cfg.layers, cfg.max_tokens)
        content = np.array(ids) > 2
        ok = content & np.all([by_layer[layer] <= 1.25 * medians[layer] for layer in cfg.layers], axis=0)
        keep.append(ok if ok.any() else content)
        left_out.append(content.sum() - keep[-1].sum())
    stored = read_rows(tmp_path / "activations" / "tokens", ["keep", "left_out"])
    np.testing.assert_array_equal(stored["keep"], np.concatenate(keep))
    assert stored["left_out"].tolist() == left_out
    assert sum(left_out) > 5

    # The chat side pools exactly the tokens that base's norms left.
    ids, states = naive_hidden_states(pair["chat"].path, texts[3], cfg.max_tokens)
    expected = states[2].numpy()[keep[3]].mean(axis=0)
    np.testing.assert_allclose(read_site(tmp_path, Site("chat", 2))[3], expected, rtol=2e-4, atol=2e-5)


def test_a_text_of_outliers_only_keeps_its_content_tokens(pair, texts, cfg, tmp_path, monkeypatch):
    masked = cfg.model_copy(update={"outliers": True})
    monkeypatch.setattr(TokenTask, "_thresholds", lambda self: dict.fromkeys(self.cfg.layers, 0.0))
    task = TokenTask(texts, pair["base"], masked, tmp_path, "t")
    task.run(0)
    stored = read_shard(tmp_path / shard_name(0))
    np.testing.assert_array_equal(stored["keep"] == 0, stored["ids"] <= 2)
    assert stored["left_out"].tolist() == [0] * 9


def test_thresholds_are_found_once_for_a_fingerprint(pair, texts, cfg, tmp_path, monkeypatch):
    masked = cfg.model_copy(update={"outliers": True})
    TokenTask(texts, pair["base"], masked, tmp_path, "t").run(0)
    seen: list[int] = []
    norms = TokenTask._norms
    monkeypatch.setattr(TokenTask, "_norms", lambda self, tokens: (seen.append(len(tokens)), norms(self, tokens))[1])
    TokenTask(texts, pair["base"], masked, tmp_path, "t").run(1)
    assert seen == [9]
    TokenTask(texts, pair["base"], masked, tmp_path, "other").run(1)
    assert seen == [9, len(texts), 9]
    about = shard_about(tmp_path / shard_name(1))
    assert list(about["outlier_thresholds"]) == [str(layer) for layer in cfg.layers]

    # One that was altered is not believed, and the search for it gives the same again.
    path = tmp_path / "thresholds.json"
    found = path.read_text()
    path.write_text(found.replace('"texts": ', '"texts": 1'))
    TokenTask(texts, pair["base"], masked, tmp_path, "other").run(0)
    assert seen == [9, len(texts), 9, len(texts), 9]
    assert path.read_text() == found
    assert shard_about(tmp_path / shard_name(0)) == about
