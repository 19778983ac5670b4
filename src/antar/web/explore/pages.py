"""The routes of the exploring part, and what all of its pages need: the index, or a word that it is being built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from antar.run import Run
from antar.web.explore import compare, criteria, dictionaries, exports, feature, features
from antar.web.explore.index import Keeper, Opened
from antar.web.shell import Link, Shell

Page = Callable[[Shell, Request, Opened], Response]
PAGES: dict[str, Page] = {
    "/features": features.page,
    "/features.csv": exports.features_csv,
    "/feature/{name:path}/figure/{figure}.svg": exports.feature_svg,
    "/feature/{name:path}/data.csv": exports.feature_csv,
    "/feature/{name:path}": feature.page,
    "/compare": compare.page,
    "/compare.svg": exports.compare_svg,
    "/compare.csv": exports.compare_csv,
    "/matches": compare.matches_page,
    "/dictionaries": dictionaries.page,
    "/dictionary/{name}": dictionaries.one_page,
    "/dictionary/{name}/figure/{figure}.svg": exports.dictionary_svg,
    "/criteria": criteria.page,
}
"""Each is a plain function: the server runs them on threads, so that a slow page does not hold up a quick one."""


def links(run: Run) -> Sequence[Link]:
    return [
        Link("Features", "/features", also=("/feature",)),
        Link("Compare", "/compare", also=("/matches",)),
        Link("Dictionaries", "/dictionaries", also=("/dictionary",)),
        Link("Criteria", "/criteria"),
    ]


def routes(shell: Shell) -> Sequence[BaseRoute]:
    keeper = Keeper(shell.run.folder)

    def opened(page: Page) -> Callable[[Request], Response]:
        @wraps(page)
        def answer(request: Request) -> Response:
            found = keeper.now()
            if found is None:
                answer = shell.page(request, "reading.html.j2", 202)
                answer.headers["Refresh"] = "1"
                return answer
            return page(shell, request, found)

        return answer

    keeper.start()
    return [Route(path, opened(page)) for path, page in PAGES.items()]
