"""Culture against shift, a mark for each feature; and which features of base have a counterpart in chat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from antar.run import Run
from antar.web.explore.draw import Drawing, Scale
from antar.web.explore.figures import axis_below, bars
from antar.web.explore.index import Index, Opened
from antar.web.explore.summary import thresholds
from antar.web.explore.table import PAGE_ROWS, Query, view, whole
from antar.web.shell import Shell

MOST_POINTS = 2000
"""More marks than this are gathered into cells, each a link to its features."""
CELLS = 44
ROWS_SHOWN = 25


def page(shell: Shell, request: Request, opened: Opened) -> Response:
    query = Query.of_address(request.query_params)
    d, q = thresholds(opened.run)
    both = points(opened.index, query)
    drawing = scatter(both, query, d)
    strongest = both.with_columns(pl.min_horizontal(pl.col("culture_d").abs(), pl.col("shift_d").abs()).alias("both"))
    rows = strongest.sort("both", "number", descending=[True, False]).head(ROWS_SHOWN).to_dicts()
    frame = opened.index.frame
    with_both = frame.filter(pl.col("shift_d").is_not_null() & pl.col("culture_d").is_not_null() & ~pl.col("of_null"))
    return shell.page(
        request, "compare.html.j2", asked=query, drawing=drawing, total=both.height, rows=rows, d=d, q=q,
        sites=sorted(with_both["site"].unique().to_list()), layers=sorted(with_both["layer"].unique().to_list()),
        gathered=both.height > MOST_POINTS, has_matches=opened.run.has("features/matches.parquet"),
        changed=int(both["changed"].sum()), cultural=int(both["cultural"].sum()),
        corner=int((both["changed"] & both["cultural"]).sum()),
    )  # fmt: skip


def points(index: Index, query: Query) -> pl.DataFrame:
    """The features of a view that have both effects."""
    return view(index, query).filter(pl.col("culture_d").is_not_null() & pl.col("shift_d").is_not_null())


def scatter(both: pl.DataFrame, query: Query, d: float) -> Drawing:
    """culture (across) against shift (up); the dashed box is where 95% of the nulls lie on each."""
    width, height, left, floor, top = 760, 560, 60, 500, 16
    drawing = Drawing(width, height, f"shift against culture of {both.height:,} features; the table below has the "
                      "strongest")  # fmt: skip
    ends = [float(both[name].abs().max() or 0.0) for name in ("culture_d", "shift_d")]  # pyright: ignore[reportArgumentType]
    across, up = (Scale(-e, e, lo, hi) for e, lo, hi in
                  ((1.06 * max(ends[0], d), left, width - 12), (1.06 * max(ends[1], d), floor, top)))  # fmt: skip
    for scale, level in ((up, False), (across, True)):
        for tick in scale.ticks(6):
            at = scale(tick)
            drawing.line(*((at, top, at, floor) if level else (left, at, width - 12, at)), "grid", 0.8)
    for tick in up.ticks(6):
        drawing.text(left - 8, up(tick) + 4, f"{tick:g}".replace("-", "\u2212"), "end", "muted")
    _nulls(drawing, both, across, up)
    for side in (-d, d):
        drawing.line(across(side), top, across(side), floor, "muted", 1, "1 4")
        drawing.line(left, up(side), width - 12, up(side), "muted", 1, "1 4")
    marks = _cells(both, across, up, query) if both.height > MOST_POINTS else _points(both, query)
    most = max((mark.count for mark in marks), default=1)
    for mark in marks:
        with drawing.link(mark.href, mark.title):
            radius = 3.2 if mark.count == 1 else 3.2 + 4.6 * (mark.count / most) ** 0.5
            role = "real" if mark.changed else "base" if mark.cultural else "shuffled"
            drawing.circle(across(mark.x), up(mark.y), radius, role, 0.75)
    axis_below(drawing, across, floor, "culture: d of cultural against control texts", 6)
    drawing.text(left, 12, "shift: d of chat against base", role="muted")
    return drawing


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    count: int
    href: str
    title: str
    changed: bool
    cultural: bool


def _nulls(drawing: Drawing, both: pl.DataFrame, across: Scale, up: Scale) -> None:
    ends = [both[f"{kind}_null"].max() for kind in ("culture", "shift")]
    x, y = (float(end) if isinstance(end, float) else None for end in ends)
    if x is not None and y is not None:
        drawing.rect(across(-x), up(y), across(x) - across(-x), up(-y) - up(y), "shuffled", 0.16,
                     f"95% of the nulls: |culture| < {x:.2f}, |shift| < {y:.2f}")  # fmt: skip


def _points(both: pl.DataFrame, query: Query) -> list[Mark]:
    # The strongest are drawn last, so that they lie on top.
    ordered = both.sort(pl.max_horizontal(pl.col("culture_d").abs(), pl.col("shift_d").abs()), "number")
    return [_mark(row, query) for row in ordered.iter_rows(named=True)]


def _mark(row: Mapping[str, Any], query: Query) -> Mark:
    label = f": {row['label']}" if row["label"] else ""
    title = f"{row['feature']}{label} (culture {row['culture_d']:.2f}, shift {row['shift_d']:.2f})"
    return Mark(row["culture_d"], row["shift_d"], 1, query.address(f"/feature/{row['feature']}"), title,
                row["changed"], row["cultural"])  # fmt: skip


def _cells(both: pl.DataFrame, across: Scale, up: Scale, query: Query) -> list[Mark]:
    """Features gathered in a grid; a cell of one is that feature's own mark."""
    places: list[np.ndarray] = []
    edges: list[np.ndarray] = []
    for name, scale in (("culture_d", across), ("shift_d", up)):
        its = np.linspace(scale.low, scale.high, CELLS + 1)
        places.append(np.clip(np.searchsorted(its, both[name].to_numpy(), side="right") - 1, 0, CELLS - 1))
        edges.append(its)
    frame = both.with_columns(pl.Series("cell", places[0] * CELLS + places[1]))
    marks: list[Mark] = []
    for (cell,), part in frame.sort("cell", "number").group_by(["cell"], maintain_order=True):
        if part.height == 1:
            marks.append(_mark(part.row(0, named=True), query))
            continue
        i, j = divmod(int(str(cell)), CELLS)
        bounds = {"culture_min": edges[0][i], "culture_max": edges[0][i + 1],
                  "shift_min": edges[1][j], "shift_max": edges[1][j + 1]}  # fmt: skip
        href = query.address(page=1, **{name: f"{value:.9g}" for name, value in bounds.items()})
        x, y = (edges[0][i] + edges[0][i + 1]) / 2, (edges[1][j] + edges[1][j + 1]) / 2
        marks.append(Mark(x, y, part.height, href, f"{part.height} features near culture {x:.2f}, shift {y:.2f}",
                          bool(part["changed"].any()), bool(part["cultural"].any())))  # fmt: skip
    return sorted(marks, key=lambda mark: -mark.count)


