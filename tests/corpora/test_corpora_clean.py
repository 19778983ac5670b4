"""Cleaning, units, language, near duplicates and the schema of the table."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antar.core.errors import UserError
from antar.corpora.clean import clean_units, normal_form, normalise
from antar.corpora.config import CleanConfig, Files
from antar.corpora.language import detect_language, settle_language
from antar.corpora.near import NearDuplicates, jaccard, without_near_duplicates
from antar.corpora.records import Candidate, Dropped, RawText
from antar.corpora.sample import priority_of
from antar.corpora.schema import REQUIRED_COLUMNS, check_texts, facet_columns
from antar.corpora.units import split_units


def candidate(text: str, number: int = 0, **changes: Any) -> Candidate:
    made = Candidate(
        text_id=f"t{number}",
        text=text,
        group="cultural",
        language="en",
        source="s",
        document=f"d{number}",
        facets={},
        normal_form=normal_form(text),
        priority=number,
        words=len(text.split()),
    )
    return replace(made, **changes)


def clean(
    text: str, *, language: str | None = "en", dropped: Dropped | None = None, **source: Any
) -> list[Candidate]:
    cfg = source.pop("cfg", CleanConfig())
    raw = RawText("id", text, "control", language, "doc")
    files = Files.model_validate({"paths": ["x"], **source})
    return list(clean_units(raw, files, cfg, priority_of(1, "files"), dropped or Dropped()))


def test_normalise_composes_and_unifies_white_space() -> None:
    assert normalise("  cafe\u0301 \t au\u00a0lait \r\n\r\n\r\n\r\n next\u2028line ") == "café au lait\n\nnext\nline"
    assert normalise("\ufeffa\u200bb\x00c\u00ad") == "abc"


def test_joiners_of_devanagari_stay() -> None:
    word = "क्\u200dष क्\u200cष"
    assert normalise(word) == word


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_normal_form_ignores_case_and_layout_only() -> None:
    assert normal_form("The\n  LAMP") == normal_form("the lamp")
    assert normal_form("the lamp.") != normal_form("the lamp")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("नमस्ते दुनिया", "hi"),
        ("hello world", "en"),
        ("Été à Paris", "en"),
        ("नमस्ते friends आज हम", "hi"),
        ("We say नमः here every day", "en"),
        ("வணக்கம் உலகம்", None),
        ("12345 !?", None),
        ("०१२३ ।", None),
        ("привет мир ok", None),
    ],
)
def test_detect_language(text: str, language: str | None) -> None:
    assert detect_language(text) == language


def test_settle_language_checks_english_and_hindi_only() -> None:
    assert settle_language("hello", None, True) == ("en", None)
    assert settle_language("नमस्ते", "mr", True) == ("mr", None)
    assert settle_language("namaste duniya", "hi", True) == (None, "stated hi, found en")
    assert settle_language("namaste duniya", "hi", False) == ("hi", None)
    assert settle_language("வணக்கம்", "en", True) == (None, "stated en, but the script is not")
    assert settle_language("123", None, False)[1] == "language not stated and not told by the script"


def test_units() -> None:
    text = 'He came. "Why?" she asked! वह आया। फिर गया॥ Then\nit rained'
    assert split_units(text, "response", 5) == [text]
    assert split_units(text, "sentence", 5) == [
        "He came.",
        '"Why?"',
        "she asked!",
        "वह आया।",
        "फिर गया॥",
        "Then",
        "it rained",
    ]
    assert split_units("pi is 3.14 today", "sentence", 5) == ["pi is 3.14 today"]
    assert split_units("a  b c d e f g", "window", 3) == ["a  b c", "d e f"]
    assert split_units("a b c d e f g h", "window", 3) == ["a b c", "d e f", "g h"]
    assert split_units("a b c d e f", "window", 4) == ["a b c d", "e f"]
    assert split_units("a", "window", 3) == ["a"]
    assert split_units("", "window", 3) == []


def test_units_of_one_text_share_its_document() -> None:
    dropped = Dropped()
    texts = clean("The first sentence is here. No. A second sentence follows it.", unit="sentence", dropped=dropped)
    assert [(text.text_id, text.text, text.document, text.words) for text in texts] == [
        ("id#1", "The first sentence is here.", "doc", 5),
        ("id#3", "A second sentence follows it.", "doc", 5),
    ]
    assert dropped.rows() == [
        {"source": "files", "reason": "sentence under 3 words", "texts": 1, "examples": ["id#2"]}
    ]


@pytest.mark.parametrize(
    ("text", "rules", "reason"),
    [
        ("x", {}, "under 2 characters"),
        ("word", {"cfg": CleanConfig(min_words=2)}, "under 2 words"),
        ("three words here", {"where": {"max_words": 2}}, "over 2 words"),
        ("three words", {"where": {"max_characters": 10}}, "over 10 characters"),
        ("नमस्ते", {}, "stated en, found hi"),
        ("broken \ud83d half", {}, "broken characters"),
    ],
)
def test_what_is_dropped_says_why(text: str, rules: dict[str, Any], reason: str) -> None:
    dropped = Dropped()
    assert clean(text, dropped=dropped, **rules) == []
    assert [row["reason"] for row in dropped.rows()] == [reason]


def test_bounds_are_inclusive() -> None:
    assert clean("ab", where={"min_words": 1, "max_words": 1, "min_characters": 2, "max_characters": 2})


def naive_jaccard(a: str, b: str) -> float:
    first, second = ({t[i : i + 5] for i in range(max(len(t) - 4, 1))} for t in (a, b))
    return len(first & second) / len(first | second)


@given(st.text("abc क", min_size=1, max_size=40), st.text("abc क", min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_jaccard_equals_its_naive_twin(a: str, b: str) -> None:
    assert jaccard(a, b) == pytest.approx(naive_jaccard(a, b))


def test_near_duplicates_equal_a_search_of_all_pairs() -> None:
    stems = [
        "the potter of the village makes lamps for the festival of light",
        "a boat crosses the wide river at dawn",
    ]
    texts = [
        candidate(f"{stem} {' '.join(extra)}", number)
        for number, (stem, extra) in enumerate(
            itertools.product(stems, itertools.permutations(["slowly", "again", "today", "with songs"], 2))
        )
    ]
    for threshold in (0.6, 0.7, 0.8, 0.95):
        kept: list[Candidate] = []
        for text in texts:
            if all(naive_jaccard(text.normal_form, other.normal_form) < threshold for other in kept):
                kept.append(text)
        found, pairs = without_near_duplicates(texts, threshold, 3, set())
        assert found == kept
        assert len(found) + len(pairs) == len(texts)
        assert all(jaccard(one.normal_form, other.normal_form) >= threshold for one, other in pairs)
    assert 2 < len(kept) < len(texts) or threshold == 0.95


def test_near_duplicate_of_an_exempt_source_goes_and_exempt_texts_stay() -> None:
    base = "the potter of the village makes lamps for the festival of light"
    texts = [
        candidate(base, 0, source="free"),
        candidate(base + " now", 1, source="templates"),
        candidate(base + " again", 2, source="templates"),
    ]
    kept, pairs = without_near_duplicates(texts, 0.8, 1, {"templates"})
    assert [text.text_id for text in kept] == ["t1", "t2"]
    assert [one.text_id for one, _ in pairs] == ["t0"]


def test_different_texts_are_not_near_duplicates() -> None:
    index = NearDuplicates(0.8, 1)
    assert index.find_or_add(candidate("a boat crosses the river at dawn", 1)) is None
    assert index.find_or_add(candidate("the king wrote a letter to his minister", 2)) is None
    found = index.find_or_add(candidate("A  boat crosses the river at DAWN", 3))
    assert found is not None
    assert found.text_id == "t1"


def table(**changes: list[Any]) -> pl.DataFrame:
    columns = {
        "text_id": ["a", "b"],
        "text": ["one", "two"],
        "group": ["cultural", "control"],
        "language": ["en", "hi"],
        "source": ["s", "s"],
        "document": ["d", "d"],
        "split": ["heldout", "heldout"],
        "half": ["select", "select"],
        "state": ["x", None],
    }
    return pl.DataFrame(columns | changes)


def test_schema_accepts_facets_with_nulls() -> None:
    assert check_texts(table()).equals(table())
    assert facet_columns(table()) == ["state"]
    assert REQUIRED_COLUMNS == ("text_id", "text", "group", "language", "source", "document", "split", "half")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (table().drop("half"), "half missing"),
        (table().clear(), "found none"),
        (table(text_id=["a", "a"]), "'a' more than once"),
        (table(group=["cultural", "other"]), "found 'other'"),
        (table(split=["heldout", "test"]), "found 'test'"),
        (table(half=["select", "first"]), "found 'first'"),
        (table(language=["en", None]), "language is empty in 1 rows"),
        (table(split=["heldout", "train"]), "'d' lies in more than one split"),
        (table(half=["select", "estimate"]), "'d' lies in more than one half"),
        (table(state=[1, 2]), "found Int64 in state"),
    ],
)
def test_schema_refuses(frame: pl.DataFrame, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        check_texts(frame)
