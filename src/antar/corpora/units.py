"""How a long source text becomes texts: whole, by sentence, or by windows of words.

The published design compares answers of hundreds of words with captions of fourteen, so that length is part of
what it calls culture. Cutting the long source is one way out; matching lengths is the other (`match.py`).
"""

from __future__ import annotations

import re

# A sentence ends at . ! ? … or a danda, with a closing quote or bracket after it, and at every line end. This
# cuts "Dr. Rao" too: cheap, the same in both languages, and harmless for mean-pooled reading.
_BOUNDARY = re.compile(r"(?<=[.!?…।॥])\s+|(?<=[.!?…।॥][\"'”’)\]])\s+|\n+")
_WORD = re.compile(r"\S+")

MIN_SENTENCE_WORDS = 3
"""Shorter ones are list markers and headings."""


def count_words(text: str) -> int:
    return len(text.split())


def split_units(text: str, unit: str, window_words: int) -> list[str]:
    """The texts that `text` becomes. A last window under half of `window_words` goes, unless it is the only one."""
    if unit == "response":
        return [text]
    if unit == "sentence":
        return [piece.strip() for piece in _BOUNDARY.split(text) if piece.strip()]
    spans = [match.span() for match in _WORD.finditer(text)]
    starts = range(0, len(spans), window_words)
    windows = [spans[start : start + window_words] for start in starts]
    if len(windows) > 1 and len(windows[-1]) * 2 < window_words:
        windows.pop()
    return [text[window[0][0] : window[-1][1]] for window in windows]
