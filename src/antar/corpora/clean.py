"""Cleaning: one spelling for what looks the same, bounds on length, and the form that exact duplicates share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from antar.corpora.config import CleanConfig, SourceConfig, Where
from antar.corpora.language import settle_language
from antar.corpora.records import Candidate, Dropped, RawText
from antar.corpora.units import MIN_SENTENCE_WORDS, count_words, split_units

_BREAKS = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
# Control characters, soft hyphen, zero-width space, word joiner, byte-order mark. The zero-width joiners stay:
# in Devanagari they choose the shape of a conjunct.
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]+")
_LINE_EDGES = re.compile(r" ?\n ?")
_GAPS = re.compile(r"\n{3,}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def normalise(text: str) -> str:
    """NFC; one kind of line break and of space; no invisible characters; at most one empty line; no edges."""
    text = _INVISIBLE.sub("", _BREAKS.sub("\n", unicodedata.normalize("NFC", text)))
    return _GAPS.sub("\n\n", _LINE_EDGES.sub("\n", _SPACES.sub(" ", text))).strip()


def normal_form(text: str) -> str:
    """What two texts share when they are exact duplicates: case and the layout of white space do not count."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def out_of_bounds(text: str, words: int, bounds: CleanConfig | Where) -> str | None:
    """Why `text` is too short or too long for `bounds`; None when it is not."""
    if bounds.min_characters is not None and len(text) < bounds.min_characters:
        return f"under {bounds.min_characters} characters"
    if bounds.max_characters is not None and len(text) > bounds.max_characters:
        return f"over {bounds.max_characters} characters"
    if bounds.min_words is not None and words < bounds.min_words:
        return f"under {bounds.min_words} words"
    if bounds.max_words is not None and words > bounds.max_words:
        return f"over {bounds.max_words} words"
    return None


def clean_units(
    raw: RawText, source: SourceConfig, cfg: CleanConfig, priority: Callable[[str], int], dropped: Dropped
) -> Iterator[Candidate]:
    """The clean texts that `raw` becomes; what is left out goes to `dropped` with its reason."""
    if raw.problem is not None:
        dropped.add(source.label, raw.problem, raw.text_id)
        return
    if _SURROGATE.search(raw.text):
        dropped.add(source.label, "broken characters", raw.text_id)
        return
    pieces = split_units(normalise(raw.text), source.unit, source.window_words)
    for number, text in enumerate(pieces, start=1):
        text_id = raw.text_id if source.unit == "response" else f"{raw.text_id}#{number}"
        words = count_words(text)
        problem = out_of_bounds(text, words, cfg) or out_of_bounds(text, words, source.where)
        if problem is None and source.unit == "sentence" and words < MIN_SENTENCE_WORDS:
            problem = f"sentence under {MIN_SENTENCE_WORDS} words"
        language = None
        if problem is None:
            language, problem = settle_language(text, raw.language, cfg.detect_language)
        if problem is not None or language is None:
            dropped.add(source.label, problem or "language unknown", text_id)
            continue
        form = normal_form(text)
        yield Candidate(
            text_id=text_id,
            text=text,
            group=raw.group,
            language=language,
            source=source.label,
            document=raw.document,
            facets=raw.facets,
            normal_form=form,
            priority=priority(form),
            words=words,
        )
