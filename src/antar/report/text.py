"""How numbers and texts are written on a page: rounded the same way everywhere, and in their own script.

Texts come from data sets and are hostile until proven otherwise. The templates escape them; what is here makes
characters visible that would change the page without being seen (controls, bidirectional overrides), and leaves
everything that a script needs (the joiners of Devanagari) as it is.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from antar.report.words import parts_of

NOT_MEASURED = "not measured"
LONG_TEXT = 280
_JOINERS = {"\u200c", "\u200d"}
_DEVANAGARI = re.compile(r"[\u0900-\u097f\ua8e0-\ua8ff]")
_LATIN = re.compile(r"[A-Za-z]")


def number(value: Any, digits: int = 3) -> str:
    """`value` to `digits` significant digits; a dash of words where it was not measured."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, int) or value == 0:
        return f"{int(value):,}".replace("-", "\u2212")
    size = abs(float(value))
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa}×10{_superscript(int(exponent))}"
    else:
        text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
    return text.replace("-", "\u2212")


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def setting(value: Any) -> str:
    """A number that somebody chose, as they wrote it: 0.8 and not 0.800."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        tiny = 0 < abs(value) < 1e-4
        return number(value) if isinstance(value, int) or tiny else f"{value:.6g}".replace("-", "\u2212")
    return number(value)


def fixed(value: Any, places: int = 2) -> str:
    """`value` with `places` decimals: for columns that are read downwards, such as effect sizes."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:.{places}f}".replace("-", "\u2212")


def small(value: Any) -> str:
    """A p or q: three decimals, and never zero."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: Any, places: int = 1) -> str:
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{100 * value:.{places}f}%".replace("-", "\u2212")


def interval(ends: Sequence[Any] | None, digits: int = 3) -> str:
    """`[low, high]`, or nothing where there is no interval."""
    if ends is None or any(end is None or not math.isfinite(end) for end in ends):
        return ""
    return f"[{number(ends[0], digits)}, {number(ends[1], digits)}]"


def shown(text: Any) -> str:
    """`text` with every invisible control made visible as its code point; joiners and line ends stay."""
    return "".join(_visible(character) for character in str(text))


def _visible(character: str) -> str:
    if character in _JOINERS or character in "\n\t":
        return character
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}:
        return f"\u27e8U+{ord(character):04X}\u27e9"
    return character


def language_of(text: Any, stated: str | None = None) -> str | None:
    """The `lang` of a text: as stated by its corpus, else Hindi where it is written in Devanagari alone."""
    if stated and re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", stated):
        return stated
    found = str(text)
    return "hi" if _DEVANAGARI.search(found) and not _LATIN.search(found) else None


def runs_of_script(text: Any) -> list[tuple[str, str | None]]:
    """`text` cut into runs, each with its `lang`: Devanagari runs are Hindi, the rest is the page's own."""
    parts = re.split(
        r"([\u0900-\u097f\ua8e0-\ua8ff\u200c\u200d]+(?:[\s,.।]+[\u0900-\u097f\ua8e0-\ua8ff\u200c\u200d]+)*)",
        shown(text),
    )
    return [(part, "hi" if _DEVANAGARI.search(part) else None) for part in parts if part]


def pieces(text: Any) -> list[tuple[str | None, list[tuple[str, str | None]]]]:
    """The parts of a text with their source (`words.py`), each cut into runs of script."""
    return [
        (getattr(part, "source", None), runs_of_script(part))
        for part in parts_of(text if isinstance(text, str) else str(text))
    ]


def opening(text: str, length: int = 160) -> str:
    """The first words of a long text, for the line that unfolds it."""
    clean = " ".join(shown(text).split())
    if len(clean) <= length:
        return clean
    return clean[:length].rsplit(" ", 1)[0] + " …"


def plain_for_figures(text: str, otherwise: str) -> str:
    """`text` where the figures' font can draw it (Latin and Greek), else `otherwise`: figures hold no Devanagari."""
    return text if all(ord(character) < 0x400 for character in text) else otherwise


def listing(items: Sequence[Any], last: str = "and") -> str:
    """`a, b and c`."""
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else "none"


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
