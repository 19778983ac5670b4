"""What every section of the browser stands on: templates, navigation, static files, and how a section is added.

A section is a sub-package of `antar.web` whose `__init__` holds `SECTION`, a `Section`; `app.SECTIONS` lists them in
the order of the navigation. Its templates lie in its `templates/` and extend `frame.html.j2`; its scripts and styles
lie in its `static/` and are served at `/static/<package>/<file>`. Its routes get the `Shell`, and answer with
`shell.page(request, "its.html.j2", name=value)`. A write is a POST: its form holds
`<input type="hidden" name="csrf" value="{{ csrf }}">` (htmx sends the same token as a header, from the frame).

Templates escape every value, and there is no way round it here: no script in pages, no style in attributes. What
comes from data goes through `shown` (controls become visible) and, where it may be Hindi, `say`.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from antar.report import text as words
from antar.run import Run
from antar.web import text as cut
from antar.web.session import session_of

WEB = "antar.web"
HTMX = {
    "includeIndicatorStyles": False,  # a style element, which the policy refuses
    "allowEval": False,
    "allowScriptTags": False,
    "selfRequestsOnly": True,
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
}


@dataclass(frozen=True)
class Link:
    """An entry of the navigation. It is the current one where the address is its path or below it."""

    title: str
    path: str
    also: tuple[str, ...] = ()

    def is_current(self, path: str) -> bool:
        return any(path == one or path.startswith(f"{one}/") for one in (self.path, *self.also))


@dataclass(frozen=True)
class Section:
    """A part of the browser. `package` is its full name; `links` says what of it this run has to show; `guest_links`
    is the navigation of annotators, who may reach those paths, what lies below them, and nothing else."""

    package: str
    links: Callable[[Run], Sequence[Link]]
    routes: Callable[[Shell], Sequence[BaseRoute]]
    guest_links: Sequence[Link] = ()


@dataclass(frozen=True)
class Static:
    """A file of the package, as it is sent."""

    body: bytes
    kind: str
    version: str


@dataclass
class Shell:
    """The run, and how its pages are made. guests: annotator → the token of their link."""

    run: Run
    sections: Sequence[Section]
    guests: Mapping[str, str] = field(default_factory=dict[str, str])
    templates: Environment = field(init=False)
    links: Sequence[Link] = field(init=False)
    static: Mapping[str, Static] = field(init=False)

    def __post_init__(self) -> None:
        packages = [section.package for section in self.sections]
        self.links = [link for section in self.sections for link in section.links(self.run)]
        self.static = {name: one for package in (WEB, *packages) for name, one in _static(package)}
        self.templates = _environment(packages)
        study = self.run.study
        usual: dict[str, Any] = {
            "static": self.address,
            "htmx": json.dumps(HTMX),
            "study": str(study.get("study") or self.run.folder.name),
            "names": self.run.names,
        }
        self.templates.globals.update(usual)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page of this run. Every template also has `csrf`, `links`, `path` (the address), `query` and `guest`.

        `guest` is the annotator whose page it is, or "": the frame of a guest's page says nothing of the study."""
        return HTMLResponse(self.render(request, template, **values), status)

    def render(self, request: Request, template: str, **values: Any) -> str:
        session = session_of(request)
        usual = {
            "csrf": session.csrf,
            "guest": session.guest,
            "links": self.guest_links if session.guest else self.links,
            "path": request.url.path,
            "query": request.query_params,
        }
        return self.templates.get_template(template).render(usual | values)

    @property
    def guest_links(self) -> list[Link]:
        return [link for section in self.sections for link in section.guest_links]

    def told(self, request: Request, title: str, told: str, status: int) -> Response:
        """A page that says one thing, such as what is missing and what makes it."""
        return self.page(request, "told.html.j2", status, title=title, told=told)

    def address(self, name: str) -> str:
        """Where a static file is served; its content is in the address, so that browsers may keep it."""
        return f"/static/{name}?v={self.static[name].version}"

    async def send_static(self, request: Request) -> Response:
        found = self.static.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        kept = (
            "private, max-age=31536000, immutable" if request.query_params.get("v") == found.version else "no-store"
        )
        return Response(found.body, media_type=found.kind, headers={"Cache-Control": kept})


def _environment(packages: Sequence[str]) -> Environment:
    loaders = [PackageLoader(one) for one in (WEB, *packages) if files(one).joinpath("templates").is_dir()]
    made = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "shown": cut.shown,
        "runs": words.runs_of_script,
        "language_of": words.language_of,
        "number": words.number,
        "fixed": words.fixed,
        "small": words.small,
        "percent": words.percent,
        "interval": words.interval,
        "opening": cut.opening,
        "clip": cut.clip,
    }
    made.filters.update(filters)
    return made


def _static(package: str) -> list[tuple[str, Static]]:
    """(name below /static, file) of each static file of a package; those of antar.web stand without a folder."""
    folder = files(package).joinpath("static")
    prefix = "" if package == WEB else package.rsplit(".", 1)[1] + "/"
    found: list[tuple[str, Static]] = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith((".js", ".css", ".svg", ".txt")):
            body = path.read_bytes()
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            found.append((prefix + path.name, Static(body, kind, hashlib.sha256(body).hexdigest()[:12])))
    return found
