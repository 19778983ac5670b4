"""SNLI: premises, which are captions of photographs. Each distinct premise is one document.

A premise stands in about three pairs; the published study kept the repeats, antar keeps one. Ids are made from the
premise itself, so that they do not depend on the order of the rows.
"""

from __future__ import annotations

from pathlib import Path

from antar.core.hashing import sha256_bytes
from antar.corpora.config import Snli
from antar.corpora.hub import Part, hub_inputs, read_parts
from antar.corpora.records import Opened, Place, RawText
from antar.corpora.rows import Row, text_of, value_of


def _part(source: Snli) -> Part:
    return Part("train", f"{source.config}/train" if source.config else "train")


def inputs(source: Snli, place: Place) -> dict[str, Path]:
    return hub_inputs(source, place, [_part(source)])


def open_source(source: Snli, place: Place) -> Opened:
    rows, facts = read_parts(source, place, [_part(source)])
    return Opened((_raw_text(source, row) for row in rows["train"]), facts)


def _raw_text(source: Snli, row: Row) -> RawText:
    premise = text_of(row, "premise") or ""
    problem = None
    if value_of(row, "label") in (-1, "-1"):
        problem = "label -1"
    elif len(premise) < source.min_characters:
        problem = f"premise under {source.min_characters} characters"
    key = f"{source.label}:{sha256_bytes(premise.encode())[:16]}"
    return RawText(key, premise, source.group, "en", key, problem=problem)
