"""Keywords against a naive twin; the gate's false positives; what a label says."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import polars as pl
import pytest

from antar.interpret.config import KeywordConfig
from antar.interpret.corpus import NONE, PREDICT, REVISE, SELECT, VALIDATE, TextCorpus
from antar.interpret.keywords import KeywordModel, TextSets
from antar.interpret.labeller import KeywordLabeller, keyword_strings, needed_keywords
from antar.interpret.types import Evidence

CONFIG = KeywordConfig()


@pytest.fixture(scope="module")
def corpus(world) -> TextCorpus:
    return TextCorpus.build(world.texts, 7)


@pytest.fixture(scope="module")
def model(corpus: TextCorpus) -> KeywordModel:
    return KeywordModel.fit(corpus, CONFIG, 20, 7)


def evidence(corpus: TextCorpus, rows: np.ndarray, background: np.ndarray | None = None) -> Evidence:
    background = np.zeros(0, dtype=np.int64) if background is None else background
    return Evidence("f", corpus.shown(rows, np.ones(len(rows))), corpus.shown(background, np.zeros(len(background))))


def themed(world, corpus: TextCorpus, theme: str, language: str) -> np.ndarray:
    is_it = (pl.col("theme") == theme) & (pl.col("language") == language)
    return np.flatnonzero(world.texts.select(is_it).to_series().to_numpy() & (corpus.parts_t == SELECT))


def naive_keywords(corpus: TextCorpus, rows: list[int], class_size: int) -> list[tuple[str, float]]:
    """Words and scores of one set, straight from the definition."""
    select = [row for row in range(len(corpus.texts)) if corpus.parts_t[row] == SELECT]
    held = Counter(word for row in select for word in corpus.index.words_of(row))
    words_a_class = class_size * sum(held.values()) / len(select)
    scored: list[tuple[str, float]] = []
    counts = Counter(word for row in rows for word in corpus.index.words_of(row))
    for word, count in counts.items():
        support = count / len(rows)
        expected = 0.0
        for language in set(corpus.language_t):
            here = [row for row in select if corpus.language_t[row] == language]
            share = sum(corpus.language_t[row] == language for row in rows) / len(rows)
            expected += share * sum(word in corpus.index.words_of(row) for row in here) / len(here)
        enough = count >= max(CONFIG.min_texts, math.ceil(CONFIG.min_share * len(rows) - 1e-9))
        if enough and support >= CONFIG.min_lift * expected:
            scored.append((word, support * math.log(1 + words_a_class / max(1, held[word]))))
    return sorted(scored, key=lambda pair: (-round(pair[1], 12), pair[0]))[: CONFIG.most]


def test_keywords_equal_the_naive_twin(world, corpus: TextCorpus, model: KeywordModel) -> None:
    rng = np.random.default_rng(0)
    everyone = np.arange(len(corpus.texts))
    sets = [rng.choice(themed(world, corpus, theme, "en"), 12, replace=False) for theme in ("eid", "tea")]
    sets += [
        np.concatenate([rng.choice(themed(world, corpus, "saree", lang), 9, replace=False) for lang in ("en", "hi")])
    ]
    sets += [rng.choice(everyone, size, replace=False) for size in (20, 7, 3, 1)] + [np.zeros(0, dtype=np.int64)]
    text_sets = TextSets.of(sets, len(corpus.texts))
    found = model.keywords(text_sets)
    for s, rows in enumerate(sets):
        naive = naive_keywords(corpus, [int(row) for row in rows], 20) if len(rows) else []
        assert keyword_strings(corpus, found, s) == tuple(word for word, _ in naive)
        assert found.scores_sm[s, : len(naive)] == pytest.approx([score for _, score in naive])
    held = model.held_counts(text_sets, found.words_sm)
    naive_held = [
        len(corpus.index.words_of(int(row)) & set(keyword_strings(corpus, found, s)))
        for s, rows in enumerate(sets) for row in rows
    ]  # fmt: skip
    assert held.tolist() == naive_held
    coverage = model.coverage(text_sets, found)
    for s, rows in enumerate(sets):
        words = keyword_strings(corpus, found, s)
        holders = [[word in corpus.index.words_of(int(row)) for row in rows] for word in words]
        support = [float(np.mean(each)) for each in holders]
        breadth = float(np.mean([any(column) for column in zip(*holders, strict=True)])) if words else 0.0
        depth = sum(x * x for x in support) / sum(support) if words else 0.0
        assert coverage[s] == pytest.approx((breadth + depth) / 2)


def test_answers_do_not_depend_on_the_batch(world, corpus: TextCorpus, model: KeywordModel) -> None:
    rng = np.random.default_rng(1)
    select = np.flatnonzero(corpus.parts_t == SELECT)
    batch = [evidence(corpus, rng.choice(select, 20, replace=False), rng.choice(select, 20)) for _ in range(7)]
    batch += [evidence(corpus, themed(world, corpus, "tea", "hi")[:20])]
    together = KeywordLabeller(model).label(batch)
    fresh = KeywordLabeller(KeywordModel.fit(corpus, CONFIG, 20, 7))
    assert [fresh.label([one])[0] for one in reversed(batch)][::-1] == together


def test_the_gate_passes_themes_and_holds_random_sets_at_its_level(
    world, corpus: TextCorpus, model: KeywordModel
) -> None:
    labeller = KeywordLabeller(model)
    rng = np.random.default_rng(2)
    for theme in ("diwali", "eid", "bus"):
        for language in ("en", "hi"):
            rows = rng.choice(themed(world, corpus, theme, language), 15, replace=False)
            (label,) = labeller.label([evidence(corpus, rows)])
            assert label.coherent
            assert label.language == language
            assert label.label == " · ".join(label.keywords)
    select = np.flatnonzero(corpus.parts_t == SELECT)
    draws = [
        evidence(corpus, rng.choice(select[corpus.language_t[select] == i % 2], 20, replace=False))
        for i in range(400)
    ]
    passed = np.mean([label.coherent for label in labeller.label(draws)])
    assert passed < CONFIG.alpha + 3 * np.sqrt(CONFIG.alpha * (1 - CONFIG.alpha) / 400)


def test_a_bilingual_theme_names_both_languages(world, corpus: TextCorpus, model: KeywordModel) -> None:
    rows = np.concatenate([themed(world, corpus, "eid", language)[:10] for language in ("hi", "en")])
    (label,) = KeywordLabeller(model).label([evidence(corpus, rows)])
    assert label.coherent
    assert label.language == "mixed"
    assert set(label.keywords) & {"ईद", "सेवइयाँ", "चाँद"}
    assert set(label.keywords) & {"eid", "moon", "sewai"}


def test_a_text_that_comes_twice_counts_once() -> None:
    rows = [("the kettle sings", "a"), ("The  kettle sings", "b"), ("THE KETTLE SINGS", "c"), ("silk loom", "d"),
            ("red lamp", "e"), ("old moon", "f"), ("long street", "g"), ("rain cloud", "h")]  # fmt: skip
    frame = pl.DataFrame(
        {"text_id": [r[1] for r in rows], "text": [r[0] for r in rows], "language": ["en"] * 8,
         "document": [r[1] for r in rows], "half": ["select"] * 7 + ["estimate"],
         "group": ["control"] * 8, "split": ["heldout"] * 8}
    )  # fmt: skip
    corpus = TextCorpus.build(frame, 0)
    labeller = KeywordLabeller(KeywordModel.fit(corpus, KeywordConfig(min_examples=2), 20, 0))
    shown = corpus.shown(np.arange(7), np.ones(7))
    assert labeller.rows(shown).tolist() == [0, 3, 4, 5, 6]
    (label,) = labeller.label([Evidence("f", shown, ())])
    assert not label.coherent
    assert label.label is None
    assert label.keywords == ()


def test_needed_is_the_naive_best_split(world, corpus: TextCorpus, model: KeywordModel) -> None:
    rng = np.random.default_rng(4)
    firing = [themed(world, corpus, theme, "en")[:20] for theme in ("tea", "eid")] + [
        rng.choice(900, 20, replace=False)
    ]
    silent = [rng.choice(len(corpus.texts), 20, replace=False) for _ in range(2)] + [np.zeros(0, dtype=np.int64)]
    found = model.keywords(TextSets.of(firing, len(corpus.texts)))
    needed = needed_keywords(model, firing, silent, found)
    for s in range(2):
        words = set(keyword_strings(corpus, found, s))

        def share(rows: np.ndarray, m: int, words: set[str] = words) -> float:
            return float(np.mean([len(corpus.index.words_of(int(row)) & words) >= m for row in rows]))

        gains = [share(firing[s], m) - share(silent[s], m) for m in range(1, CONFIG.most + 1)]
        assert needed[s] == 1 + int(np.argmax(np.round(gains, 12)))
    assert needed[2] == 1


def test_parts_share_no_document_and_no_text() -> None:
    n = 400
    frame = pl.DataFrame(
        {"text_id": [str(i) for i in range(n)], "text": [f"word{min(i, 5 * i % 400)}" for i in range(n)],
         "language": ["en"] * n, "document": [f"d{i // 2}" for i in range(n)],
         "half": ["select" if (i // 2) % 2 else "estimate" for i in range(n)], "group": ["cultural"] * n,
         "split": ["train" if (i // 2) % 5 == 0 else "heldout" for i in range(n)]}
    )  # fmt: skip
    corpus = TextCorpus.build(frame, 0)
    parts = {part: np.flatnonzero(corpus.parts_t == part) for part in (SELECT, REVISE, VALIDATE, PREDICT)}
    for part, rows in parts.items():
        assert len(rows)
        for other, others in parts.items():
            if other != part:
                assert not corpus.keys(rows) & corpus.keys(others)
                assert not set(frame["document"][rows]) & set(frame["document"][others])
    assert (corpus.parts_t == NONE).any()
    assert set(frame["half"][parts[SELECT]]) == {"select"}
    assert (frame["half"].to_numpy()[parts[PREDICT]] == "estimate").all()
    for part in (REVISE, VALIDATE, PREDICT):  # no dictionary was trained on a text that judges its labels
        assert set(frame["split"][parts[part]]) == {"heldout"}


def test_matched_texts_have_the_language_and_the_length(world, corpus: TextCorpus) -> None:
    rng = np.random.default_rng(0)
    wanted = rng.choice(len(corpus.texts), 40, replace=False)
    allowed = np.zeros(len(corpus.texts), dtype=bool)
    allowed[rng.choice(len(corpus.texts), 500, replace=False)] = True
    drawn = corpus.matched(wanted, allowed, np.random.default_rng(3), corpus.keys(wanted))
    assert len(drawn) == 40
    assert len(set(drawn)) == 40
    assert allowed[drawn].all()
    assert not corpus.keys(drawn) & corpus.keys(wanted)
    assert (corpus.language_t[drawn] == corpus.language_t[wanted]).all()
    assert np.abs(corpus.index.lengths_t[drawn] - corpus.index.lengths_t[wanted]).max() <= 1
    assert len(corpus.matched(wanted, np.zeros_like(allowed), rng)) == 0
