"""An annotator's own pages: how far they are, one item, and the two writes.

A write comes from the page's script, which wants JSON, or from a form of a browser without scripts, which is sent on
to the next page. Both carry an id that the page made, so that a write that is sent twice is once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from antar.core.errors import UserError
from antar.people.fields import KINDS, MOST_CHARACTERS, PATTERNS, VERDICTS, Refused
from antar.people.queue import item_for, progress_of
from antar.people.store import Write, record, undo
from antar.web.session import form_of, session_of
from antar.web.shell import Shell

MINE = "/annotate/mine"
PATTERN_MEANINGS = {
    "1": "none: the texts share nothing",
    "2": "weak: a few share something",
    "3": "some: about half share it",
    "4": "clear: most share it",
    "5": "one: all or nearly all share it",
}
VERDICT_MEANINGS = {
    "KEEP": ("K", "it is true of most of these texts"),
    "REVISE": ("R", "they share something, but the label misses it"),
    "INVALIDATE": ("I", "they share nothing that it could name"),
}
KIND_MEANINGS = {
    "cultural": ("C", "festivals, food, custom, places, belief, kinship"),
    "linguistic": ("L", "script, grammar, form, length, register"),
    "topical": ("T", "a subject that belongs to no one culture"),
    "other": ("O", "none of these, or nothing"),
}
assert tuple(PATTERN_MEANINGS) == PATTERNS
assert tuple(VERDICT_MEANINGS) == VERDICTS
assert tuple(KIND_MEANINGS) == KINDS
Answer = TypeVar("Answer")


class Mine:
    """The pages under `/annotate/mine`. Only a guest has any."""

    def __init__(self, shell: Shell, sheet: Path) -> None:
        self._shell, self._sheet = shell, sheet

    def home(self, request: Request) -> Response:
        if not session_of(request).guest:
            return RedirectResponse("/annotate", 303)
        return self._shell.page(request, "mine.html.j2", progress=progress_of(self._sheet, _who(request)), mine=MINE)

    def next(self, request: Request) -> Response:
        """To the first item that is not submitted; to the start when all are."""
        if not session_of(request).guest:
            return RedirectResponse("/annotate", 303)
        item = progress_of(self._sheet, _who(request)).next
        return RedirectResponse(MINE if item is None else _address(item), 303)

    def item(self, request: Request) -> Response:
        if not session_of(request).guest:
            return RedirectResponse("/annotate", 303)
        who = _who(request)
        return self._shell.page(
            request,
            "item.html.j2",
            item=item_for(self._sheet, who, request.path_params["item"]),
            progress=progress_of(self._sheet, who),
            mine=MINE,
            patterns=PATTERN_MEANINGS,
            verdicts=VERDICT_MEANINGS,
            kinds=KIND_MEANINGS,
            most=MOST_CHARACTERS,
            id=lambda: secrets.token_hex(16),
        )

    async def write(self, request: Request) -> Response:
        """Keep one answer: `write`, `item`, `field`, `value`; and `then`, a field that is to become yes after it."""
        who, given = _who(request), form_of(await request.body())
        item = given.get("item", "")

        def keep() -> dict[str, Any]:
            write = Write(
                given.get("write", ""), who, given.get("item", ""), given.get("field", ""), given.get("value", "")
            )
            state = record(self._sheet, write)
            if then := given.get("then"):
                state = record(self._sheet, Write(f"{write.write}-then"[-64:], who, write.item, then, "yes"))
            return asdict(state)

        onward = f"{MINE}/next" if given.get("field") == "submitted" and given.get("value") else _address(item)
        return await self._answered(request, keep, lambda state: {"state": state, "item": item}, lambda _: onward)

    async def undo(self, request: Request) -> Response:
        """Take this person's last key back; the answer says which item it was on."""
        who, given = _who(request), form_of(await request.body())
        return await self._answered(
            request,
            lambda: undo(self._sheet, given.get("write", ""), who),
            lambda item: {"item": item, "address": _address(item) if item else None},
            lambda item: _address(item) if item else MINE,
        )

    async def _answered(
        self,
        request: Request,
        work: Callable[[], Answer],
        told: Callable[[Answer], dict[str, Any]],
        onward: Callable[[Answer], str],
    ) -> Response:
        """What `work` did, for the script or for a form. A refusal is 409 and a faulty write 400, both with why."""
        as_json = "application/json" in request.headers.get("accept", "")
        try:
            done = await run_in_threadpool(work)
        except UserError as error:
            status = 409 if isinstance(error, Refused) else 400
            if as_json:
                return JSONResponse({"told": str(error)}, status)
            return self._shell.told(request, "Not kept", str(error), status)
        return JSONResponse(told(done)) if as_json else RedirectResponse(onward(done), 303)


def _who(request: Request) -> str:
    who = session_of(request).guest
    if not who:
        raise HTTPException(403)
    return who


def _address(item: str) -> str:
    # An id of the sheet is hexadecimal; what is not goes to a page that says so.
    return f"{MINE}/item/{item if item.isalnum() and item.isascii() else '-'}"
