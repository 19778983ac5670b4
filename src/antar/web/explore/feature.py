"""The page of one feature: what it is said to be about, what is measured of it beside nulls, and its texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from antar.core.errors import UserError
from antar.core.sites import DictionaryId
from antar.run import Run
from antar.web.explore.activity import Firing, firing, home_side, near_misses, sides_of, spread
from antar.web.explore.draw import Drawing
from antar.web.explore.effects import Effect, effects_of, reach
from antar.web.explore.features import TONES
from antar.web.explore.figures import Group, distributions, effect_axis, effect_row
from antar.web.explore.index import Index, Opened, Text
from antar.web.explore.nearest import Nearest, nearest_features
from antar.web.explore.summary import thresholds
from antar.web.explore.table import Query, neighbours
from antar.web.shell import Shell

FACET_ROWS = 40
TOP_SHOWN = 12


@dataclass(frozen=True)
class Shown:
    """A text on the page. `note` says where it stands among the texts that fire; share: of the strongest."""

    text: Text
    strength: float
    share: float
    note: str


@dataclass(frozen=True)
class Comparison:
    """A figure of two groups, with what it is called in the address and on the page."""

    name: str
    title: str
    note: str
    drawing: Drawing


def page(shell: Shell, request: Request, opened: Opened) -> Response:
    found = find(opened.index, request.path_params["name"])
    if found is None:
        return shell.told(
            request, "Not here", f"This run has no feature called {request.path_params['name'][:100]}.", 404
        )
    number, row = found
    query = Query.of_address(request.query_params)
    one = DictionaryId.parse(row["dictionary"])
    effects = effects_of(opened, row["feature"], row["dictionary"])
    facets = [effect for effect in effects if effect.contrast == "facet"]
    plain = [effect for effect in effects if effect.contrast != "facet"]
    d, q = thresholds(opened.run)
    before, after, place, total = neighbours(opened.index, query, number)
    active = active_sides(opened.run, one, row["latent"])
    return shell.page(
        request,
        "feature.html.j2",
        feature=row,
        asked=query,
        before=before,
        after=after,
        place=place,
        total=total,
        tones=TONES,
        tables=[table for table in (_table(plain, d), *_facet_tables(facets, home_of(row), d)) if table],
        d=d,
        q=q,
        comparisons=comparisons(opened, one, row, active),
        top=top_texts(opened.index, number),
        spread=spread_texts(opened, one, active),
        near=near_texts(opened, one, row, number),
        nearest=_named(opened.index, nearest_features(opened.run, one, row["latent"])),
        others=counterparts(opened, row),
        sides=[(side, len(its.rows), its.largest) for side, its in active.items()],
        n_texts=opened.index.text_facts.height,
    )


def find(index: Index, name: str) -> tuple[int, dict[str, Any]] | None:
    number = index.number(name)
    return None if number is None else (number, index.row(number))


def home_of(row: Mapping[str, Any]) -> str:
    """The side that the facets of a feature are shown on."""
    return "base" if row["trained_on"] == "joint" else row["trained_on"]


def active_sides(run: Run, dictionary: DictionaryId, latent: int) -> dict[str, Firing]:
    """Where the feature fires on each side that has codes."""
    return {side: firing(run, dictionary, side, latent) for side in sides_of(run, dictionary)}


# -- effects ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EffectTable:
    """Effects under one axis. `name` is that of its file."""

    name: str
    title: str
    axis: Drawing
    rows: Sequence[tuple[Effect, Drawing]]
    left_out: int = 0


def _table(effects: Sequence[Effect], d: float) -> EffectTable | None:
    if not effects:
        return None
    width = reach(effects, d)
    return EffectTable("effects", "Effects beside their nulls", effect_axis(width, d),
                       [(effect, effect_row(effect, width, d)) for effect in effects])  # fmt: skip


def facet_groups(effects: Sequence[Effect], home: str) -> Mapping[str, Sequence[Effect]]:
    """Facet → its values, largest first: pooled over languages where they are, on the side that is home."""
    groups: dict[str, list[Effect]] = {}
    for effect in effects:
        if effect.contrast == "facet" and effect.facet:
            groups.setdefault(effect.facet, []).append(effect)
    kept: dict[str, Sequence[Effect]] = {}
    for facet, its in groups.items():
        here = [effect for effect in its if effect.side_b == home] or its
        kept[facet] = [effect for effect in here if effect.language == "pooled"] or here
    return kept


def _facet_tables(effects: Sequence[Effect], home: str, d: float) -> list[EffectTable]:
    tables: list[EffectTable] = []
    for facet, its in facet_groups(effects, home).items():
        shown = its[:FACET_ROWS]
        width = reach(shown, d)
        rows = [(effect, effect_row(effect, width, d)) for effect in shown]
        title = f"By {facet}: each value against the rest of the cultural texts"
        left_out = sum(effect.facet == facet for effect in effects) - len(shown)
        tables.append(EffectTable(f"facet-{facet}", title, effect_axis(width, d), rows, left_out))
    return tables


# -- distributions ------------------------------------------------------------------------------------------------


def comparisons(
    opened: Opened, dictionary: DictionaryId, row: Mapping[str, Any], active: Mapping[str, Firing]
) -> list[Comparison]:
    """base and chat, each sham, cultural and control, and the first two languages: those that this feature has."""
    facts = opened.index.text_facts
    held = (facts["split"] == "heldout").to_numpy()
    part = held if held.any() else np.ones(facts.height, dtype=bool)
    document = facts["document"].to_numpy()
    found: list[Comparison] = []

    def group(name: str, role: str, its: Firing, rows: np.ndarray) -> Group:
        rows = rows & part
        kept = rows[its.rows]
        return Group(name, role, document[its.rows[kept]], its.values[kept], int(rows.sum()))

    every = np.ones(facts.height, dtype=bool)
    cultural = (facts["group"] == "cultural").to_numpy()
    if "base" in active and "chat" in active:
        names = opened.run.names
        pair = [group(names[side], side, active[side], cultural) for side in ("base", "chat")]
        found.append(_compared("base-chat", f"{names['base']} and {names['chat']}", pair, True, row,
                               "The same cultural texts on both sides. Grey: 95% of shuffles of sides."))  # fmt: skip
        for side in active:
            if side.startswith("sham:"):
                name = f"sham {side.split(':', 1)[1]}"
                pair = [
                    group(names["base"], "base", active["base"], cultural),
                    group(name, "sham", active[side], cultural),
                ]
                found.append(_compared(side.replace(":", "-"), f"{names['base']} and {name}", pair, True, row,
                                       "The null: base trained on with nothing to learn."))  # fmt: skip
    side = home_side(opened.run, dictionary)
    if side is None:
        return found
    pair = [group("cultural", "real", active[side], cultural), group("control", "muted", active[side], ~cultural)]
    found.insert(min(1, len(found)), _compared("groups", "Cultural and control texts", pair, False, row,
                                               "Grey: 95% of shuffles of the groups over documents."))  # fmt: skip
    spoken = facts["language"].value_counts(sort=True)["language"].cast(pl.String).to_list()
    if len(spoken) > 1:
        first, second = sorted(spoken[:2])
        pair = [group(name, role, active[side], every & (facts["language"] == name).to_numpy())
                for name, role in ((first, "sham"), (second, "real"))]  # fmt: skip
        found.insert(min(2, len(found)), _compared("languages", f"Texts in {first} and {second}", pair, False, row,
                                                   "Grey: 95% of shuffles of languages over documents."))  # fmt: skip
    return found


def _compared(
    name: str, title: str, pair: Sequence[Group], paired: bool, row: Mapping[str, Any], note: str
) -> Comparison:
    return Comparison(name, title, note, distributions(pair[0], pair[1], paired, (row["feature"], name)))


# -- texts --------------------------------------------------------------------------------------------------------


def top_texts(index: Index, number: int) -> list[Shown]:
    """The strongest examples, each text once; the note says which the labeller could not see."""
    found = index.examples(number)
    texts = index.texts(found.rows.tolist())
    largest = float(found.strengths.max()) if len(found.strengths) else 0.0
    shown: list[Shown] = []
    said: set[str] = set()
    for row, strength, seen in zip(found.rows.tolist(), found.strengths.tolist(), found.seen.tolist(), strict=True):
        text = texts.get(row)
        if text is None or text.text in said:
            continue
        said.add(text.text)
        shown.append(Shown(text, strength, strength / largest if largest else 0.0,
                           "" if seen else "not shown to the labeller"))  # fmt: skip
    return shown


def spread_texts(opened: Opened, dictionary: DictionaryId, active: Mapping[str, Firing]) -> list[Shown]:
    side = home_side(opened.run, dictionary)
    if side is None:
        return []
    picked = spread(active[side])
    texts = opened.index.texts([row for _, row, _ in picked])
    largest = active[side].largest or 1.0
    return [
        Shown(texts[row], value, value / largest, f"stronger than {100 * quantile:.0f}% of the texts that fire it")
        for quantile, row, value in picked
        if row in texts
    ]


def near_texts(opened: Opened, dictionary: DictionaryId, row: Mapping[str, Any], number: int) -> list[Shown]:
    side = home_side(opened.run, dictionary)
    examples = opened.index.examples(number).rows
    if side is None or not len(examples):
        return []
    found = near_misses(opened.run, dictionary, side, row["latent"], examples)
    texts = opened.index.texts([place for place, _ in found])
    return [
        Shown(texts[place], 0.0, 0.0, f"silent; its other features are {like:.2f} like those of the examples")
        for place, like in found
        if place in texts
    ]


# -- other features -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A list of features of one dictionary, each with its label and a cosine."""

    dictionary: str
    chance: float
    rows: Sequence[tuple[Mapping[str, Any], float]]


