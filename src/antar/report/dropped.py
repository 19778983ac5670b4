"""What is not in the numbers, and why: texts, latents, effects, labels, contrasts and languages left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from antar.core.sites import DictionaryId
from antar.report.blocks import Block, Bullets, Cell, Column, Folded, Heading, Paragraph, Row, Section, Table
from antar.report.effects import KINDS, MEANINGS
from antar.report.method import pick
from antar.report.sources import CONTRASTS, FEATURES, LABELS, TEXTS, VERDICTS, at, number, percent, quoted, setting
from antar.report.words import Prose, counted, joined, listed, told
from antar.run import Run

_CORPUS = ("corpus/manifest.json", "facts")


def dropped_section(run: Run) -> Section:
    blocks: list[Block] = [Heading("Texts"), *_texts(run), Heading("Features"), *_latents(run), *_effects(run)]
    blocks += [Heading("Labels"), *_labels(run), Heading("Comparisons that are not there"), Bullets(_undefined(run))]
    return Section("dropped", "What was dropped, and why", blocks)


def _texts(run: Run) -> list[Block]:
    manifest = run.manifest("corpus")
    if manifest is None:
        return [Paragraph("What was dropped from the texts is not recorded.")]
    facts: Mapping[str, Any] = manifest.facts
    dropped: list[Mapping[str, Any]] = facts.get("dropped") or []
    blocks: list[Block] = [_table(dropped)] if dropped else [Paragraph("No text was dropped in cleaning.")]
    notes = [quoted(note, at(*_CORPUS, "notes", i)) for i, note in enumerate(facts.get("notes") or [])]
    if notes:
        blocks.append(Bullets(notes))
    cut, outliers = pick(run.study, "extract", "max_tokens"), pick(run.study, "extract", "outliers")
    blocks.append(
        Paragraph(
            told(
                "Texts are read up to {} tokens; what is longer is cut. Special tokens are left out of every "
                "vector{}.",
                setting(cut, at("study.yaml", "extract", "max_tokens")),
                ", and so are tokens of outlying norm" if outliers else "",
            ),
            "note",
        )
    )
    return blocks


def _table(dropped: list[Mapping[str, Any]]) -> Table:
    columns = [Column("source", False), Column("reason", False), Column("texts"), Column("for example", False)]
    rows: list[Row] = []
    for i, row in enumerate(dropped):
        here = (*_CORPUS, "dropped", i)
        examples = [quoted(one, at(*here, "examples", j)) for j, one in enumerate(row.get("examples") or [])]
        cells: list[Cell] = [
            quoted(row["reason"], at(*here, "reason")),
            number(row["texts"], at(*here, "texts")),
            joined(examples, ", "),
        ]
        rows.append(Row(quoted(row["source"], at(*here, "source")), cells))
    return Table("Texts that were dropped in cleaning", columns, rows)


def _latents(run: Run) -> list[Block]:
    if not run.has("features/features.parquet"):
        return [Paragraph("Features have not been read in this run.")]
    per = run.features.group_by("dictionary", maintain_order=True).agg(
        pl.len().alias("latents"), (~pl.col("live")).sum().alias("dead")
    )
    rows: list[Row] = []
    for row in per.iter_rows(named=True):
        its = FEATURES.where(dictionary=row["dictionary"])
        dead = its.where("!live")
        cells: list[Cell] = [
            number(row["latents"], its.get("count")),
            number(row["dead"], dead.get("count")),
            percent(row["dead"] / row["latents"], f"{dead.get('count')} / {its.get('count')}"),
        ]
        rows.append(Row(row["dictionary"], cells, null=DictionaryId.parse(row["dictionary"]).is_null))
    columns = [Column("dictionary", False), Column("latents"), Column("dead"), Column("share")]
    total, dead = FEATURES.get("count"), FEATURES.where("!live").get("count")
    said = told(
        "{} of {} latents of all dictionaries, the nulls’ too, are dead: they fire on no (or too few) training "
        "texts, and are "
        "in no count, label or test.",
        number(int((~run.features["live"]).sum()), dead),
        number(run.features.height, total),
    )
    table = Table("Dead latents of each dictionary", columns, rows, "Shaded rows: a sham's delta, a baseline.")
    return [Paragraph(said), Folded("Dead latents of each dictionary", [table])]


def _effects(run: Run) -> list[Block]:
    if not run.has("features/contrasts.parquet") or run.contrasts.is_empty():
        return []
    real = run.contrasts.filter(pl.col("null") == "")
    least = setting(pick(run.study, "contrasts", "warn_under"), at("study.yaml", "contrasts", "warn_under"))
    few, its = real.filter(pl.col("few")), CONTRASTS.where("few", null="")
    count = number(few.height, its.get("count"))
    facets = number(few.filter(pl.col("contrast") == "facet").height, its.where(contrast="facet").get("count"))
    undefined = real.filter(pl.col("d_av").is_null() | pl.col("d_av").is_nan())
    missing = number(undefined.height, CONTRASTS.where("!d_av", null="").get("count"))
    tests = number(real.height, CONTRASTS.where(null="").get("count"))
    return [
        Paragraph(
            told(
                "Of {} tests of the study's own, {} are marked “few” (a group of fewer than {} texts; {} of them of "
                "facets): they "
                "are shown with that mark, and uncertain. {} have no effect size, since nothing varies or one group "
                "is "
                "empty; they are counted nowhere. Latents that fire on no compared text are not tested.",
                tests,
                count,
                least,
                facets,
                missing,
            )
        )
    ]


def _labels(run: Run) -> list[Block]:
    if not run.has("interpret/labels.jsonl"):
        return [Paragraph("No feature has been labelled, so no label was dropped.")]
    labels = run.labels
    failed = labels.filter(pl.col("failed").is_not_null()).height
    empty = labels.filter(pl.col("label").is_null() & pl.col("failed").is_null()).height
    said: Prose = told(
        "Of {} labelled features {} have texts with nothing in common (“incoherent”) and {} calls failed; neither "
        "has a label. ",
        number(labels.height, LABELS.get("count")),
        number(empty, LABELS.where("!label", "!failed").get("count")),
        number(failed, LABELS.where("failed").get("count")),
    )
    if not run.has("interpret/verdicts.jsonl"):
        return [Paragraph(said + "No label was validated.")]
    verdicts = run.verdicts
    cells = [
        told(
            "{} {}", number(int((verdicts["verdict"] == name).sum()), VERDICTS.where(verdict=name).get("count")), name
        )
        for name in ("KEEP", "REVISE", "INVALIDATE")
    ]
    more = told(
        "The validator's verdicts: {}. A label that it calls INVALIDATE is shown with that verdict and its reason, "
        "and "
        "counts in every score: bad labels are not taken out of the mean.",
        listed(cells),
    )
    return [Paragraph(said + more)]


_WHY = {
    "shift": (
        "it needs one dictionary that encodes both models (trained on one side and read on both, joint, or "
        "a crosscoder)"
    ),
    "culture": "it needs cultural and control texts of one language",
    "interaction": (
        "it is asked where a shift is defined and there are controls; on a delta dictionary culture "
        "is the same question"
    ),
    "facet": "the study names no facet (`contrasts: facets:`), or no value of one has texts enough",
}


def _undefined(run: Run) -> list[Prose]:
    if not run.has("features/contrasts.parquet"):
        return ["No contrast has been measured in this run."]
    there = set(run.contrasts["contrast"].unique()) if run.contrasts.height else set[str]()
    found: list[Prose] = [
        f"{kind} ({MEANINGS[kind].rstrip('?')}) was not measured: {_WHY[kind]}."
        for kind in KINDS
        if kind not in there
    ]
    found.append(
        "Latents of dictionaries that were trained apart are never compared by their number: they share no index. "
        "What is "
        "compared is one dictionary on two sides, or a dictionary of the difference."
    )
    found += _languages(run)
    nulls = set(run.contrasts["null"].unique()) if run.contrasts.height else set[str]()
    if not any(null.startswith("sham:") for null in nulls):
        found.append("No sham stands beside the effects: the study has none.")
    return found


def _languages(run: Run) -> list[Prose]:
    """Languages of the corpus that no contrast speaks of, and texts that stay out of every contrast."""
    found: list[Prose] = []
    compared = set(run.contrasts["language"].unique()) if run.contrasts.height else set[str]()
    for language in sorted(set(run.texts["language"].unique()) - compared):
        count = number(
            run.texts.filter(pl.col("language") == language).height, TEXTS.where(language=language).get("count")
        )
        found.append(
            told(
                "No contrast was measured in {} ({}): a comparison needs held-out texts of both groups in both "
                "halves.",
                language,
                counted(count, "text"),
            )
        )
    cross = run.texts.filter(pl.col("split") == "crosscheck").height
    if cross:
        count = number(cross, TEXTS.where(split="crosscheck").get("count"))
        found.append(
            told("{} of the cross-check took no part in training, choosing or contrasting.", counted(count, "text"))
        )
    return found
