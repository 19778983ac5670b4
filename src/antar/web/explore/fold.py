"""Texts and queries brought to one form for searching, so that a word is found however it was typed.

For every script: compatibility forms, case, accents, digits, invisible characters and the nukta of the Indic
scripts fall away (क़ and क, ড় and ড, é and e, ५ and 5 are one). For Devanagari spelling variants of one word fall
together as in Larkey, Connell and Abduljaleel, "Hindi CLIR in thirty days" (2003), which Lucene's HindiNormalizer
follows: nasal signs and nasal consonants before a consonant (हिन्दी, हिंदी), long and short vowels (दीवाली, दिवाली),
candra vowels, and the virama. It merges a few words that differ in nothing else, which is what a search wants.
"""

from __future__ import annotations

import re
import unicodedata

NUKTAS = "\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc"
_VIRAMA = "\u094d"
_NASAL = re.compile(
    f"ङ{_VIRAMA}(?=[क-घ])|ञ{_VIRAMA}(?=[च-झ])|ण{_VIRAMA}(?=[ट-ढ])|न{_VIRAMA}(?=[क-भ])|म{_VIRAMA}(?=[प-भ])"
)
_DEVANAGARI = str.maketrans({
    "ँ": "ं", "ऄ": "अ", "ॲ": "अ", "आ": "अ", "ई": "इ", "ऊ": "उ", "ॠ": "ऋ", "ॡ": "ऌ",
    "ऍ": "ए", "ऎ": "ए", "ऐ": "ए", "ऑ": "ओ", "ऒ": "ओ", "औ": "ओ",
    "ी": "ि", "ू": "ु", "ॄ": "ृ", "ॣ": "ॢ", "ॅ": "े", "ॆ": "े", "ै": "े", "ॉ": "ो", "ॊ": "ो", "ौ": "ो",
    _VIRAMA: None,
})  # fmt: skip
_LETTERS = {"L", "N", "M"}
MOST_WORDS = 12


def fold(text: str) -> str:
    """`text` as it is searched. Folding twice changes nothing; parts that were joined by a space stay apart."""
    # Decomposed, so that accents and nuktas stand alone; nothing is composed again, since both sides are folded.
    loose = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = "".join(_plain(character) for character in loose)
    return _NASAL.sub("ं", kept).translate(_DEVANAGARI)


def _plain(character: str) -> str:
    if character in NUKTAS or "\u0300" <= character <= "\u036f":
        return ""
    kind = unicodedata.category(character)
    if kind == "Cf":  # joiners, soft hyphens, direction marks: part of no word, and between no words
        return ""
    if kind == "Nd":
        return str(unicodedata.decimal(character))
    return character if kind[0] in _LETTERS else " "


def match_expression(asked: str) -> str | None:
    """An FTS5 expression for what a reader typed: all words, each also as a beginning; "words in quotes" together.

    None where nothing that could be searched for was typed. No input is an error, and none is an operator.
    """
    terms: list[str] = []
    for place, part in enumerate(asked.split('"')):
        words = fold(part).split()
        if place % 2 and len(words) > 1:
            terms.append(f'"{" ".join(words)}"')
        else:
            terms += [f'"{word}"*' for word in words]
    return " AND ".join(terms[:MOST_WORDS]) or None
