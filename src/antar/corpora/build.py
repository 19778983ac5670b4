"""The corpus stage: read the sources, clean, drop duplicates, sample, match, split, and say what was done.

The result depends on the texts, the config and the seed, not on the order of files or rows. When an exact or near
duplicate has to go, a cultural text is kept before a control text, then the source that comes first in the study
file, then the text whose random priority is smaller.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import polars as pl

from antar.core.errors import UserError
from antar.core.progress import PLAIN_SECONDS, say
from antar.corpora.clean import clean_units
from antar.corpora.config import CorpusConfig, Source
from antar.corpora.facts import count_rows, length_rows
from antar.corpora.mask import masked_copies
from antar.corpora.match import matched_draw
from antar.corpora.near import without_near_duplicates
from antar.corpora.records import Candidate, Dropped, Place, RawText
from antar.corpora.sample import Sketch, Stratum, draw, priority_of
from antar.corpora.schema import REQUIRED_COLUMNS, check_texts
from antar.corpora.sources import open_source, source_inputs
from antar.corpora.split import assign_splits, half_of

# How many candidates a stratum keeps for each text wanted: room for duplicates across sources, and enough to
# choose lengths from when controls are matched.
SPARE, SPARE_TO_MATCH = 2, 20


@dataclass(frozen=True)
class Corpus:
    """texts: one row a text (`antar.corpora.schema`); facts: JSON-able, for the manifest and the report."""

    texts: pl.DataFrame
    facts: dict[str, Any]


def local_inputs(
    cfg: CorpusConfig, study_folder: Path, from_folder: Path | None = None, organism_texts: Path | None = None
) -> dict[str, Path]:
    """Label → every local file that `build_corpus` will read. Sends nothing anywhere."""
    place = Place(study_folder, from_folder, organism_texts)
    return {label: path for source in cfg.sources for label, path in source_inputs(source, place).items()}


def build_corpus(
    cfg: CorpusConfig,
    *,
    seed: int,
    study_folder: Path,
    from_folder: Path | None = None,
    organism_texts: Path | None = None,
) -> Corpus:
    """Make the corpus of a study. Raises a UserError for a missing file or column, an unreachable hub, an empty
    corpus, or a language that has cultural texts and no controls."""
    place = Place(study_folder, from_folder, organism_texts)
    dropped, source_facts, notes = Dropped(), {}, []
    strata: dict[Stratum, list[Candidate]] = {}
    for source in cfg.sources:
        sketches, source_facts[source.label], source_notes = _read_source(source, cfg, seed, place, dropped)
        notes += source_notes
        for stratum, sketch in sketches.items():
            strata[stratum] = sketch.texts()
            sketch.report(source.label, dropped)
    strata = _without_duplicates(cfg, strata, seed, dropped)
    texts, sampling, matching = _sample(cfg, strata, dropped)
    _check_groups(cfg, texts, strata)
    texts = _unique_ids(_in_order(cfg, texts))
    copies, masking = masked_copies(texts, cfg.sources)
    frame, split_notes = _frame(cfg, [*texts, *copies], seed)
    facts = {
        "counts": count_rows(frame),
        "dropped": dropped.rows(),
        "words": length_rows(texts, _crosschecks(cfg)),
        "sampling": sampling,
        "match": matching,
        "masked": masking,
        "sources": source_facts,
        "notes": notes + split_notes + _shortfall_notes(sampling, matching) + _masking_notes(masking),
    }
    return Corpus(check_texts(frame, "corpus"), facts)


def _read_source(
    source: Source, cfg: CorpusConfig, seed: int, place: Place, dropped: Dropped
) -> tuple[dict[Stratum, Sketch], dict[str, Any], list[str]]:
    opened = open_source(source, place)
    priority = priority_of(seed, source.label)
    matched = cfg.match is not None and "length" in cfg.match.on
    sketches: dict[Stratum, Sketch] = {}
    read = 0
    for raw in _telling(source.label, opened.texts):
        read += 1
        for text in clean_units(raw, source, cfg.clean, priority, dropped):
            wanted = source.wanted(text.language)
            if wanted == 0:
                dropped.add(source.label, f"language {text.language} not among those of n", text.text_id)
                continue
            stratum = (text.source, text.group, text.language)
            if stratum not in sketches:
                spare = SPARE_TO_MATCH if matched and text.group == "control" else SPARE
                sketches[stratum] = Sketch(None if wanted is None else wanted * spare)
            sketches[stratum].offer(text)
    return sketches, {"kind": source.source, "rows_read": read, **opened.facts}, opened.notes


def _telling(label: str, texts: Any) -> Iterator[RawText]:
    """Pass the texts on; a long read says every few seconds how far it is (its length is not known)."""
    spoke = monotonic()
    for number, text in enumerate(texts, start=1):
        yield text
        if number % 1000 == 0 and monotonic() - spoke > PLAIN_SECONDS:
            spoke = monotonic()
            say(f"  corpus: {label}: {number:,} rows read")


def _without_duplicates(
    cfg: CorpusConfig, strata: dict[Stratum, list[Candidate]], seed: int, dropped: Dropped
) -> dict[Stratum, list[Candidate]]:
    """Drop what repeats a text of another stratum exactly, and near duplicates within and across strata."""
    order = {source.label: number for number, source in enumerate(cfg.sources)}
    pooled = sorted(
        (text for texts in strata.values() for text in texts),
        key=lambda text: (text.group != "cultural", order[text.source], text.priority, text.rank),
    )
    first: dict[str, Candidate] = {}
    kept: list[Candidate] = []
    for text in pooled:
        other = first.setdefault(text.normal_form, text)
        if other is text:
            kept.append(text)
        else:
            dropped.add(text.source, _reason("exact duplicate", text, other), text.text_id)
    exempt = {source.label for source in cfg.sources if not source.near_duplicates}
    if cfg.clean.near_duplicates is not None and exempt != set(order):
        kept, pairs = without_near_duplicates(kept, cfg.clean.near_duplicates, seed, exempt)
        for text, other in pairs:
            dropped.add(text.source, _reason("near duplicate", text, other), text.text_id)
    left: dict[Stratum, list[Candidate]] = {stratum: [] for stratum in strata}
    for text in kept:
        left[(text.source, text.group, text.language)].append(text)
    return left


def _reason(kind: str, text: Candidate, other: Candidate) -> str:
    if text.group != other.group:
        return f"{kind} of a {other.group} text"
    return kind if text.source == other.source else f"{kind} of a text of {other.source}"


def _sample(
    cfg: CorpusConfig, strata: dict[Stratum, list[Candidate]], dropped: Dropped
) -> tuple[list[Candidate], list[dict[str, Any]], list[dict[str, Any]]]:
    """(texts, sampling facts, matching facts): cultural strata first, since controls may be matched to them."""
    sources = {source.label: source for source in cfg.sources}
    texts: list[Candidate] = []
    cultural: list[Candidate] = []
    sampling: list[dict[str, Any]] = []
    matching: list[dict[str, Any]] = []
    for stratum in sorted(strata, key=lambda stratum: (stratum[1] != "cultural", stratum)):
        label, group, language = stratum
        wanted = sources[label].wanted(language)
        taken, left = draw(strata[stratum], wanted)
        if group == "cultural":
            # A cross-check has a matching of its own (features/crosscheck.py); the contrasts' controls resemble the
            # texts that contrasts compare them with.
            cultural += [] if label in _crosschecks(cfg) else taken
        elif cfg.match is not None:
            alike = [text for text in cultural if "language" not in cfg.match.on or text.language == language]
            taken, facts = matched_draw(taken + left, alike, wanted, cfg.match)
            matching.append({"source": label, "language": language, **facts})
        dropped.add_count(label, "not sampled", len(strata[stratum]) - len(taken))
        facts = {"source": label, "group": group, "language": language, "wanted": wanted}
        sampling.append({**facts, "candidates": len(strata[stratum]), "taken": len(taken)})
        texts += taken
    return texts, sampling, matching


def _check_groups(cfg: CorpusConfig, texts: list[Candidate], strata: dict[Stratum, list[Candidate]]) -> None:
    names = ", ".join(source.label for source in cfg.sources)
    if not texts:
        raise UserError(f"corpus: expected texts from {names}, found none after cleaning; look at the sources' rules")
    counts = Counter((text.group, text.language) for text in texts)
    if not any(text.group == "cultural" and text.source not in _crosschecks(cfg) for text in texts):
        if any(group == "cultural" for group, _ in counts):
            raise UserError(
                f"corpus: expected cultural texts to choose features on, found only those of the cross-check in "
                f"{names}; add a cultural source, or leave `split: crosscheck` out"
            )
        raise UserError(f"corpus: expected cultural texts, found only controls in {names}; set `group: cultural`")
    for (group, language), count in sorted(counts.items()):
        if group != "cultural" or counts["control", language]:
            continue
        before = sum(len(found) for key, found in strata.items() if key[1:] == ("control", language))
        if before:
            raise UserError(
                f"corpus.match: none of the {before} control texts in {language} is as long as the {count} cultural "
                "ones; read the long source by `unit: sentence` or `window`, or leave `match` out"
            )
        raise UserError(
            f"corpus.sources: expected control texts in {language}, found none beside {count} cultural texts; add a "
            f"source with `group: control` in {language}"
        )


def _in_order(cfg: CorpusConfig, texts: list[Candidate]) -> list[Candidate]:
    """By source as in the study file, then group (cultural first) and language, then id, numbers as numbers."""
    order = {source.label: number for number, source in enumerate(cfg.sources)}

    def key(text: Candidate) -> tuple[Any, ...]:
        parts = re.split(r"([0-9]+)", text.text_id)
        numbers = [int(part) if place % 2 else part for place, part in enumerate(parts)]
        return (order[text.source], text.group != "cultural", text.language, numbers, text.text_id, text.priority)

    return sorted(texts, key=key)


def _unique_ids(texts: list[Candidate]) -> list[Candidate]:
    """Ids that a source gave to several texts get a suffix made from the text, whatever the order."""
    counts = Counter(text.text_id for text in texts)
    if len(counts) == len(texts):
        return texts
    return [
        text
        if counts[text.text_id] == 1
        else replace(text, text_id=f"{text.text_id}~{sha256(f'{text.source}|{text.text}'.encode()).hexdigest()[:12]}")
        for text in texts
    ]


def _frame(cfg: CorpusConfig, texts: list[Candidate], seed: int) -> tuple[pl.DataFrame, list[str]]:
    splits = assign_splits(texts, cfg.split, seed, {source.label: source.split for source in cfg.sources})
    facets = list(dict.fromkeys(name for text in texts for name in text.facets))
    columns: dict[str, list[str | None]] = {
        "text_id": [text.text_id for text in texts],
        "text": [text.text for text in texts],
        "group": [text.group for text in texts],
        "language": [text.language for text in texts],
        "source": [text.source for text in texts],
        "document": [text.document for text in texts],
        "split": [splits[text.document] for text in texts],
        "half": [half_of(text.document, seed) for text in texts],
    }
    columns |= {facet: [text.facets.get(facet) for text in texts] for facet in facets}
    frame = pl.DataFrame(columns, schema=dict.fromkeys([*REQUIRED_COLUMNS, *facets], pl.String))
    _check_splits(cfg, frame)
    mixed = frame.group_by("document").agg(pl.col("group").n_unique().alias("groups")).filter(pl.col("groups") > 1)
    if mixed.is_empty() or cfg.split.controls != "heldout":
        return frame, []
    return frame, [f"{mixed.height} documents hold cultural and control texts; all of each is held out"]


def _check_splits(cfg: CorpusConfig, frame: pl.DataFrame) -> None:
    cultural = frame.filter(pl.col("group") == "cultural")
    for name, share in (("train", cfg.split.train), ("val", cfg.split.val), ("heldout", cfg.split.heldout)):
        if share > 0 and cultural.filter(pl.col("split") == name).is_empty():
            raise UserError(
                f"corpus.split: expected cultural texts in {name}, found none of {cultural['document'].n_unique()} "
                f"documents (share {share:g}); add texts, raise the share, or hold fewer sources out"
            )


def _crosschecks(cfg: CorpusConfig) -> set[str]:
    return {source.label for source in cfg.sources if source.split == "crosscheck"}


def _masking_notes(masking: list[dict[str, Any]]) -> list[str]:
    return [
        f"{row['source']}: masked copies of {row['texts']} texts, {row['changed']} of which the mask changed (the "
        f"artifact's name stood in {row['artifact']}, a state's in {row['place']})"
        for row in masking
    ]


def _shortfall_notes(sampling: list[dict[str, Any]], matching: list[dict[str, Any]]) -> list[str]:
    notes = [
        f"{row['source']}: {row['taken']} {row['group']} texts in {row['language']} of {row['wanted']} wanted"
        for row in sampling
        if row["wanted"] is not None and row["taken"] < row["wanted"]
    ]
    for row in matching:
        if row["words_cultural"] is None:
            notes.append(f"{row['source']}: not matched in {row['language']}, which has no cultural texts")
        elif row["short_bins"]:
            notes.append(
                f"{row['source']}: {row['short_bins']} length bins in {row['language']} have fewer controls than the "
                "match asks for, so the lengths agree in part only"
            )
    return notes
