"""A page of the report, walked whole: is each cited number what its source gives, and has each number a source?"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html.parser import HTMLParser
from math import isfinite
from pathlib import Path
from typing import Any

import polars as pl

from antar import __version__
from derive import Files

PHRASES = (
    "95% intervals",
    "95% interval",
    "Intervals are 95%",
    "95% of |d|",
    "95% of |β|",
    "middle 95%",
    "above 97.5% of",
    "SHA-256",
    "90% of its variance",
    "90% of the variance",
    "PCA-90%",
    "L0",
    "firing on 10% of texts instead of 1% is d = 0.28",
    "99th percentile",
    "counted from 0",
    "32-bit floats",
    "float32 too",
    "under 0.1% of 1,000 steps counts as dead",
    "L0 above 10 times the baseline",
    "a shift no larger than noise is 0",
    "p_max < 0.05",
    "with p < 0.05 among",
    "always saying the same has 0.50",
    "14 texts a question",
    "always saying no has 0.714",
    "has 1 and 0",
    "On a sham 0 is wanted",
    "both sides 0 holds",
    "(0.5 where the features tell nothing)",
    "(the whole interval above 0.5)",
    "(q < 0.05)",
    "q < 0.05. “Few texts”",
    "above 0.5",
    "both below 0.5",
    "near 1",
    f"Made by antar {__version__}",
)
"""Digits of the method itself: they stand in the code, and no run measured them."""

VOID = {"meta", "br", "img", "link", "input", "hr"}

# -- what is shown ------------------------------------------------------------------------------------------------

_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_NUMBER = re.compile(r"(<\s)?([+-]?[\d,]*\.?\d+)(?:×10(-?\d+))?(%)?")


def agrees(shown: str, value: Any) -> bool:
    """Is `shown` what `value` is, to the digits that are shown?"""
    if isinstance(value, float) and not isfinite(value):
        value = None
    if value is None:
        return shown in {"not measured", ""}
    if isinstance(value, bool):
        return shown == ("yes" if value else "no")
    if isinstance(value, set):
        return shown in value
    if isinstance(value, str):
        return same_text(shown, value)
    found = _NUMBER.fullmatch(
        re.sub(r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda part: part[0].translate(_SUPERSCRIPTS), shown).replace("−", "-")
    )
    if not found:
        return False
    below, digits, power, percent = found.groups()
    places = len(digits.partition(".")[2])
    scale = 10.0 ** int(power or 0) * (0.01 if percent else 1.0)
    number = float(digits.replace(",", "")) * scale
    if below:
        return value < number
    # A shown number of n places is right within half of its last one; 1,234 has none.
    return abs(number - value) <= (0.5 * 10.0**-places + 1e-9) * scale * (1 + 1e-9)


def same_text(shown: str, value: str) -> bool:
    visible = "".join(_visible(character) for character in value)
    if shown == visible or " ".join(shown.split()) == " ".join(visible.split()):
        return True
    if shown.endswith(" …"):
        return " ".join(visible.split()).startswith(shown[:-2])
    return len(shown) >= 12 and visible.startswith(shown) and re.fullmatch(r"[0-9a-f:sh]+", shown) is not None


def _visible(character: str) -> str:
    if character in "\u200c\u200d\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}:
        return character
    return f"\u27e8U+{ord(character):04X}\u27e9"


# -- the page -----------------------------------------------------------------------------------------------------


class Said(HTMLParser):
    """cited: (source, text) of each element with `data-from`; codes: texts of `code`; plain: the rest, by block."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.cited: list[tuple[str, str]] = []
        self.codes: list[str] = []
        self.plain: list[str] = [""]
        self.meters: list[dict[str, str | None]] = []
        self._open: list[tuple[str, str | None]] = []
        self._text: list[list[str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            return
        self._open.append((tag, dict(attrs).get("data-from")))
        self._text.append([])
        if tag not in {"span", "b", "bdi", "code", "small", "a"}:
            self.plain.append("")

    def handle_endtag(self, tag: str) -> None:
        name, source = self._open.pop()
        assert name == tag
        text = "".join(self._text.pop())
        if source is not None:
            self.cited.append((source, text))
        elif tag == "code":
            self.codes.append(text)
        elif self._text:
            self._text[-1].append(text)
        if tag not in {"span", "b", "bdi", "code", "small", "a"}:
            self.plain.append("")

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if "svg" in tags or "style" in tags or "title" in tags:
            return
        if self._text:
            self._text[-1].append(data)
        if "code" not in tags and not any(source for _, source in self._open):
            self.plain[-1] += data


def check_page(page: str, folder: Path, phrases: tuple[str, ...] = PHRASES) -> tuple[list[str], int]:
    """(what is wrong, how many numbers and texts were derived). Wrong: a number that its source does not give, and a
    digit that has no source and is neither a name nor one of `phrases`, the method's own."""
    files, said, wrong = Files(folder), Said(page), list[str]()
    known: dict[str, Any] = {}
    for source, text in said.cited:
        try:
            if source not in known:
                known[source] = files.derive(source)
            value = known[source]
        except (
            AssertionError,
            LookupError,
            OSError,
            ValueError,
            TypeError,
            AttributeError,
            pl.exceptions.PolarsError,
        ) as error:
            wrong.append(f"{source}: shown {text!r}, and cannot be derived: {error!r}")
            continue
        if not agrees(text, value):
            wrong.append(f"{source}: shown {text!r}, derived {value!r}")
    names = known_names(files)
    for code in said.codes:
        if re.search(r"\d", code) and not known_code(code, names):
            wrong.append(f"code without a source: {code!r}")
    for text in said.plain:
        left = without_names(text, names, phrases)
        if re.search(r"\d", left):
            wrong.append(f"a number without a source: {' '.join(text.split())[:200]!r}")
    return wrong, len(said.cited)


@dataclass
class Names:
    layers: set[str]
    features: set[str]
    texts: set[str]
    others: set[str]


def known_names(files: Files) -> Names:
    """Names with digits in them: of layers, dictionaries, features, texts, shams, facets and people's words."""
    study = files.tree("study.yaml")
    features, texts = (set[str](), set[str]())
    if (files.folder / "features/features.parquet").exists():
        frame = files.frame("features/features.parquet")
        features = set(frame["feature"]) | set(frame["dictionary"])
    dictionaries = files.folder / "dictionaries"
    if dictionaries.exists():
        features |= {path.name.replace("-", ":", 1) for path in dictionaries.iterdir()}
    if (files.folder / "corpus/texts.parquet").exists():
        texts = set(files.frame("corpus/texts.parquet")["text_id"])
    models = study["models"]
    others = {str(name) for name in ({"base": "base", "chat": "chat"} | (models.get("names") or {})).values()}
    others |= {str(name) for name in (models.get("organism") or {}).get("shams") or models.get("shams") or []}
    return Names({str(layer) for layer in study["extract"]["layers"]}, features, texts, others)


def known_code(code: str, names: Names) -> bool:
    if code in names.features or code in names.texts or code in names.others:
        return True
    if re.fullmatch(r"figures/[a-z0-9-]+\.svg", code):
        return True
    return (
        code.startswith("#") and "antar run study.yaml" in code
    )  # the commands; the version in them is checked apart


def without_names(text: str, names: Names, phrases: tuple[str, ...]) -> str:
    text = " ".join(text.split())
    for phrase in sorted(phrases, key=len, reverse=True):
        text = text.replace(phrase, " ")
    text = re.sub(
        r"[\w:]+\.layer\d+[\w.]*(/\d+)?",
        lambda found: " " if found[0].rstrip(".") in names.features else found[0],
        text,
    )
    text = re.sub(
        r"\blayers? \d+((, \d+)* and \d+)?",
        lambda found: " " if set(re.findall(r"\d+", found[0])) <= names.layers else found[0],
        text,
    )
    for name in sorted(names.others, key=len, reverse=True):
        text = text.replace(name, " ")
    return text
