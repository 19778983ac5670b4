"""The app: the sections of the browser on one shell, behind the guard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from antar.core.errors import UserError
from antar.run import Run
from antar.web import annotate, explore, report
from antar.web.session import LOOPBACK, Guard
from antar.web.shell import Section, Shell

SECTIONS: tuple[Section, ...] = (explore.SECTION, report.SECTION, annotate.SECTION)
"""In the order of the navigation; the first link of the first is the first page."""


def create_app(
    run: Run,
    tokens: Iterable[str],
    *,
    password: str | None = None,
    hosts: Iterable[str] = LOOPBACK,
    cookie: str = "antar",
    sections: Sequence[Section] = SECTIONS,
    guests: Mapping[str, str] | None = None,
) -> Guard:
    """The app for `run`, open to whoever brings one of `tokens` (each works once) or the password.

    guests: annotator → the token of a link to the blind pages
    """
    shell = Shell(run, sections, guests or {})
    app = Starlette(routes=routes_of(shell), exception_handlers=_handlers(shell))
    paths = [*(link.path for link in shell.guest_links), "/static"]
    return Guard(app, tokens, password=password, hosts=hosts, cookie=cookie, guests=guests, guest_paths=paths)


def routes_of(shell: Shell) -> list[BaseRoute]:
    """Every route there is."""

    async def home(request: Request) -> Response:
        return RedirectResponse(shell.links[0].path, 303)

    own: list[BaseRoute] = [Route("/", home), Route("/static/{name:path}", shell.send_static)]
    return own + [route for section in shell.sections for route in section.routes(shell)]


def _handlers(shell: Shell) -> dict[Any, Any]:
    def wrong(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = {404: "There is no such page.", 405: "This page cannot be asked in that way."}
        words = error.detail if error.status_code == 400 else told.get(error.status_code, "This cannot be shown.")
        return shell.told(request, "Not here", words, error.status_code)

    def not_made(request: Request, error: Exception) -> Response:
        return shell.told(request, "Not here", str(error), 404)

    return {HTTPException: wrong, UserError: not_made}