# -- matches ------------------------------------------------------------------------------------------------------


def matches_page(shell: Shell, request: Request, opened: Opened) -> Response:
    run = opened.run
    if not run.has("features/matches.parquet"):
        told = "No dictionary of this run was matched: that needs one on base and one on chat at the same layer."
        return shell.told(request, "No matches", told, 404)
    frame = run.matches
    layers = sorted(frame["layer"].unique().to_list())
    asked = whole(request.query_params.get("layer", ""))
    layer = asked if asked in layers else layers[0]
    here = frame.filter(pl.col("layer") == layer)
    pairs = here.filter((pl.col("null") == "") & pl.col("matched")).sort("cosine", descending=True)
    pages = max(1, -(-pairs.height // PAGE_ROWS))
    number = min(max(1, whole(request.query_params.get("page", "")) or 1), pages)
    rows = [
        _pair(opened.index, row) for row in pairs.slice((number - 1) * PAGE_ROWS, PAGE_ROWS).iter_rows(named=True)
    ]
    return shell.page(
        request, "matches.html.j2", layer=layer, layers=layers, rows=rows, page=number, pages=pages,
        histograms=[(title, _cosines(here.filter(pl.col("null") == null), title))
                    for null, title in (("", "base → chat"), ("other_seed", "base → another seed of base"))
                    if not here.filter(pl.col("null") == null).is_empty()],
        shares=[share for share in _shares(run) if share["layer"] == layer],
    )  # fmt: skip


def _shares(run: Run) -> list[dict[str, Any]]:
    """As `run.counterparts`, without the room that measures them (it loads torch)."""
    path = run.folder / "features/matches.json"
    return json.loads(path.read_bytes()) if path.is_file() else []


def _pair(index: Index, match: Mapping[str, Any]) -> dict[str, Any]:
    numbers = [index.number(f"{match[f'dictionary_{end}']}/{match[f'latent_{end}']}") for end in ("a", "b")]
    a, b = (None if number is None else index.row(number) for number in numbers)
    return {"a": a, "b": b, "cosine": match["cosine"], "correlation": match["correlation"]}


def _cosines(rows: pl.DataFrame, title: str) -> Drawing:
    """Cosines of the matched pairs, and how many have none."""
    matched = rows.filter(pl.col("matched"))["cosine"].drop_nulls().to_numpy()
    counts, edges = np.histogram(np.clip(matched, 0, 1), np.linspace(0, 1, 11))
    heights: Sequence[float] = [float(rows.height - len(matched)), *map(float, counts)]
    return bars(heights, ["none", *(f"{edge:.1f}" for edge in edges[:-1])], "cosine with the counterpart", title)
