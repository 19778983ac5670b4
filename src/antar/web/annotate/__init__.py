"""The pages of annotation: an annotator's blind ones, and for who runs the study progress, rulings and agreement.

An annotator comes as a guest (`session.py`): their session reaches the pages below `/annotate/mine` and nothing else.
Those pages are made of `people/queue.py` alone, which has no side, model, feature or other person in it, and the
label of an item only when its blind answers are closed. So what an annotator must not see is in no answer at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from antar.run import Run
from antar.web.annotate.links import sheet_of
from antar.web.annotate.mine import MINE, Mine
from antar.web.annotate.people import PeoplePages
from antar.web.shell import Link, Section, Shell

GUIDE = "/annotate/guide"


def _links(run: Run) -> Sequence[Link]:
    return [Link("Annotate", "/annotate")]


def _routes(shell: Shell) -> Sequence[BaseRoute]:
    sheet = sheet_of(shell.run.folder)
    if not sheet.is_file():

        def none_yet(request: Request) -> Response:
            return shell.page(request, "none_yet.html.j2", folder=str(shell.run.folder))

        return [Route("/annotate", none_yet)]
    mine, people = Mine(shell, sheet), PeoplePages(shell, sheet)

    def guide(request: Request) -> Response:
        return shell.page(request, "guide.html.j2")

    return [
        Route(GUIDE, guide),
        Route(MINE, mine.home),
        Route(f"{MINE}/next", mine.next),
        Route(f"{MINE}/item/{{item}}", mine.item),
        Route(f"{MINE}/write", mine.write, methods=["POST"]),
        Route(f"{MINE}/undo", mine.undo, methods=["POST"]),
        Route("/annotate", people.home),
        Route("/annotate/adjudicate", people.cases),
        Route("/annotate/adjudicate/{item}", people.case),
        Route("/annotate/adjudicate/{item}", people.rule, methods=["POST"]),
        Route("/annotate/agreement", people.agreement),
    ]


SECTION = Section(__name__, _links, _routes, guest_links=(Link("Items", MINE), Link("Guide", GUIDE)))
