"""The facts of a corpus that its manifest carries: counts, lengths, what was dropped, revisions, notes."""

from __future__ import annotations

from typing import Any

import polars as pl

from antar.corpora.match import word_quantiles
from antar.corpora.records import Candidate

COUNTED = ("group", "language", "source", "split")


def count_rows(texts: pl.DataFrame) -> list[dict[str, Any]]:
    """Texts and documents for each group × language × source × split."""
    return (
        texts.group_by(COUNTED)
        .agg(pl.len().alias("texts"), pl.col("document").n_unique().alias("documents"))
        .sort(COUNTED)
        .to_dicts()
    )


def length_rows(texts: list[Candidate], crosschecks: set[str]) -> list[dict[str, Any]]:
    """Quantiles of the lengths in words for each group × language; the sources `crosschecks` are a group apart."""

    def stratum(text: Candidate) -> tuple[str, str]:
        return ("cross-check" if text.source in crosschecks else text.group, text.language)

    return [
        {
            "group": group,
            "language": language,
            "words": word_quantiles([text for text in texts if stratum(text) == (group, language)]),
        }
        for group, language in sorted(set(map(stratum, texts)))
    ]
