"""Reading what a model wrote: the first JSON object in it, or yes or no."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

YES, NO = frozenset({"yes", "true", "हाँ", "हां"}), frozenset({"no", "false", "नहीं"})
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
TRIES = 100
"""So many braces may open an object; a model that repeats braces for ever would keep us busy for as long."""


def first_object(text: str) -> dict[str, Any] | None:
    """The JSON object that the text is, or the first in it (after a thought, in a code fence, in prose)."""
    text = _THOUGHT.sub("", text)
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(TRIES):
        if at < 0:
            break
        try:
            found, _ = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        return found if isinstance(found, dict) else None
    return None


def on_one_line(text: str) -> str:
    """Without what would move a terminal's cursor, colour it or turn its letters around; runs of spaces become one.
    Joiners stay: Devanagari is written with them."""
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" or c in _TURNING else c for c in text).split())


def is_text(answer: dict[str, Any]) -> bool:
    """False with half of a surrogate pair in it (`\\ud83e`, an emoji that was cut): UTF-8 cannot hold that."""
    try:
        json.dumps(answer, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def word_of(token: str) -> bool | None:
    """True for a token that says yes, False for one that says no."""
    bare = token.strip(" \t\r\n\"'*_`.,:;!।▁Ġ").lower()
    return True if bare in YES else False if bare in NO else None


def yes_or_no(text: str) -> bool | None:
    """By the first word."""
    words = _THOUGHT.sub("", text).split()
    return word_of(words[0]) if words else None


def yes_share(alternatives: Iterable[tuple[str, float]]) -> float | None:
    """P(yes) / (P(yes) + P(no)) over the alternatives of one token; None when neither is among them."""
    yes = no = 0.0
    for token, probability in alternatives:
        said = word_of(token)
        if said is not None:
            yes, no = (yes + probability, no) if said else (yes, no + probability)
    return yes / (yes + no) if yes + no > 0 else None
