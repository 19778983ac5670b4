"""What was read: counts, lengths, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from antar.features.readings import is_first_reading
from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table
from antar.report.sources import TEXTS, at, number, quoted, setting
from antar.report.words import Prose, counted, joined, told
from antar.run import Run


def corpus_section(run: Run) -> Section:
    title = "The texts"
    if not run.has("corpus/texts.parquet"):
        return Section("corpus", title, [Paragraph("The corpus has not been made in this run.")], appendix=True)
    texts = run.texts
    manifest = run.manifest("corpus")
    facts: Mapping[str, Any] = manifest.facts if manifest is not None else {}
    once = counted(number(int(is_first_reading(texts).sum()), TEXTS.get("first_readings")), "text")
    rows = counted(number(texts.height, TEXTS.get("count")), "row")
    twice = "" if rows.split()[0] == once.split()[0] else told(", each read twice ({})", rows)
    documents = number(texts["document"].n_unique(), TEXTS.get("distinct:document"))
    blocks: list[Block] = [
        Paragraph(
            told(
                "{} from {}{}. Documents, never single texts, are split into training, validation and held-out "
                "parts, "
                "and into the half that selects and the half that estimates.",
                once,
                counted(documents, "document"),
                twice,
            )
        ),
        _counts(texts),
    ]
    if facts.get("words"):
        blocks.append(_words(facts["words"]))
        warning = _length_warning(facts["words"])
        if warning:
            blocks.append(Paragraph(warning, "note"))
    return Section("corpus", title, blocks, appendix=True)


_FACTS = ("corpus/manifest.json", "facts")
_SPLITS = {"train": "train", "val": "validation", "heldout": "held out", "crosscheck": "cross-check"}


def _counts(texts: pl.DataFrame) -> Table:
    splits = [split for split in _SPLITS if split != "crosscheck" or (texts["split"] == split).any()]
    table = (
        texts.group_by("group", "language", "source")
        .agg(
            pl.len().alias("texts"),
            pl.col("document").n_unique().alias("documents"),
            *((pl.col("split") == split).sum().alias(split) for split in splits),
        )
        .sort("group", "language", "source", descending=[True, False, False])
    )
    columns = [
        Column("group", False),
        Column("language", False),
        Column("source", False),
        Column("texts"),
        Column("documents"),
        *(Column(_SPLITS[split]) for split in splits),
    ]
    rows: list[Row] = []
    for row in table.iter_rows(named=True):
        its = TEXTS.where(group=row["group"], language=row["language"], source=row["source"])
        taken = {"texts": its.get("count"), "documents": its.get("distinct:document")}
        cells: list[Cell] = [row["language"], quoted(row["source"], f"{its.get('source')}:any")]
        cells += [
            number(row[name], taken.get(name) or its.where(split=name).get("count"))
            for name in ("texts", "documents", *splits)
        ]
        rows.append(Row(row["group"], cells))
    return Table("Texts by group, language and source", columns, rows)


_QUANTILES = {
    "0": "shortest",
    "0.05": "twentieth",
    "0.25": "first quartile",
    "0.5": "median",
    "0.75": "third quartile",
    "0.95": "all but a twentieth",
    "1": "longest",
}


def _words(words: list[Mapping[str, Any]]) -> Table:
    keys = list(dict.fromkeys(key for row in words for key in (row.get("words") or {})))
    columns = [Column("group", False), Column("language", False), *(Column(_quantile_name(key)) for key in keys)]
    rows = [
        Row(
            row["group"],
            [
                row["language"],
                *(setting((row.get("words") or {}).get(key), at(*_FACTS, "words", i, "words", key)) for key in keys),
            ],
        )
        for i, row in enumerate(words)
    ]
    return Table("Lengths in words", columns, rows)


def _quantile_name(key: str) -> str:
    try:
        return _QUANTILES.get(key) or f"{100 * float(key):g}%"
    except ValueError:
        return key


def _length_warning(words: list[Mapping[str, Any]]) -> Prose | None:
    """Length is the largest confound of the published design: say so where the groups differ."""
    medians = {
        (row["group"], row["language"]): (i, (row.get("words") or {}).get("0.5")) for i, row in enumerate(words)
    }
    lines: list[Prose] = []
    for (group, language), (i, median) in sorted(medians.items()):
        j, other = medians.get(("control", language), (0, None))
        if group == "cultural" and median and other and not 2 / 3 <= median / other <= 1.5:
            both = (
                number(value, at(*_FACTS, "words", where, "words", "0.5"))
                for where, value in ((i, median), (j, other))
            )
            lines.append(told("{}: {} words against {}", language, *both))
    if not lines:
        return None
    return told(
        "Cultural and control texts differ in length ({}), so length, genre and topic are part of what the culture "
        "contrast "
        "calls culture. Matching controls in length (corpus.match) or cutting long texts (unit) removes the first of "
        "these.",
        joined(lines, "; "),
    )
