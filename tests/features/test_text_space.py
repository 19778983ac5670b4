"""The space of the texts: TF-IDF and LSA against naive twins, nothing learned from held-out texts, ties at a half."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from antar.core.errors import UserError
from antar.features import embed
from antar.features.coherence import Space, coherence_null, measure_coherence
from antar.features.embed import embed_texts
from antar.features.text_space import tfidf_space
from antar.interpret.words import tokens

TEXTS = [
    "Diwali lamps were lit at dusk, and lamps floated on the river.",
    "Lamps were lit at the river for Diwali.",
    "A dog runs at dusk.",
    "A dog runs in the park.",
    "दिवाली की रात परिवार ने दीये जलाए।",
    "दिवाली की रात को दीये जलते हैं।",
    "बच्चे मेले में सेवइयाँ खा रहे थे।",
    "मेले में सेवइयाँ बिकती हैं।",
    "Onions again: lamps!",
]


def naive_tfidf(texts: list[str], fit: list[int]) -> np.ndarray:
    """(1 + ln tf)(1 + ln((1 + n)/(1 + df))) over words and pairs in two or more texts of `fit`, rows of norm 1."""
    bags: list[list[str]] = []
    for text in texts:
        words = tokens(text)
        bags.append(words + [f"{words[i]} {words[i + 1]}" for i in range(len(words) - 1)])
    df = {term: sum(term in bags[row] for row in fit) for row in fit for term in bags[row]}
    terms = sorted(term for term, count in df.items() if count >= 2)
    rows = np.zeros((len(texts), len(terms)))
    for i, bag in enumerate(bags):
        for j, term in enumerate(terms):
            if tf := bag.count(term):
                rows[i, j] = (1 + math.log(tf)) * (1 + math.log((1 + len(fit)) / (1 + df[term])))
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


@pytest.mark.parametrize("dimensions", [3, 128])
def test_vectors_equal_a_naive_twin_with_numpys_svd(dimensions: int) -> None:
    fit = np.arange(8)
    found = tfidf_space(TEXTS, fit, tokens, dimensions=dimensions)
    assert found is not None
    naive = naive_tfidf(TEXTS, fit.tolist())
    _, _, axes = np.linalg.svd(naive[:8], full_matrices=False)
    expected = naive @ axes[: found.shape[1]].T
    assert found.shape == (9, min(dimensions, 7)) and found.dtype == np.float32
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-5)  # axes have no sign of their own


def test_held_out_texts_shape_nothing() -> None:
    fit = np.array([0, 1, 2, 3, 4, 5])
    changed = [*TEXTS[:6], "lamps lamps lamps", "onions onions", "onions"]
    before, after = (tfidf_space(texts, fit, tokens, seed=4) for texts in (TEXTS, changed))
    assert before is not None and after is not None
    assert np.array_equal(before[:6], after[:6])
    assert not after[7].any() and not after[8].any()  # onions are in no training text twice


def test_devanagari_words_are_whole_and_vowel_signs_do_not_join_strangers() -> None:
    fit = np.arange(8)
    vectors = tfidf_space(TEXTS, fit, tokens)
    assert vectors is not None
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit.T
    assert near[4, 5] > 0.5 and near[6, 7] > 0.5
    assert abs(near[4, 6]) < 0.3 and abs(near[0, 4]) < 0.05


def test_without_a_shared_word_there_is_no_space() -> None:
    assert tfidf_space(["one", "two", "three"], np.arange(3), tokens) is None
    assert tfidf_space(["one one", "", "?"], np.arange(3), tokens) is None


def topic_texts(rng: np.random.Generator, n: int) -> list[str]:
    """Texts of six words: one in four about lamps, each in some of their words; the rest about anything."""
    lamps, rest = [f"lamp{i}" for i in range(12)], [f"word{i}" for i in range(300)]
    return [" ".join(rng.choice(lamps if i % 4 == 0 else rest, 6)) for i in range(n)]


def test_texts_of_one_topic_are_coherent_and_texts_without_known_words_are_at_a_half() -> None:
    rng = np.random.default_rng(0)
    texts = topic_texts(rng, 400)
    texts[1::4] = [f"unseen{i}" for i in range(100)]  # no shared term at all: every cosine is 0, every pair a tie
    vectors = tfidf_space(texts, np.arange(400), tokens)
    assert vectors is not None
    space = Space(vectors, np.array(["en"] * 400), np.array([f"d{i}" for i in range(400)]))
    lamps, unseen = np.arange(0, 400, 4), np.arange(1, 400, 4)
    rows = np.concatenate([rng.choice(lamps, 12, replace=False), rng.choice(unseen, 12, replace=False)])
    latents = np.repeat([0, 1], 12)
    about_lamps, about_nothing = measure_coherence(space, latents, rows)["coherence"]
    assert about_lamps > 0.8
    assert about_nothing == 0.5
    draws = np.concatenate([rng.choice(lamps, 12, replace=False) for _ in range(40)])
    null = coherence_null(space, np.repeat(np.arange(40), 12), draws)["coherence"]
    assert abs(null.mean() - 0.5) < 0.02  # pyright: ignore


# -- a local encoder ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, max_position_embeddings=64, initializer_range=0.3)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_embeddings_equal_one_text_at_a_time(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "TOKEN_BUDGET", 20)  # several batches, with padding
    counted: list[int] = []
    found = embed_texts(encoder, TEXTS, max_tokens=8, done=counted.append)
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), BertModel.from_pretrained(encoder).eval()
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"][:8]])
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert found.dtype == np.float32 and sum(counted) == len(TEXTS) and len(counted) > 1


@pytest.mark.parametrize("padding", [None, 1])
def test_a_text_longer_than_the_encoders_positions_is_cut_there(
    encoder: Path, tmp_path: Path, padding: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, positions = ["lamps " * 100, "A dog"], 64
    if padding is not None:  # RoBERTa's kind loses the positions up to its padding index
        shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
        config = BertConfig.from_pretrained(encoder).to_dict() | {"pad_token_id": padding}
        RobertaModel(
            RobertaConfig(**{key: one for key, one in config.items() if key != "model_type"})
        ).save_pretrained(tmp_path)
        encoder, positions = tmp_path, 62
    found = embed_texts(encoder, texts)
    said = capsys.readouterr().err
    assert f"at most {positions} tokens: texts are cut there, not after 256" in said
    np.testing.assert_allclose(found, embed_texts(encoder, texts, max_tokens=positions), atol=1e-6)
    assert "texts are cut" not in capsys.readouterr().err


def test_pickled_and_damaged_weights_are_one_line(encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    torch.save(BertModel.from_pretrained(encoder).state_dict(), tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(UserError, match=r"an encoder that transformers reads, found: .*safetensors") as pickled:
        embed_texts(tmp_path, TEXTS)
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="an encoder that transformers reads") as torn:
        embed_texts(tmp_path, TEXTS)
    assert not any("\n" in str(caught.value) for caught in (pickled, torn))


def test_what_is_no_encoder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="text_space: tfidf"):
        embed_texts(tmp_path, TEXTS)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="an encoder that transformers reads") as caught:
        embed_texts(tmp_path, TEXTS)
    assert "\n" not in str(caught.value)
