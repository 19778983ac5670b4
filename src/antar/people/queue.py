"""The blinded annotation sheet of a run.

A person sees texts that fire a feature, none of which the labeller saw, and a label, and answers two questions: is
there one theme in the texts, and does the label fit? Nothing on the sheet says which feature or dictionary an
item is, or whether its label is its own: some features come twice, once under another feature's label. How often
a person accepts those says what an acceptance is worth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from antar.core.atomic import replacing
from antar.core.errors import UserError
from antar.core.hashing import sha256_json
from antar.core.seeds import numpy_rng
from antar.people.config import PeopleConfig
from antar.people.schema import connect

SHEET = "annotations.sqlite"


@dataclass(frozen=True)
class SheetText:
    text_id: str
    text: str
    language: str


@dataclass(frozen=True)
class Item:
    """What a person sees. `item` is an id that says nothing."""

    item: str
    label: str
    texts: tuple[SheetText, ...]


@dataclass(frozen=True)
class Sheet:
    """How many items of each kind a sheet has."""

    path: Path
    features: int
    wrong_labels: int


@dataclass(frozen=True)
class _Planned:
    item: str
    feature: str
    dictionary: str
    label: str
    label_of: str
    wrong: bool


def make_sheet(
    texts: pl.DataFrame, examples: pl.DataFrame, labels: pl.DataFrame, cfg: PeopleConfig, *, seed: int, folder: Path
) -> Sheet:
    """Draw the items of a run and write `annotations.sqlite` under `folder` (the run's `people`).

    texts, examples: the run's frames. labels: `feature, label`, one row a feature that has a label (of the verdict
    where there is one). Refuses to replace a sheet that has answers. Raises UserError when nothing has a label.
    """
    path = folder / SHEET
    _refuse_to_lose_answers(path)
    shown = examples.filter((pl.col("pool") == "estimate") & (pl.col("rank") < cfg.examples))
    labelled = labels.filter(pl.col("label").is_not_null() & (pl.col("label") != "")).join(
        shown.select("feature", "dictionary").unique(), on="feature"
    )
    if labelled.is_empty():
        raise UserError("people: expected labelled features with estimate examples, found none; run interpret first")
    planned = _plan(labelled.sort("feature"), cfg, seed)
    by_feature = {
        str(feature): part.sort("rank")["row"].to_list()
        for (feature,), part in shown.partition_by("feature", as_dict=True).items()
    }
    rows = [
        (entry.item, place, *_shown_text(texts, row, cfg.characters))
        for entry in planned
        for place, row in enumerate(_shuffled(by_feature[entry.feature], seed, entry.item))
    ]
    with replacing(path) as temporary, connect(temporary, create=True) as database:
        database.executemany("INSERT INTO items VALUES (?, ?)", [(entry.item, entry.label) for entry in planned])
        database.executemany("INSERT INTO item_texts VALUES (?, ?, ?, ?, ?)", rows)
        database.executemany(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?)",
            [(e.item, e.feature, e.dictionary, int(e.wrong), e.label_of) for e in planned],
        )
        facts = {"seed": seed, "config": cfg.model_dump(mode="json")}
        database.executemany(
            "INSERT INTO facts VALUES (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()]
        )
    wrong = sum(entry.wrong for entry in planned)
    return Sheet(path, len(planned) - wrong, wrong)


def items_for(path: Path, annotator: str) -> list[Item]:
    """The items in this person's own order: a seeded shuffle by name, so that no two people tire on the same ones."""
    who = annotator_name(annotator)
    with connect(path) as database:
        (seed,) = database.execute("SELECT value FROM facts WHERE name = 'seed'").fetchone()
        labels = database.execute("SELECT item, label FROM items ORDER BY item").fetchall()
        texts: dict[str, list[SheetText]] = {}
        for item, *text in database.execute(
            "SELECT item, text_id, text, language FROM item_texts ORDER BY item, place"
        ):
            texts.setdefault(item, []).append(SheetText(*text))
    order = numpy_rng(json.loads(seed), "people", "order", who).permutation(len(labels))
    items = [labels[i] for i in order]
    return [Item(item, label, tuple(texts[item])) for item, label in items]


def annotator_name(annotator: str) -> str:
    """The name without white space at its ends; UserError when nothing is left."""
    name = annotator.strip()
    if not name:
        raise UserError("annotator: expected a name, found nothing; give the name of the person who answered")
    return name


def _refuse_to_lose_answers(path: Path) -> None:
    if path.exists():
        with connect(path) as database:
            (answers,) = database.execute("SELECT count(*) FROM answers").fetchone()
        if answers:
            raise UserError(
                f"{path}: expected a sheet without answers, found {answers}; move the file away to draw anew"
            )


def _plan(labelled: pl.DataFrame, cfg: PeopleConfig, seed: int) -> list[_Planned]:
    """The sampled features under their own labels, then some of them again under another's."""
    rng = numpy_rng(seed, "people", "sample")
    chosen = _stratified(labelled, cfg.features, rng)
    rows = {row["feature"]: row for row in labelled.iter_rows(named=True)}
    planned = [
        _Planned(_item_id(seed, feature, feature), feature, rows[feature]["dictionary"], rows[feature]["label"],
                 feature, wrong=False)
        for feature in chosen
    ]  # fmt: skip
    features = list(rows)
    for feature in rng.permutation(np.array(chosen, dtype=object))[: round(cfg.wrong_share * len(chosen))]:
        own = rows[feature]
        others = [
            other for other in features
            if rows[other]["label"] != own["label"] and not _share_a_word(rows[other]["label"], own["label"])
        ]  # fmt: skip
        if others:
            other = others[int(rng.integers(len(others)))]
            item = _item_id(seed, feature, other)
            planned.append(_Planned(item, feature, own["dictionary"], rows[other]["label"], other, wrong=True))
    return sorted(planned, key=lambda entry: entry.item)


def _stratified(labelled: pl.DataFrame, wanted: int, rng: np.random.Generator) -> list[str]:
    """`wanted` features, as evenly over the dictionaries as these have them."""
    queues = [
        list(rng.permutation(part["feature"].to_numpy()))
        for _, part in sorted(labelled.partition_by("dictionary", as_dict=True).items())
    ]
    chosen: list[str] = []
    while len(chosen) < wanted and any(queues):
        # A round takes one of each; the order of the dictionaries within a round is drawn, as the last may be short.
        for i in rng.permutation(len(queues)):
            if queues[i] and len(chosen) < wanted:
                chosen.append(str(queues[i].pop()))
    return chosen


def _share_a_word(label: str, other: str) -> bool:
    return bool(set(label.casefold().split()) & set(other.casefold().split()) - {"·"})


def _item_id(seed: int, feature: str, label_of: str) -> str:
    return sha256_json(["people", seed, feature, label_of])[:12]


def _shuffled(rows: Sequence[int], seed: int, item: str) -> list[int]:
    return [rows[i] for i in numpy_rng(seed, "people", "texts", item).permutation(len(rows))]


def _shown_text(texts: pl.DataFrame, row: int, characters: int) -> tuple[str, str, str]:
    text_id, text, language = texts.select("text_id", "text", "language").row(row)
    return text_id, text if len(text) <= characters else text[: characters - 1].rstrip() + "…", language
