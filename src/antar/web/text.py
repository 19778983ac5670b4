"""Texts on pages: cut only between graphemes, and every sign that would act unseen shown as its code point."""

from __future__ import annotations

import unicodedata
from typing import Any

import regex

from antar.report.text import shown as visible

_GRAPHEME = regex.compile(r"\X")


def shown(text: Any) -> str:
    """`text` with controls, direction marks and signs that are no characters visible; joiners and line ends stay."""
    return "".join(_character(c) for c in visible(text))


def _character(character: str) -> str:
    # Noncharacters and unassigned signs: XML takes none of the former, and nobody sees either.
    return f"\u27e8U+{ord(character):04X}\u27e9" if unicodedata.category(character) == "Cn" else character


def clip(text: Any, length: int) -> str:
    """The first `length` graphemes, with a sign that there are more."""
    clean = " ".join(shown(text).split())
    parts = [found.group() for _, found in zip(range(length + 1), _GRAPHEME.finditer(clean), strict=False)]
    return clean if len(parts) <= length else "".join(parts[: length - 1]).rstrip() + "…"


def opening(text: Any, length: int = 160) -> str:
    """The first words of a long text, up to `length` graphemes; a single long word is cut between graphemes."""
    cut = clip(text, length)
    if not cut.endswith("…"):
        return cut
    words = cut[:-1].rsplit(" ", 1)[0]
    return (words if len(words) > len(cut) // 2 else cut[:-1]) + " …"