def _named(index: Index, nearest: Sequence[Nearest]) -> list[Named]:
    lists: list[Named] = []
    for one in nearest:
        numbers = [(index.number(f"{one.dictionary}/{latent}"), cosine) for latent, cosine in one.found]
        rows = [(index.row(number), cosine) for number, cosine in numbers if number is not None]
        lists.append(Named(one.dictionary, one.chance, rows))
    return lists


@dataclass(frozen=True)
class Counterpart:
    """What another dictionary has for this feature: `other` is None where nothing there stands above chance."""

    dictionary: str
    null: str
    other: Mapping[str, Any] | None
    cosine: float | None
    correlation: float | None


def counterparts(opened: Opened, row: Mapping[str, Any]) -> list[Counterpart]:
    """The matched feature of the other side's dictionary, and beside it that of another seed of this one."""
    if not opened.run.has("features/matches.parquet"):
        return []
    try:
        frame = pl.scan_parquet(opened.run.folder / "features/matches.parquet")
        ends = [("a", "b"), ("b", "a")]
        found: list[Counterpart] = []
        for mine, its in ends:
            here = (pl.col(f"dictionary_{mine}") == row["dictionary"]) & (pl.col(f"latent_{mine}") == row["latent"])
            for match in frame.filter(here).collect().iter_rows(named=True):
                number = opened.index.number(f"{match[f'dictionary_{its}']}/{match[f'latent_{its}']}")
                other = opened.index.row(number) if number is not None and match["matched"] else None
                if match["matched"] and number is None and match["null"] == "":
                    continue
                found.append(Counterpart(match[f"dictionary_{its}"], match["null"], other,
                                         match["cosine"] if match["matched"] else None,
                                         match["correlation"] if match["matched"] else None))  # fmt: skip
    except pl.exceptions.PolarsError as error:
        raise UserError(
            f"features/matches.parquet: expected a whole table, found {error}; run the study again"
        ) from error
    return sorted(found, key=lambda one: one.null)
