"""The IIT Bombay English-Hindi corpus: its Hindi sentences of 10 to 50 words.

The corpus begins with software messages and goes on by genre, so a sample must see all of it: its 1.6 million rows
are streamed whole. Ids are made from the sentence itself, so that they do not depend on the order of the rows.
"""

from __future__ import annotations

from pathlib import Path

from antar.core.errors import UserError
from antar.core.hashing import sha256_bytes
from antar.corpora.config import Iitb
from antar.corpora.hub import Part, hub_inputs, read_parts
from antar.corpora.records import Opened, Place, RawText
from antar.corpora.rows import Row, value_of
from antar.corpora.units import count_words

_TRAIN = Part("train", "data/train")


def inputs(source: Iitb, place: Place) -> dict[str, Path]:
    return hub_inputs(source, place, [_TRAIN])


def open_source(source: Iitb, place: Place) -> Opened:
    rows, facts = read_parts(source, place, [_TRAIN])
    return Opened((_raw_text(source, row) for row in rows["train"]), facts)


def _raw_text(source: Iitb, row: Row) -> RawText:
    pair = value_of(row, "translation")
    sentence = pair.get("hi") if isinstance(pair, dict) else None
    if not isinstance(sentence, str):
        raise UserError(f"{row.where}: expected translation as {{en, hi}}, found {type(pair).__name__} without hi")
    inside = source.min_words <= count_words(sentence) <= source.max_words
    key = f"{source.label}:{sha256_bytes(sentence.encode())[:16]}"
    problem = None if inside else f"not of {source.min_words} to {source.max_words} words"
    return RawText(key, sentence, source.group, "hi", key, problem=problem)
