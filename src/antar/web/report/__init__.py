"""The report of the run, as it was written, under its own policy (its style sheet is in it, known by its hash)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from antar.run import Run
from antar.web.shell import Link, Section, Shell

_POLICY = re.compile(rb'<meta http-equiv="Content-Security-Policy" content="([^"<>]*)">')
_STRICTEST = "default-src 'none'"


def _links(run: Run) -> Sequence[Link]:
    return [Link("Report", "/report")] if run.has("report/index.html") else []


def _routes(shell: Shell) -> Sequence[BaseRoute]:
    async def report(request: Request) -> Response:
        path = shell.run.folder / "report" / "index.html"
        if not path.is_file():
            return shell.told(request, "No report", "This run has no report yet: `antar report RUN` makes it.", 404)
        page = path.read_bytes()
        return HTMLResponse(page, headers={"Content-Security-Policy": _policy(page)})

    return [Route("/report", report)]


def _policy(page: bytes) -> str:
    """What the report's own head asks for, which is never looser than: no script, nothing from elsewhere."""
    found = _POLICY.search(page[:4096])
    asked = found[1].decode("ascii", "replace").replace("&#39;", "'") if found else _STRICTEST
    safe = asked.startswith(_STRICTEST) and "script" not in asked and "unsafe" not in asked and "http" not in asked
    return (asked if safe else _STRICTEST) + "; frame-ancestors 'none'"


SECTION = Section(__name__, _links, _routes)
