"""A view as a file: tables as CSV, figures as SVG (which the page's script also saves as PNG)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from antar.core.sheets import csv_bytes
from antar.core.sites import DictionaryId
from antar.web.explore import compare, dictionaries, feature
from antar.web.explore.draw import SHEET_HASH, Drawing
from antar.web.explore.effects import effects_of, reach
from antar.web.explore.figures import effects_figure
from antar.web.explore.index import Opened
from antar.web.explore.summary import EFFECT, KINDS, thresholds
from antar.web.explore.table import Query, view
from antar.web.shell import Shell

COLUMNS = ("feature", "dictionary", "layer", "live", "language", "label", "category", "verdict", "firing_rate",
           "firing_rate_cultural", "firing_rate_control", "coherence", "prediction", "changed", "cultural",
           *(f"{kind}_{name}" for kind in KINDS for name in (*EFFECT, "null")), "facet_value")  # fmt: skip


def features_csv(shell: Shell, request: Request, opened: Opened) -> Response:
    query = Query.of_address(request.query_params)
    frame = view(opened.index, query).select(COLUMNS)
    return _csv("features.csv", COLUMNS, frame.iter_rows())


def feature_csv(shell: Shell, request: Request, opened: Opened) -> Response:
    """Everything on the page of a feature, a row each: its effects, then its texts."""
    number, row = _feature(opened, request)
    one = DictionaryId.parse(row["dictionary"])
    names = ("what", "name", "where", "value", "low", "high", "q", "null", "group", "language", "text")
    rows: list[Sequence[Any]] = []
    for effect in effects_of(opened, row["feature"], row["dictionary"]):
        ends = (effect.numbers["d_lo"], effect.numbers["d_hi"], effect.numbers["q"])
        name = f"{effect.facet}: {effect.value}" if effect.contrast == "facet" else effect.name
        rows.append((effect.contrast, name, effect.where, effect.d, *ends, effect.nulls_in_words, "", "", ""))
    active = feature.active_sides(opened.run, one, row["latent"])
    kinds = {
        "top": feature.top_texts(opened.index, number),
        "spread": feature.spread_texts(opened, one, active),
        "near miss": feature.near_texts(opened, one, row, number),
    }
    rows += [
        (kind, one.text.text_id, one.note, one.strength, *[""] * 4, one.text.group, one.text.language, one.text.text)
        for kind, shown in kinds.items()
        for one in shown
    ]
    return _csv(f"{_plain(row['feature'])}.csv", names, rows)


def feature_svg(shell: Shell, request: Request, opened: Opened) -> Response:
    _, row = _feature(opened, request)
    name = request.path_params["figure"]
    one = DictionaryId.parse(row["dictionary"])
    d, _ = thresholds(opened.run)
    if name == "effects" or name.startswith("facet-"):
        effects = effects_of(opened, row["feature"], row["dictionary"])
        groups = feature.facet_groups(effects, feature.home_of(row))
        shown = ([effect for effect in effects if effect.contrast != "facet"] if name == "effects"
                 else groups.get(name.removeprefix("facet-"), []))  # fmt: skip
        if not shown:
            raise HTTPException(404)
        title = f"{row['feature']}: {row['label']}" if row["label"] else row["feature"]
        return _svg(effects_figure(shown, reach(shown, d), d, title), f"{_plain(row['feature'])}-{_plain(name)}")
    active = feature.active_sides(opened.run, one, row["latent"])
    for found in feature.comparisons(opened, one, row, active):
        if found.name == name:
            return _svg(found.drawing, f"{_plain(row['feature'])}-{name}")
    raise HTTPException(404)


def dictionary_svg(shell: Shell, request: Request, opened: Opened) -> Response:
    one = dictionaries.find(opened.run, request.path_params["name"])
    drawing = None if one is None else dictionaries.figure(opened.run, one, request.path_params["figure"])
    if one is None or drawing is None:
        raise HTTPException(404)
    return _svg(drawing, f"{_plain(str(one))}-{request.path_params['figure']}")


def compare_svg(shell: Shell, request: Request, opened: Opened) -> Response:
    query = Query.of_address(request.query_params)
    d, _ = thresholds(opened.run)
    return _svg(compare.scatter(compare.points(opened.index, query), query, d), "compare")


def compare_csv(shell: Shell, request: Request, opened: Opened) -> Response:
    query = Query.of_address(request.query_params)
    return _csv("compare.csv", COLUMNS, compare.points(opened.index, query).select(COLUMNS).iter_rows())


def _feature(opened: Opened, request: Request) -> tuple[int, dict[str, Any]]:
    found = feature.find(opened.index, request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    return found


def _svg(drawing: Drawing, name: str) -> Response:
    headers = {"Content-Disposition": f'inline; filename="{name}.svg"',
               "Content-Security-Policy": f"default-src 'none'; style-src '{SHEET_HASH}'; sandbox"}  # fmt: skip
    return Response(drawing.file(), media_type="image/svg+xml", headers=headers)


def _csv(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(csv_bytes(columns, rows), media_type="text/csv; charset=utf-8", headers=headers)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[:80]
