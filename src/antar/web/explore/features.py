"""The table of features: one page of a view, with its filters."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from antar.web.explore.index import Index, Opened
from antar.web.explore.summary import thresholds
from antar.web.explore.table import EFFECTS, SORTS, Query, ask, not_numbers
from antar.web.shell import Shell

TONES = {"KEEP": "good", "REVISE": "mild", "INVALIDATE": "bad"}


def page(shell: Shell, request: Request, opened: Opened) -> Response:
    query = Query.of_address(request.query_params)
    d, q = thresholds(opened.run)
    answer = shell.page(
        request,
        "features.html.j2",
        dropped=not_numbers(request.query_params),
        asked=query,
        answer=ask(opened.index, query),
        sites=sites(opened.index),
        layers=sorted(opened.index.frame["layer"].unique().to_list()),
        languages=_known(opened.index, "language"),
        verdicts=_known(opened.index, "verdict"),
        sorts=SORTS,
        effects=EFFECTS,
        tones=TONES,
        has={name: opened.index.frame[name].count() > 0 for name in ("coherence", "prediction")},
        d=d,
        q=q,
    )
    # What htmx puts into the address: the view at its shortest, without what a form sends of its defaults.
    answer.headers["HX-Push-Url"] = query.address()
    return answer


def sites(index: Index) -> Sequence[tuple[str, Sequence[str]]]:
    """(title, sites) of the study's own dictionaries and of those of nulls; a group without any is left out."""
    found = index.frame.select("site", "of_null").unique(maintain_order=True)
    groups = [
        (title, found.filter(pl.col("of_null") == null)["site"].to_list())
        for title, null in (("the study's", False), ("nulls: shams and baselines", True))
    ]
    return [(title, names) for title, names in groups if names]


def _known(index: Index, column: str) -> list[str]:
    return sorted(index.frame[column].drop_nulls().unique().to_list())
