"""Which features people judge: a stratified sample, some labels that are wrong, some items that come twice.

A person sees texts that fire a feature, none of which the labeller saw, and says whether they have one pattern and
what it is; then a label, and says whether it holds. Nothing on the sheet says which feature an item is, whether its
label is its own, or whether it was there before. How often a person keeps a wrong label says what a KEEP is worth;
how often they answer alike a second time says how far two people can agree at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import regex

from antar.core.atomic import replacing
from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.seeds import numpy_rng
from antar.people.config import PeopleConfig
from antar.people.fields import annotator_name
from antar.people.schema import SHEET, connect, create

LEVELS = ("site", "verdict", "effect")
"""The strata: in each round every site gives one feature, in turn from its verdicts, in turn from their effects."""
CANDIDATE_COLUMNS = ("feature", "site", "label", "language", "category", "verdict", "validator", "effect")


@dataclass(frozen=True)
class Sheet:
    """How many items of each role a sheet has."""

    path: Path
    own: int
    wrong_labels: int
    repeats: int
    annotators: tuple[str, ...]


@dataclass(frozen=True)
class _Planned:
    role: str
    feature: str
    label_of: str

    def item(self, seed: int) -> str:
        return sha256_json(["people", seed, self.role, self.feature, self.label_of])[:12]


def draw_sheet(
    candidates: pl.DataFrame, examples: pl.DataFrame, texts: pl.DataFrame, cfg: PeopleConfig, *,
    seed: int, annotators: Sequence[str], folder: Path, only: Sequence[str] | None = None,
) -> Sheet:  # fmt: skip
    """Draw the items of a run into `annotations.sqlite` under `folder` (the run's `people`).

    candidates: a row for each labelled feature, CANDIDATE_COLUMNS as strings, "" for what is not known. examples,
    texts: the run's frames. only: the own items are these features, not a sample. The same arguments draw the same
    items, so that two machines may each draw them. A sheet without a write is drawn anew in place; one with any is
    never touched.

    Raises UserError for a sheet with work in it, no labelled feature with estimate examples, or a feature of `only`
    that has none.
    """
    names = _names(annotators)
    path = folder / SHEET
    shown = examples.filter((pl.col("pool") == "estimate") & (pl.col("rank") < cfg.examples))
    labelled = candidates.filter(pl.col("label") != "").join(
        shown.select("feature").unique(), on="feature", how="semi"
    )
    if labelled.is_empty():
        raise UserError("people: expected labelled features with estimate examples, found none; run interpret first")
    planned = _plan(labelled.sort("feature"), examples, cfg, seed, only)
    if not path.exists():
        with replacing(path) as temporary:
            create(temporary)
    with connect(path, write=True) as database:
        _refuse_to_lose_work(database, path)
        _write(database, planned, labelled, shown, texts, cfg, seed)
        database.executemany("INSERT INTO annotators VALUES (?)", [(name,) for name in names])
    count = {role: sum(one.role == role for one in planned) for role in ("own", "wrong_label", "repeat")}
    return Sheet(path, count["own"], count["wrong_label"], count["repeat"], names)


def _names(annotators: Sequence[str]) -> tuple[str, ...]:
    names = tuple(annotator_name(name) for name in annotators)
    if not names or len(set(names)) != len(names):
        raise UserError(f"annotators: expected different names, found {', '.join(names) or 'none'}; name each once")
    return names


def _refuse_to_lose_work(database: sqlite3.Connection, path: Path) -> None:
    (work,) = database.execute("SELECT (SELECT count(*) FROM writes) + (SELECT count(*) FROM rulings)").fetchone()
    if work:
        raise UserError(
            f"{path}: expected a sheet on which nobody has worked, found {work} writes; "
            "move the file away to draw anew"
        )


def _plan(
    labelled: pl.DataFrame, examples: pl.DataFrame, cfg: PeopleConfig, seed: int, only: Sequence[str] | None
) -> list[_Planned]:
    """Own items, then other features under wrong labels, then some own ones again.

    Where a run has too few features for all, the shares stay and the number shrinks.
    """
    rng = numpy_rng(seed, "people", "sample")
    have = set(labelled["feature"].to_list())
    if only is not None:
        if missing := sorted(set(only) - have):
            raise UserError(
                f"--features: expected labelled features of this run with examples, found {missing[0]!r} "
                f"({len(missing)} such); take them from interpret/labels.jsonl"
            )
        own = list(dict.fromkeys(only))
    else:
        n = min(cfg.features, max(1, int(len(have) / (1 + cfg.wrong_share))))
        own = [feature for feature, _ in zip(_dealt(labelled, LEVELS, rng), range(n), strict=False)]
    planned = [_Planned("own", feature, feature) for feature in own]
    rest = labelled.filter(~pl.col("feature").is_in(own))
    planned += _wrong(rest, labelled, examples, round(cfg.wrong_share * len(own)), rng)
    again = rng.permutation(np.array(own, dtype=object))[: round(cfg.repeat_share * len(own))]
    return planned + [_Planned("repeat", str(feature), str(feature)) for feature in again]


def _dealt(rows: pl.DataFrame, levels: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """All features, dealt in rounds: each round takes one from each stratum of the first level that has any left.

    The order within a round is drawn, as the last one may be short."""
    if not levels:
        yield from (str(feature) for feature in rng.permutation(rows["feature"].to_numpy()))
        return
    parts = rows.partition_by(levels[0], as_dict=True)
    queues = [_dealt(part, levels[1:], rng) for _, part in sorted(parts.items())]
    while queues:
        left: list[Iterator[str]] = []
        for i in rng.permutation(len(queues)):
            feature = next(queues[i], None)
            if feature is not None:
                yield feature
                left.append(queues[i])
        queues = left


def _wrong(
    rest: pl.DataFrame, labelled: pl.DataFrame, examples: pl.DataFrame, wanted: int, rng: np.random.Generator
) -> list[_Planned]:
    """`wanted` features of `rest` or fewer, each under the label of another: of its language, for else the script
    would give it away; that shares no word with its own and no text with it, for else it could be true."""
    rows = {row["feature"]: row for row in labelled.iter_rows(named=True)}
    words = {feature: _words(row["label"]) for feature, row in rows.items()}
    texts_of: dict[str, set[int]] = {}
    for feature, row in examples.select("feature", "row").iter_rows():
        texts_of.setdefault(feature, set()).add(row)
    found: list[_Planned] = []
    for feature in _dealt(rest, LEVELS, rng):
        if len(found) == wanted:
            break
        for other in rng.permutation(np.array(list(rows), dtype=object)):
            same_language = rows[other]["language"] == rows[feature]["language"]
            if same_language and not words[other] & words[feature] and not texts_of[other] & texts_of[feature]:
                found.append(_Planned("wrong_label", feature, str(other)))
                break
    return found


def _words(label: str) -> set[str]:
    return set(regex.findall(r"[\p{L}\p{M}\p{N}]+", label.casefold()))


def _write(
    database: sqlite3.Connection, planned: Sequence[_Planned], labelled: pl.DataFrame, shown: pl.DataFrame,
    texts: pl.DataFrame, cfg: PeopleConfig, seed: int,
) -> None:  # fmt: skip
    for table in ("keys", "item_texts", "items", "annotators", "facts"):
        database.execute(f"DELETE FROM {table}")
    rows = {row["feature"]: row for row in labelled.iter_rows(named=True)}
    rows_of = {
        str(feature): part.sort("rank")["row"].to_list()
        for (feature,), part in shown.partition_by("feature", as_dict=True).items()
    }
    own = {one.feature: one.item(seed) for one in planned if one.role == "own"}
    parts: list[str] = []
    # Own items stand before their repeats, which refer to them.
    for one in planned:
        item, row, label = one.item(seed), rows[one.feature], rows[one.label_of]["label"]
        database.execute("INSERT INTO items VALUES (?, ?)", (item, label))
        order = numpy_rng(seed, "people", "texts", item).permutation(len(rows_of[one.feature]))
        for place, i in enumerate(order):
            text_id, text, language = texts.select("text_id", "text", "language").row(rows_of[one.feature][i])
            database.execute(
                "INSERT INTO item_texts VALUES (?, ?, ?, ?, ?)",
                (item, place, text_id, cut(text, cfg.characters), language),
            )
        # A validator judged the feature's own label and no other.
        judged = (row["verdict"], row["validator"]) if one.role != "wrong_label" else ("", "")
        database.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (item, one.role, own[one.feature] if one.role == "repeat" else None, one.feature, one.label_of,
             row["site"], row["language"], row["category"], *judged, row["effect"]),
        )  # fmt: skip
        parts += [item, label, *(str(rows_of[one.feature][i]) for i in order)]
    facts = {"seed": seed, "config": cfg.model_dump(mode="json"), "sheet": sha256_json(parts)}
    database.executemany(
        "INSERT INTO facts VALUES (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()]
    )


def cut(text: str, characters: int) -> str:
    """`text`, or its first `characters` code points or fewer and an ellipsis: never a part of a grapheme."""
    if len(text) <= characters:
        return text
    kept, size = "", 0
    # No grapheme of a language is longer than the margin; one that is, is dropped whole.
    for grapheme in regex.findall(r"\X", text[: characters + 64]):
        size += len(grapheme)
        if size > characters - 1:
            break
        kept += grapheme
    return kept.rstrip() + "…"
