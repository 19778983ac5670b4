"""Neutral texts that a sham learns from: sources of their own, and never a text that the study compares.

They are read, cleaned and sampled as a corpus is (the same sources, the same rules), then everything goes that the
corpus holds already: the same text, a near duplicate of one, or another text of one of its documents. So a source of
the corpus can be named again, and gives what the corpus did not take of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from antar.corpora.clean import clean_units, normal_form
from antar.corpora.config import CleanConfig, Source
from antar.corpora.near import NearDuplicates
from antar.corpora.records import Candidate, Dropped, Place
from antar.corpora.sample import Sketch, draw, priority_of
from antar.corpora.sources import open_source

_SPARE = 2
"""Candidates kept for each text wanted: room for near duplicates."""


@dataclass(frozen=True)
class NeutralTexts:
    """texts: in random order, source by source; facts: label → what its reader says of it (revision, files)."""

    texts: list[str]
    facts: dict[str, dict[str, Any]]
    dropped: list[dict[str, Any]]


def read_neutral(
    sources: Sequence[Source], clean: CleanConfig, corpus: pl.DataFrame, seed: int, place: Place
) -> NeutralTexts:
    """The texts of `sources` that are control texts and that `corpus` (its texts, documents) does not hold.

    A source with `n` gives so many of each language, drawn at random as for a corpus. Raises a UserError for files
    that cannot be read.
    """
    dropped, facts, texts = Dropped(), dict[str, dict[str, Any]](), list[str]()
    taken = set(map(normal_form, corpus["text"]))
    documents = set(corpus["document"])
    near = None if clean.near_duplicates is None else _index(corpus, clean.near_duplicates, seed)
    for source in sources:
        opened = open_source(source, place)
        facts[source.label] = {"kind": source.source, **opened.facts}
        sketches: dict[str, Sketch] = {}
        priority = priority_of(seed, source.label)
        for raw in opened.texts:
            for text in clean_units(raw, source, clean, priority, dropped):
                wanted = source.wanted(text.language)
                if reason := _unfit(text, wanted, taken, documents):
                    dropped.add(source.label, reason, text.text_id)
                    continue
                room = None if wanted is None else wanted * _SPARE
                sketches.setdefault(text.language, Sketch(room)).offer(text)
        for language, sketch in sorted(sketches.items()):
            kept = [text for text in sketch.texts() if text.normal_form not in taken]
            if near is not None and source.near_duplicates:
                kept = [text for text in kept if near.find_or_add(text) is None]
            drawn, _ = draw(kept, source.wanted(language))
            taken |= {text.normal_form for text in drawn}
            texts += [text.text for text in drawn]
    return NeutralTexts(texts, facts, dropped.rows())


def _unfit(text: Candidate, wanted: int | None, taken: set[str], documents: set[str]) -> str | None:
    if text.group != "control":
        return "not a control text"
    if wanted == 0:
        return f"language {text.language} not among those of n"
    if text.document in documents:
        return "of a document of the corpus"
    return "a text of the corpus" if text.normal_form in taken else None


def _index(corpus: pl.DataFrame, threshold: float, seed: int) -> NearDuplicates:
    index = NearDuplicates(threshold, seed)
    columns = ("text_id", "text", "group", "language", "source", "document")
    for row in corpus.select(columns).iter_rows(named=True):
        held = Candidate(**row, facets={}, normal_form=normal_form(row["text"]), priority=0, words=0)
        index.find_or_add(held, always_add=True)
    return index
