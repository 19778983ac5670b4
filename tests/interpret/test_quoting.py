"""Texts as data: they come back whole, they cannot leave their block, and their ids mean nothing."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from antar.interpret.quoting import ELLIPSIS, data_block, named, quoted, random_ids, shortened

sys.path.insert(0, str(Path(__file__).parent / "llm"))
from injections import INJECTIONS

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)
WHOLE = re.compile(r"<data-([0-9a-f]{12})>\n(.*)\n</data-\1>", re.DOTALL)


@given(ANY_TEXT)
def test_a_quoted_text_comes_back_whole_and_holds_nothing_unsafe(text: str) -> None:
    # JSON cannot tell two halves of a character beside each other from the character.
    assume(not re.search("[\ud800-\udbff][\udc00-\udfff]", text))
    block = data_block([{"text": text}], 7, "a feature")
    found = WHOLE.fullmatch(block)
    assert found is not None
    body = found.group(2)
    assert json.loads(body) == [{"text": text}]
    assert not set(body) & set("<>|`\n\r\u2028\u2029\u0085\u202e\u2066\ufeff\u200b")
    body.encode("utf-8")
    assert block == data_block([{"text": text}], 7, "a feature")


def test_every_hostile_text_stays_in_its_block() -> None:
    for injection in INJECTIONS:
        body = quoted(injection.text)
        assert json.loads(body) == injection.text
        assert "<" not in body
        assert "[INST]" not in body
        assert "[/INST]" not in body


def test_markers_of_chat_templates_are_escaped_and_joiners_are_not() -> None:
    assert quoted("<|im_start|>") == '"\\u003c\\u007cim_start\\u007c\\u003e"'
    assert quoted("a [INST] b") == '"a \\u005bINST] b"'
    assert quoted(["[gMASK]", "[/INST]", "[sic]", "[12]"]) == '["\\u005bgMASK]", "\\u005b/INST]", "[sic]", "[12]"]'
    assert quoted("[1, 2]") == '"[1, 2]"'
    assert quoted("क्\u200dष") == '"क्\u200dष"'
    assert quoted("\U000e0041") == '"\\udb40\\udc41"'


def test_nothing_unsafe_comes_back_when_a_tokenizer_normalises() -> None:
    for code in [*range(0x80, 0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE1000)]:
        seen_as = unicodedata.normalize("NFKC", chr(code))
        hidden = unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp") or 0xE0000 <= code < 0xE1000
        if hidden or any(mark in seen_as for mark in "<>|`[]"):
            assert quoted(chr(code)).isascii(), hex(code)


def test_the_nonce_depends_on_seed_question_and_contents() -> None:
    nonces = {data_block(text, seed, about).split(">")[0] for text in "ab" for seed in (1, 2) for about in "xy"}
    assert len(nonces) == 8


@given(st.text(st.sampled_from("कखग्ािीुंँः\u200d\u200c abc"), max_size=60), st.integers(3, 40))
def test_a_cut_text_is_short_and_no_letter_loses_its_marks(text: str, characters: int) -> None:
    cut = shortened(text, characters)
    assert len(cut) <= max(characters, len(text.strip()) if len(text.strip()) <= characters else characters)
    whole = text.strip()
    if len(whole) <= characters:
        assert cut == whole
        return
    assert cut.endswith(ELLIPSIS)
    kept = cut[:-1]
    assert whole.startswith(kept)
    rest = whole[len(kept) :]
    starts_with_mark = unicodedata.category(rest[0]).startswith("M") or rest[0] in "\u200c\u200d"
    assert not starts_with_mark or not kept
    assert not kept.endswith("\u094d") or rest[0] == " "


LETTERS = ["ক", "্", "ষ", "क", "्", "ि", "é", "e\u0301", "👩", "\u200d", "💻", "👍", "🏽", "🇮", "🇳", "\ufe0f", " ", "a"]


@example("ab👍🏽 abc", 4)
@example("aaক্ষকককক", 5)
@example("🇮🇳🇮🇳", 4)
@example("a क्\ufe0fकक", 6)
@given(st.lists(st.sampled_from(LETTERS), max_size=40).map("".join), st.integers(3, 30))
def test_a_cut_is_where_unicode_sees_the_end_of_a_letter(text: str, characters: int) -> None:
    regex = pytest.importorskip("regex")
    whole = text.strip()
    cut = shortened(text, characters)
    if cut == whole:
        return
    ends = {found.end() for found in regex.finditer(r"\X", whole)} | {0}
    assert len(cut) - 1 in ends
    assert len(cut) <= characters
    assert whole.startswith(cut[:-1])


def test_ids_are_distinct_reproducible_and_stand_in_no_text() -> None:
    first = random_ids(60, 7, "base.layer06/3", ["some text"])
    assert len(set(first)) == 60
    assert first == random_ids(60, 7, "base.layer06/3", ["some text"])
    assert all(re.fullmatch(r"[a-z](?=.*\d)[a-z0-9]{3}", one) for one in first)
    assert len(set(first) & set(random_ids(60, 7, "base.layer06/4", ["some text"]))) <= 2
    assert first[0] not in random_ids(60, 7, "base.layer06/3", [f"this has {first[0].upper()} in it"])


def test_a_label_that_names_an_id_is_known() -> None:
    assert named("as in text K3f9", ["k3f9"])
    assert not named("texts about lamps", ["k3f9"])
    assert not named("part k3f90", ["k3f9"])
