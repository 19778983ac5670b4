"""For who runs the study: the annotators and their links, disagreements side by side, and the agreement."""

from __future__ import annotations

import secrets
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from antar.core.errors import UserError
from antar.people.adjudicate import Case, Ruling, cases_of, rule
from antar.people.fields import MOST_CHARACTERS
from antar.people.findings import QUESTIONS, SPLITS, Findings, digest, findings_of
from antar.people.queue import progress_of
from antar.people.store import annotators_of
from antar.web.annotate.mine import KIND_MEANINGS, MINE, VERDICT_MEANINGS
from antar.web.session import form_of, session_of
from antar.web.shell import Shell

CASES = "/annotate/adjudicate"
MEASURES = (("alpha", "Krippendorff’s α"), ("ac1", "Gwet’s AC1"), ("kappa", "Cohen’s κ"), ("raw", "raw"))


class PeoplePages:
    """The pages that annotators cannot reach: the guard lets no guest here."""

    def __init__(self, shell: Shell, sheet: Path) -> None:
        self._shell, self._sheet = shell, sheet
        self._findings = lru_cache(maxsize=1)(self._findings_at)

    def home(self, request: Request) -> Response:
        people = [(name, progress_of(self._sheet, name)) for name in annotators_of(self._sheet)]
        base = f"{request.url.scheme}://{request.headers['host']}{MINE}?"
        addresses = {name: base + urlencode({"token": token}) for name, token in self._shell.guests.items()}
        cases = cases_of(self._sheet)
        return self._shell.page(
            request,
            "people.html.j2",
            people=people,
            addresses=addresses,
            open_cases=sum(case.ruling is None for case in cases),
            ruled=sum(case.ruling is not None for case in cases),
        )

    def cases(self, request: Request) -> Response:
        cases = cases_of(self._sheet)
        return self._shell.page(
            request, "cases.html.j2", cases=cases, address=CASES, people=annotators_of(self._sheet)
        )

    def case(self, request: Request) -> Response:
        cases = cases_of(self._sheet)
        wanted = request.path_params["item"]
        place = next((i for i, case in enumerate(cases) if case.item == wanted), None)
        if place is None:
            return RedirectResponse(CASES, 303)
        return self._case_page(request, cases, place)

    def _case_page(
        self, request: Request, cases: list[Case], place: int, told: str = "", given: dict[str, str] | None = None,
        status: int = 200,
    ) -> Response:  # fmt: skip
        case = cases[place]
        last = next((one.ruling.adjudicator for one in reversed(cases) if one.ruling), "")
        ruling = case.ruling
        return self._shell.page(
            request,
            "case.html.j2",
            status,
            case=case,
            place=place + 1,
            total=len(cases),
            before=cases[place - 1].item if place else None,
            after=cases[place + 1].item if place + 1 < len(cases) else None,
            address=CASES,
            told=told,
            given=given
            or {
                "adjudicator": ruling.adjudicator if ruling else last,
                "verdict": ruling.verdict if ruling else "",
                "kind": ruling.kind if ruling else "",
                "label": ruling.label if ruling else "",
                "note": ruling.note if ruling else "",
            },
            id=secrets.token_hex(16),
            verdicts=VERDICT_MEANINGS,
            kinds=KIND_MEANINGS,
            most=MOST_CHARACTERS,
        )

    async def rule(self, request: Request) -> Response:
        """Keep a ruling, and go on to the next case without one."""
        if session_of(request).guest:
            raise HTTPException(403)
        given, item = form_of(await request.body()), request.path_params["item"]
        fields = {name: given.get(name, "").strip() for name in ("adjudicator", "verdict", "kind", "label", "note")}

        def keep() -> Response:
            try:
                rule(self._sheet, Ruling(given.get("ruling", ""), item, **fields))
            except UserError as error:
                cases = cases_of(self._sheet)
                place = next((i for i, case in enumerate(cases) if case.item == item), None)
                if place is None:
                    return self._shell.told(request, "Not kept", str(error), 400)
                return self._case_page(request, cases, place, str(error), fields, 400)
            after = next((case.item for case in cases_of(self._sheet) if case.ruling is None), None)
            return RedirectResponse(f"{CASES}/{after}" if after else CASES, 303)

        return await run_in_threadpool(keep)

    def agreement(self, request: Request) -> Response:
        return self._shell.page(
            request,
            "agreement.html.j2",
            findings=self._findings(digest(self._sheet)),
            questions=list(QUESTIONS),
            splits=SPLITS,
            measures=MEASURES,
        )

    def _findings_at(self, _: str) -> Findings:
        # The bootstrap takes a second; it is made again when an answer has changed.
        return findings_of(self._sheet, seed=self._shell.run.study["seed"])
