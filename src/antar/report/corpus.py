"""What was read: counts, lengths, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from antar.features.readings import is_first_reading
from antar.report.blocks import Block, Bullets, Column, Paragraph, Row, Section, Table
from antar.report.text import number, plural, setting
from antar.run import Run


def corpus_section(run: Run) -> Section:
    title = "The texts"
    if not run.has("corpus/texts.parquet"):
        return Section("corpus", title, [Paragraph("The corpus has not been made in this run.")])
    texts = run.texts
    manifest = run.manifest("corpus")
    facts: Mapping[str, Any] = manifest.facts if manifest is not None else {}
    dropped: list[Mapping[str, Any]] = facts.get("dropped") or []
    once = int(is_first_reading(texts).sum())
    twice = "" if once == texts.height else f", each read twice ({plural(texts.height, 'row')})"
    blocks: list[Block] = [
        Paragraph(
            f"{plural(once, 'text')} from {plural(texts['document'].n_unique(), 'document')}{twice}. Documents, "
            "never single texts, are split into training, validation and held-out parts, and into the half that "
            "selects and the half that estimates."
        ),
        _counts(texts),
    ]
    if facts.get("words"):
        blocks.append(_words(facts["words"]))
        warning = _length_warning(facts["words"])
        if warning:
            blocks.append(Paragraph(warning, "note"))
    if dropped:
        blocks.append(_dropped(dropped))
    else:
        blocks.append(Paragraph("No text was dropped." if manifest else "What was dropped is not recorded."))
    if facts.get("notes"):
        blocks.append(Bullets([str(note) for note in facts["notes"]]))
    return Section("corpus", title, blocks)


_SPLITS = {"train": "train", "val": "validation", "heldout": "held out", "crosscheck": "cross-check"}


def _counts(texts: pl.DataFrame) -> Table:
    splits = [split for split in _SPLITS if split != "crosscheck" or (texts["split"] == split).any()]
    counted = (
        texts.group_by("group", "language", "source")
        .agg(
            pl.len().alias("texts"),
            pl.col("document").n_unique().alias("documents"),
            *((pl.col("split") == split).sum().alias(split) for split in splits),
        )
        .sort("group", "language", "source", descending=[True, False, False])
    )
    columns = [Column("group", False), Column("language", False), Column("source", False), Column("texts"),
               Column("documents"), *(Column(_SPLITS[split]) for split in splits)]  # fmt: skip
    rows = [
        Row(row["group"], [row["language"], row["source"], *(number(row[name]) for name in
                           ("texts", "documents", *splits))])
        for row in counted.iter_rows(named=True)
    ]  # fmt: skip
    return Table("Texts by group, language and source", columns, rows)


_QUANTILES = {"0": "shortest", "0.5": "median", "1": "longest"}


def _words(words: list[Mapping[str, Any]]) -> Table:
    keys = list(dict.fromkeys(key for row in words for key in (row.get("words") or {})))
    columns = [Column("group", False), Column("language", False), *(Column(_quantile_name(key)) for key in keys)]
    rows = [
        Row(row["group"], [row["language"], *(setting((row.get("words") or {}).get(key)) for key in keys)])
        for row in words
    ]
    return Table("Lengths in words", columns, rows)


def _quantile_name(key: str) -> str:
    try:
        return _QUANTILES.get(key) or f"{100 * float(key):g}%"
    except ValueError:
        return key


def _length_warning(words: list[Mapping[str, Any]]) -> str | None:
    """Length is the largest confound of the published design: say so where the groups differ."""
    medians = {(row["group"], row["language"]): (row.get("words") or {}).get("0.5") for row in words}
    told: list[str] = []
    for (group, language), median in sorted(medians.items()):
        other = medians.get(("control", language))
        if group == "cultural" and median and other and not 2 / 3 <= median / other <= 1.5:
            told.append(f"{language}: {number(median)} words against {number(other)}")
    if not told:
        return None
    return (
        "Cultural and control texts differ in length ("
        + "; ".join(told)
        + "), so length, genre and topic are part of what the culture contrast calls culture. Matching controls "
        "in length (corpus.match) or cutting long texts (unit) removes the first of these."
    )


def _dropped(dropped: list[Mapping[str, Any]]) -> Table:
    columns = [Column("source", False), Column("reason", False), Column("texts"), Column("for example", False)]
    rows = [
        Row(
            str(row["source"]),
            [str(row["reason"]), number(row["texts"]), ", ".join(map(str, row.get("examples") or []))],
        )
        for row in dropped
    ]
    return Table("What was dropped, and why", columns, rows)
