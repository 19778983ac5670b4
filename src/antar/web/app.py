"""The pages: the report as it was written, the table of features, one feature."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from antar.report.blocks import verdict_badge
from antar.report.changed import FeatureBook
from antar.report.page import content_policy, environment, head_of, style_sheet
from antar.report.text import small
from antar.run import Run
from antar.web.session import Guard
from antar.web.table import SORTS, FeatureTable, Query

EXAMPLES_SHOWN = 20


def create_app(run: Run, token: str) -> ASGIApp:
    """The app for `run`, open to whoever brings `token` first. Tables are read now, so that pages are quick."""
    pages = Pages(run)
    routes = [
        Route("/", pages.home),
        Route("/report", pages.report),
        Route("/features", pages.features),
        Route("/feature/{name:path}", pages.feature),
        Route("/style.css", pages.style),
    ]
    app = Starlette(routes=routes, exception_handlers={404: pages.not_found})
    return Guard(app, token)


class Pages:
    """Every page of one run. All are read-only and rendered with every value escaped."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._head = head_of(run)
        self._book = FeatureBook(run)
        self._table = FeatureTable(run, self._book)
        self._templates = environment("antar.web")
        self._templates.filters["small"] = small
        self._sheet = style_sheet()

    async def home(self, request: Request) -> Response:
        return RedirectResponse("/features", 303)

    async def report(self, request: Request) -> Response:
        path = self._run.folder / "report" / "index.html"
        if not path.is_file():
            return self._page(
                "missing.html.j2", 404, told="This run has no report yet: `antar report STUDY` makes it."
            )
        # The report's own policy, so that its style sheet, known by its hash, is allowed.
        policy = content_policy(self._sheet) + "; frame-ancestors 'none'"
        return HTMLResponse(path.read_bytes(), headers={"Content-Security-Policy": policy})

    async def features(self, request: Request) -> Response:
        query = Query.of(request.query_params)
        return self._page(
            "features.html.j2",
            query=query,
            answer=self._table.ask(query),
            choices=(
                ("dictionary", "dictionary", self._table.dictionaries),
                ("language", "language of label", self._table.languages),
                ("verdict", "verdict", self._table.verdicts),
            ),
            sorts=SORTS,
            badge=verdict_badge,
        )

    async def feature(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._table:
            return self._page("missing.html.j2", 404, told=f"This run has no live feature called {name[:100]}.")
        return self._page("feature.html.j2", card=self._book.card(name, examples=EXAMPLES_SHOWN))

    async def style(self, request: Request) -> Response:
        return Response(self._sheet, media_type="text/css")

    async def not_found(self, request: Request, error: Exception) -> Response:
        return self._page("missing.html.j2", 404, told="There is no such page.")

    def _page(self, name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._templates.get_template(name).render(head=self._head, **values), status)
