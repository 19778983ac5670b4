"""Words of English and Hindi: marks stay in their word, spellings of one word are one, stop words go."""

from __future__ import annotations

import unicodedata

import numpy as np

from antar.interpret.words import WordIndex, content_words, normalise, stop_words, tokens


def test_devanagari_words_are_whole() -> None:
    assert tokens("ईद पर सेवइयाँ बनती हैं।") == ["ईद", "पर", "सेवइयाँ", "बनती", "हैं"]
    assert tokens("क्षत्रिय॥श्री") == ["क्षत्रिय", "श्री"]


def test_both_spellings_of_a_nukta_letter_are_one_word() -> None:
    composed, apart = "\u0958लम", "\u0915\u093cलम"
    assert composed != apart
    assert tokens(composed) == tokens(apart) == [unicodedata.normalize("NFC", apart)]


def test_joiners_choose_a_glyph_and_not_a_word() -> None:
    assert tokens("क्\u200dष") == tokens("क्ष") == tokens("क्\u200cष")


def test_other_indian_scripts_keep_their_marks() -> None:
    assert tokens("தமிழ்நாடு, বাংলাদেশ") == ["தமிழ்நாடு", unicodedata.normalize("NFC", "বাংলাদেশ")]


def test_english_is_folded_and_possessives_are_cut() -> None:
    assert tokens("Diwali’s lamps don't DIM: café-bar") == ["diwali", "lamps", "don't", "dim", "café", "bar"]
    assert normalise("  A\u00a0 b\n") == "a b"


def test_stop_words_numbers_and_single_letters_are_no_keywords() -> None:
    assert content_words(tokens("The lamp और दीया में 2024 x 3rd, they're lit")) == {"lamp", "दीया", "3rd", "lit"}
    assert {"the", "और", "में", "है"} <= stop_words()
    assert all(word == normalise(word) for word in stop_words())
    assert not any(word.startswith("#") or " " in word for word in stop_words())


def test_the_index_is_the_naive_table() -> None:
    texts = ["The lamp, the lamp!", "दीया lamp", "", "THE  lamp, the lamp!", "silk और दीया"]
    index = WordIndex.build(texts)
    assert index.words == tuple(sorted({"lamp", "दीया", "silk"}))
    naive = [[int(word in content_words(tokens(text))) for word in index.words] for text in texts]
    assert index.holds_tv.toarray().tolist() == naive
    assert index.lengths_t.tolist() == [4, 2, 0, 4, 3]
    keys = index.text_key_t
    assert keys[0] == keys[3]
    assert len(np.unique(keys)) == 4
    assert index.words_of(1) == {"lamp", "दीया"}
