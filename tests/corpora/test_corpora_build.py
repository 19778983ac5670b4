"""The corpus stage as a whole: sampling, matching, splits, errors, and that order does not matter."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antar.core.errors import UserError
from antar.corpora import Corpus, CorpusConfig, build_corpus
from antar.corpora.clean import normal_form
from antar.corpora.config import MatchConfig, SplitConfig
from antar.corpora.match import apportion, bin_edges, bin_of, matched_draw
from antar.corpora.records import Candidate, Dropped
from antar.corpora.sample import Sketch, priority_of
from antar.corpora.split import assign_splits, half_of, split_of

Rows = list[dict[str, Any]]
THIRDS = {"train": 0.4, "val": 0.3, "heldout": 0.3}
"""Shares that small corpora can fill."""


def rows_of(make: Callable[..., str], group: str, language: str, numbers: range, words: int = 8) -> Rows:
    return [
        {"id": f"{group}-{language}-{i}", "text": make(i, language, words), "group": group, "lang": language,
         "doc": f"{group[:3]}-{i // 2}"}
        for i in numbers
    ]  # fmt: skip


@pytest.fixture
def make_rows(make_sentence: Callable[..., str]) -> Callable[[], Rows]:
    return lambda: [
        *rows_of(make_sentence, "cultural", "en", range(100)),
        *rows_of(make_sentence, "cultural", "hi", range(100)),
        *rows_of(make_sentence, "control", "en", range(200, 260)),
        *rows_of(make_sentence, "control", "hi", range(200, 260)),
    ]


@pytest.fixture
def rows(make_rows: Callable[[], Rows]) -> Rows:
    return make_rows()


def build(folder: Path, rows: Rows, *, seed: int = 7, source: dict[str, Any] | None = None, **cfg: Any) -> Corpus:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    mapped = {"source": "files", "name": "mine", "paths": ["rows.jsonl"], "id": "id", "document": "doc",
              "group_column": "group", "language_column": "lang", **(source or {})}  # fmt: skip
    made = {"sources": [mapped], "clean": {"near_duplicates": None}, "split": THIRDS, **cfg}
    return build_corpus(CorpusConfig.model_validate(made), seed=seed, study_folder=folder)


def stratum_counts(corpus: Corpus) -> dict[tuple[str, str], int]:
    return {(g, lang): n for g, lang, n in corpus.texts.group_by("group", "language").len().rows()}


def test_everything_is_kept_when_nothing_is_asked(tmp_path: Path, rows: Rows) -> None:
    corpus = build(tmp_path, rows)
    assert corpus.texts.columns[:8] == ["text_id", "text", "group", "language", "source", "document", "split", "half"]
    assert sorted(corpus.texts["text"]) == sorted(row["text"] for row in rows)
    assert corpus.facts["dropped"] == []
    json.dumps(corpus.facts, allow_nan=False)


@given(shuffle=st.integers(0, 10**6), seed=st.integers(0, 5))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order_of_rows_does_not_matter(
    tmp_path: Path, make_rows: Callable[[], Rows], shuffle: int, seed: int
) -> None:
    rows = make_rows()
    repeated = [*rows, *({**row, "id": row["id"] + "-again", "text": row["text"].upper()} for row in rows[::3])]
    mixed = random.Random(shuffle).sample(repeated, len(repeated))
    cfg: dict[str, Any] = {"source": {"n": 40}, "clean": {"near_duplicates": 0.8}, "match": {"bins": 3}}
    one, other = build(tmp_path, repeated, seed=seed, **cfg), build(tmp_path, mixed, seed=seed, **cfg)
    assert one.texts.equals(other.texts)
    assert one.facts == other.facts


def test_seed_decides_the_sample(tmp_path: Path, rows: Rows) -> None:
    first, again, other = (build(tmp_path, rows, seed=seed, source={"n": 40}) for seed in (1, 1, 2))
    assert first.texts.equals(again.texts)
    assert set(first.texts["text_id"]) != set(other.texts["text_id"])
    assert stratum_counts(first) == dict.fromkeys(
        [(g, lang) for g in ("cultural", "control") for lang in ("en", "hi")], 40
    )
    assert {row["reason"]: row["texts"] for row in first.facts["dropped"]} == {"not sampled": 60 * 2 + 20 * 2}


def test_n_by_language(tmp_path: Path, rows: Rows) -> None:
    corpus = build(tmp_path, rows, source={"n": {"hi": 30}})
    assert stratum_counts(corpus) == {("cultural", "hi"): 30, ("control", "hi"): 30}
    reasons = {row["reason"]: row["texts"] for row in corpus.facts["dropped"]}
    assert reasons["language en not among those of n"] == 160


def test_a_source_that_has_too_few_is_noted(tmp_path: Path, rows: Rows) -> None:
    notes = build(tmp_path, rows, source={"n": 80}).facts["notes"]
    assert "mine: 60 control texts in hi of 80 wanted" in notes
    assert not any("cultural" in note for note in notes)


def test_sketch_is_the_bottom_k_of_distinct_texts() -> None:
    priority = priority_of(3, "s")
    names = [f"text {i}" for i in range(300)]
    texts = [
        Candidate(f"{name}/{copy}", name, "control", "en", "s", f"{name}/{copy}", {}, name, priority(name), 2)
        for copy in range(2)
        for name in names
    ]
    expected = sorted(names, key=priority)[:50]
    for order in (texts, texts[::-1]):
        sketch = Sketch(50)
        for text in order:
            sketch.offer(text)
        assert [text.text for text in sketch.texts()] == expected
        assert all(text.text_id.endswith("/0") for text in sketch.texts())
        dropped = Dropped()
        sketch.report("s", dropped)
        assert {row["reason"]: row["texts"] for row in dropped.rows()} == {"exact duplicate": 50, "not sampled": 500}


def test_sampling_is_uniform_over_the_file() -> None:
    """Position in the file does not decide: over many seeds each text is taken equally often."""
    taken: Counter[int] = Counter()
    for seed in range(400):
        priority = priority_of(seed, "s")
        taken.update(sorted(range(20), key=lambda i: priority(f"text {i}"))[:5])
    assert sum(taken.values()) == 2000
    # 400 draws at probability 1/4: mean 100, standard deviation 8.7; 5 of them is far outside chance.
    assert all(abs(taken[i] - 100) < 44 for i in range(20))


def test_exact_duplicates_keep_the_cultural_text(tmp_path: Path, rows: Rows) -> None:
    twin = {**rows[0], "id": "twin", "group": "control", "doc": "other", "text": "  " + rows[0]["text"].upper()}
    corpus = build(tmp_path, [twin, *rows])
    assert "mine:twin" not in corpus.texts["text_id"]
    assert corpus.facts["dropped"] == [
        {"source": "mine", "reason": "exact duplicate of a cultural text", "texts": 1, "examples": ["mine:twin"]}
    ]


def test_near_duplicates_are_off_with_null(tmp_path: Path, rows: Rows) -> None:
    near = [{**rows[0], "id": "near", "text": rows[0]["text"] + "!", "group": "control", "doc": "n"}]
    dropped = build(tmp_path, [*rows, *near], clean={"near_duplicates": 0.9}).facts["dropped"]
    assert any(
        row["reason"] == "near duplicate of a cultural text" and "mine:near" in row["examples"] for row in dropped
    )
    assert "mine:near" in build(tmp_path, [*rows, *near]).texts["text_id"]


def test_one_id_on_two_texts_is_told_apart(tmp_path: Path, rows: Rows) -> None:
    for row in rows[:2]:
        row["id"] = "same"
    ids = build(tmp_path, rows).texts["text_id"].to_list()
    assert sum(text_id.startswith("mine:same~") for text_id in ids) == 2


def test_ids_are_ordered_as_numbers(tmp_path: Path, rows: Rows) -> None:
    corpus = build(tmp_path, rows)
    english = corpus.texts.filter((pl.col("group") == "cultural") & (pl.col("language") == "en"))
    assert english["text_id"].to_list() == [f"mine:cultural-en-{i}" for i in range(100)]


# Splits


@given(st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=30, unique=True), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_splits_are_stable_when_texts_are_added(documents: list[str], seed: int) -> None:
    cfg = SplitConfig()
    texts = [
        Candidate(f"{d}/{i}", d, "cultural", "en", "s", d, {}, normal_form(d), 0, 1)
        for d in documents
        for i in (0, 1)
    ]
    whole = assign_splits(texts, cfg, seed, {"s": "by document"})
    part = assign_splits(texts[: len(texts) // 2], cfg, seed, {"s": "by document"})
    assert all(whole[document] == split for document, split in part.items())
    assert set(whole) == set(documents)


def test_shares_of_splits_and_halves() -> None:
    cfg = SplitConfig(train=0.6, val=0.1, heldout=0.3)
    splits = Counter(split_of(f"d{i}", 11, cfg) for i in range(5000))
    halves = Counter((split_of(f"d{i}", 11, cfg), half_of(f"d{i}", 11)) for i in range(5000))
    for name, share in (("train", 0.6), ("val", 0.1), ("heldout", 0.3)):
        assert splits[name] / 5000 == pytest.approx(share, abs=0.03)
        # The half is drawn apart from the split.
        assert halves[name, "select"] / splits[name] == pytest.approx(0.5, abs=0.08)
    assert split_of("d1", 1, cfg) in splits
    assert any(split_of(f"d{i}", 1, cfg) != split_of(f"d{i}", 2, cfg) for i in range(50))
    assert any(half_of(f"d{i}", 1) != half_of(f"d{i}", 2) for i in range(50))


def test_controls_are_held_out_or_split_likewise(tmp_path: Path, rows: Rows) -> None:
    held = build(tmp_path, rows).texts
    assert set(held.filter(pl.col("group") == "control")["split"]) == {"heldout"}
    assert set(held.filter(pl.col("group") == "cultural")["split"]) == {"train", "val", "heldout"}
    same = build(tmp_path, rows, split={**THIRDS, "controls": "same"}).texts
    assert set(same.filter(pl.col("group") == "control")["split"]) == {"train", "val", "heldout"}
    for texts in (held, same):
        parted = texts.group_by("document").agg(pl.col("split").n_unique(), pl.col("half").n_unique())
        assert parted["split"].max() == parted["half"].max() == 1
        assert texts["document"].n_unique() < texts.height


def test_document_of_both_groups_is_held_out_whole(tmp_path: Path, rows: Rows) -> None:
    trained = build(tmp_path, rows).texts.filter(pl.col("split") == "train")["document"][0]
    rows.append({**rows[-1], "id": "guest", "text": "a guest in the house of a potter", "lang": "en",
                 "doc": trained.removeprefix("mine:")})  # fmt: skip
    corpus = build(tmp_path, rows)
    assert set(corpus.texts.filter(pl.col("document") == trained)["split"]) == {"heldout"}
    assert "1 documents hold cultural and control texts; all of each is held out" in corpus.facts["notes"]


def test_a_source_can_be_held_out_whole(tmp_path: Path, rows: Rows, write_jsonl: Any, make_sentence: Any) -> None:
    write_jsonl("check.jsonl", [{"text": make_sentence(i, "en", 9)} for i in range(500, 540)])
    check = {"source": "files", "name": "check", "paths": ["check.jsonl"], "group": "cultural", "split": "heldout"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine = {"source": "files", "name": "mine", "paths": ["rows.jsonl"], "group_column": "group", "document": "doc"}
    cfg = CorpusConfig.model_validate({"sources": [mine, check], "clean": {"near_duplicates": None}})
    texts = build_corpus(cfg, seed=1, study_folder=tmp_path).texts
    assert set(texts.filter(pl.col("source") == "check")["split"]) == {"heldout"}
    assert texts.filter(pl.col("source") == "check").height == 40


# Matching


def of_length(words: int, number: int, group: str = "control") -> Candidate:
    return Candidate(
        f"{group}{number}", "w " * words, group, "en", "s", f"{group}{number}", {}, str(number), number, words
    )


def test_bins_cover_the_cultural_range_and_no_more() -> None:
    words = np.array([5, 6, 7, 8, 20, 30, 40, 50])
    edges = bin_edges(words, 4)
    assert edges[0] == 5
    assert edges[-1] == 50
    assert bin_of(np.array([4, 5, 50, 51]), edges).tolist() == [-1, 0, 3, -1]
    assert np.bincount(bin_of(words, edges)).tolist() == [2, 2, 2, 2]
    same = bin_edges(np.array([9, 9, 9]), 4)
    assert bin_of(np.array([8, 9, 10]), same).tolist() == [-1, 0, -1]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any), st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_apportion_sums_to_n_and_stays_near(shares: list[int], n: int) -> None:
    counts = apportion(np.array(shares), n)
    assert counts.sum() == n
    assert np.all(np.abs(counts - np.array(shares) / sum(shares) * n) < 1)


def test_matched_lengths_follow_the_cultural_texts() -> None:
    rng = np.random.default_rng(0)
    cultural = [of_length(int(w), i, "cultural") for i, w in enumerate(rng.integers(30, 60, 300))]
    controls = [of_length(int(w), i) for i, w in enumerate(rng.integers(5, 65, 6000))]
    taken, facts = matched_draw(controls, cultural, 200, MatchConfig(bins=6))
    assert len(taken) == facts["taken"] == facts["wanted"] == 200
    assert facts["short_bins"] == 0
    assert abs(facts["words_after"]["0.5"] - facts["words_cultural"]["0.5"]) < 3
    assert abs(facts["words_before"]["0.5"] - facts["words_cultural"]["0.5"]) > 7
    edges = bin_edges(np.array([text.words for text in cultural]), 6)
    bins = np.bincount(bin_of(np.array([text.words for text in taken]), edges), minlength=6)
    assert bins.max() - bins.min() <= 12
    # In each bin the first of the random order are taken.
    ranks = [text.priority for text in taken]
    assert ranks == sorted(ranks)


def test_match_keeps_n_none_and_no_cultural_apart() -> None:
    cultural = [of_length(10 + i % 5, i, "cultural") for i in range(40)]
    controls = [of_length(10 + i % 5, i) for i in range(500)]
    assert len(matched_draw(controls, cultural, None, MatchConfig(bins=2))[0]) == 40
    assert matched_draw(controls, [], 70, MatchConfig())[0] == controls[:70]
    assert len(matched_draw(controls, [], None, MatchConfig())[0]) == 500
    assert matched_draw(controls, cultural, 70, MatchConfig(on=["language"]))[0] == controls[:70]


def test_match_in_each_language_or_over_both(tmp_path: Path, make_sentence: Callable[..., str]) -> None:
    rows = [
        *rows_of(make_sentence, "cultural", "en", range(80), 6),
        *rows_of(make_sentence, "cultural", "hi", range(80), 14),
        *(row for words in (6, 14) for lang in ("en", "hi")
          for row in rows_of(make_sentence, "control", lang, range(words * 100, words * 100 + 90), words)),
    ]  # fmt: skip

    def lengths(corpus: Corpus, language: str) -> set[int]:
        chosen = corpus.texts.filter((pl.col("group") == "control") & (pl.col("language") == language))
        return {len(text.removesuffix(" ।").split()) for text in chosen["text"]}

    each = build(tmp_path, rows, match={"bins": 4})
    assert (lengths(each, "en"), lengths(each, "hi")) == ({6}, {14})
    both = build(tmp_path, rows, match={"bins": 4, "on": ["length"]})
    assert lengths(both, "en") == lengths(both, "hi") == {6, 14}


def test_match_has_more_to_choose_from_than_it_takes(tmp_path: Path, make_sentence: Callable[..., str]) -> None:
    """One control in four has the right length; sampling n first and matching then would leave few."""
    rows = [
        *rows_of(make_sentence, "cultural", "en", range(80), 12),
        *rows_of(make_sentence, "control", "en", range(200, 380), 6),
        *rows_of(make_sentence, "control", "en", range(400, 460), 12),
    ]
    corpus = build(tmp_path, rows, source={"n": 40}, match={"bins": 3})
    assert stratum_counts(corpus) == {("cultural", "en"): 40, ("control", "en"): 40}


# Mistakes


def refused(folder: Path, rows: Rows, **cfg: Any) -> str:
    with pytest.raises(UserError) as caught:
        build(folder, rows, **cfg)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_empty_corpus(tmp_path: Path, rows: Rows) -> None:
    assert refused(tmp_path, []).startswith("corpus: expected texts from mine, found none")
    assert refused(tmp_path, rows, clean={"min_words": 99}).startswith("corpus: expected texts from mine, found none")


def test_language_without_controls(tmp_path: Path, rows: Rows) -> None:
    message = refused(tmp_path, [row for row in rows if (row["group"], row["lang"]) != ("control", "hi")])
    assert message == (
        "corpus.sources: expected control texts in hi, found none beside 100 cultural texts; add a source with "
        "`group: control` in hi"
    )
    # The other way round is no mistake.
    assert (
        build(tmp_path, [row for row in rows if (row["group"], row["lang"]) != ("cultural", "hi")]).texts.height
        == 220
    )


def test_no_cultural_texts(tmp_path: Path, rows: Rows) -> None:
    message = refused(tmp_path, [row for row in rows if row["group"] == "control"])
    assert message.startswith("corpus: expected cultural texts, found only controls in mine")


def test_controls_of_other_lengths_than_any_cultural_text(tmp_path: Path, make_sentence: Callable[..., str]) -> None:
    rows = [
        *rows_of(make_sentence, "cultural", "en", range(60), 15),
        *rows_of(make_sentence, "control", "en", range(200, 260), 6),
    ]
    message = refused(tmp_path, rows, match={"bins": 3})
    assert message.startswith("corpus.match: none of the 60 control texts in en is as long as the 60 cultural ones")


def test_a_split_without_cultural_texts(tmp_path: Path, rows: Rows) -> None:
    message = refused(tmp_path, rows, source={"split": "heldout"})
    assert message.startswith(
        "corpus.split: expected cultural texts in train, found none of 50 documents (share 0.4)"
    )


def test_facts_count_what_is_in_the_table(tmp_path: Path, rows: Rows) -> None:
    corpus = build(tmp_path, rows, source={"n": 40})
    assert sum(row["texts"] for row in corpus.facts["counts"]) == corpus.texts.height
    for row in corpus.facts["counts"]:
        chosen = corpus.texts.filter(
            pl.all_horizontal(pl.col(k) == row[k] for k in ("group", "language", "source", "split"))
        )
        assert (chosen.height, chosen["document"].n_unique()) == (row["texts"], row["documents"])
    english = next(row for row in corpus.facts["words"] if (row["group"], row["language"]) == ("control", "en"))
    assert english["words"] == {"0": 8.0, "0.05": 8.0, "0.25": 8.0, "0.5": 8.0, "0.75": 8.0, "0.95": 8.0, "1": 8.0}
    assert corpus.facts["sources"]["mine"]["rows_read"] == len(rows)
