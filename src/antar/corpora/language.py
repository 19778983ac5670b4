"""Which language a text is in, from its script: enough to catch a Hindi column that holds English, and no more.

Devanagari is taken for Hindi and Latin script for English, unless the source states another language: Marathi
and Nepali are Devanagari too, and romanised Hindi is Latin. So only `en` and `hi` are checked.
"""

from __future__ import annotations

import re

CHECKED = ("en", "hi")
_DEVANAGARI = re.compile(r"[\u0900-\u0963\u0970-\u097f]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]")


def detect_language(text: str) -> str | None:
    """`hi` or `en` when at least half of the letters are Devanagari or Latin; None for another script or none."""
    # Half of all characters is at least half of the letters: that settles most texts by one look.
    devanagari = len(_DEVANAGARI.findall(text))
    if devanagari and devanagari * 2 >= len(text):
        return "hi"
    latin = len(_LATIN.findall(text))
    if latin and latin * 2 >= len(text):
        return "en"
    rest = _LATIN.sub("", _DEVANAGARI.sub("", text))
    letters = devanagari + latin + sum(character.isalpha() for character in rest)
    if letters == 0:
        return None
    if devanagari * 2 >= letters:
        return "hi"
    return "en" if latin * 2 >= letters else None


def settle_language(text: str, stated: str | None, check: bool) -> tuple[str | None, str | None]:
    """(language, problem): the stated language when the script allows it, else why the text must go."""
    if stated is not None and (not check or stated not in CHECKED):
        return stated, None
    found = detect_language(text)
    if stated is None:
        return found, None if found else "language not stated and not told by the script"
    if found == stated:
        return stated, None
    return None, f"stated {stated}, but the script is not" if found is None else f"stated {stated}, found {found}"
