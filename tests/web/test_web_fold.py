"""Searching: one word however it was typed, and nothing that is typed is an operator."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antar.web.explore.fold import MOST_WORDS, fold, match_expression


@pytest.mark.parametrize(
    "forms",
    [
        ("क़लम", "कलम", "क\u093cलम", "\u0958लम"),  # nukta: precomposed, decomposed, left away
        ("पढ़ना", "पढना"),
        ("हिन्दी", "हिंदी", "हिँदी", "हिंदि"),  # nasals and vowel length
        ("दीवाली", "दिवाली", "दीवालि"),
        ("चम्पा", "चंपा"),
        ("पञ्च", "पंच"),
        ("गङ्गा", "गंगा"),
        ("घण्टा", "घंटा"),
        ("ऑफ़िस", "ओफिस", "औफ़िस"),
        ("क्\u200dष", "क्ष"),  # joiners
        ("१९४७", "1947", "１９４７"),
        ("Dīwālī", "diwali", "DIWALI"),
        ("STRASSE", "straße"),
        ("ড়", "ড"),
        ("ﬁre", "fire"),
    ],
)
def test_one_word_has_one_form(forms):
    assert len({fold(form) for form in forms}) == 1
    assert len({fold(unicodedata.normalize(how, form)) for form in forms for how in ("NFC", "NFD")}) == 1


@pytest.mark.parametrize(
    "different",
    [("दीवाली", "देवाली"), ("काला", "केला"), ("மலை", "மழை"), ("lamp", "lamps"), ("कमल", "कलम"), ("நான்", "நாண்")],
)
def test_different_words_stay_different(different):
    assert len({fold(word) for word in different}) == 2


def test_words_are_cut_at_punctuation_only():
    assert fold("दीवाली।रात, घर-बार").split() == [fold(w) for w in ("दीवाली", "रात", "घर", "बार")]
    assert fold("a\u200bb") == "ab" and fold("<script>x</script>").split() == ["script", "x", "script"]


@given(st.text())
def test_folding_twice_is_folding_once(text):
    assert fold(fold(text)) == fold(text)


@pytest.fixture(scope="module")
def searched():
    made = sqlite3.connect(":memory:", check_same_thread=False)
    made.execute(
        "CREATE VIRTUAL TABLE t USING fts5(body, tokenize=\"unicode61 remove_diacritics 0 categories 'L* N* M*'\")"
    )
    for row, text in enumerate(["हिंदी की क़िताब", "Diwali lamps OR fire", "தமிழ் மொழி", "বাংলা ভাষা"], 1):
        made.execute("INSERT INTO t(rowid, body) VALUES (?, ?)", (row, fold(text)))
    yield made
    made.close()


def rows(searched, asked) -> list[int]:
    expression = match_expression(asked)
    assert expression is not None
    return [row for (row,) in searched.execute("SELECT rowid FROM t WHERE t MATCH ?", (expression,))]


@pytest.mark.parametrize(
    ("asked", "found"),
    [("हिन्दी", [1]), ("किताब", [1]), ("हिं", [1]), ("हिन्दी lamps", []), ("LAMP", [2]), ('"lamps or"', [2]),
     ('"or lamps"', []), ("or", [2]), ("தமிழ்", [3]), ("ভাষা", [4]), ("NEAR(a b)", []), ("body:हिंदी", []),
     ('"', None), ("-", None), ("*", None)],
)  # fmt: skip
def test_what_is_typed_is_found(searched, asked, found):
    if found is None:
        assert match_expression(asked) is None
    else:
        assert rows(searched, asked) == found


@given(st.text(max_size=60))
def test_nothing_that_is_typed_is_an_error(searched, asked):
    if match_expression(asked) is not None:
        rows(searched, asked)


def test_many_words_are_cut():
    assert match_expression("a " * 999).count("AND") == MOST_WORDS - 1
