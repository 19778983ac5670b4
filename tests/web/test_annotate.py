"""The pages of annotation over HTTP: who reaches what, and what an annotator's answers from the server never hold."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from antar.core.errors import UserError
from antar.people.adjudicate import cases_of
from antar.people.queue import progress_of
from antar.people.schema import connect
from antar.people.store import Write, record_all, state_of
from antar.run import load_run
from antar.stages.people import init_sheet
from antar.web.annotate import SECTION
from antar.web.annotate.links import LINKS, guests_of, sheet_of
from antar.web.annotate.mine import MINE
from antar.web.app import create_app
from antar.web.shell import Shell

HERE, TOKEN = "http://127.0.0.1:8437", "the-token"
JSON = {"Accept": "application/json"}


@pytest.fixture
def place(fake, tmp_path):
    """A run with a sheet for asha and ravi; its labels are words that nothing else in it holds."""
    run = load_run(fake.write_fake_run(tmp_path / "fake", llm=True))
    path = run.folder / "interpret/labels.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for i, row in enumerate(rows):
        row["label"] = row["label"] and f"zqlabel{i:03d} <script>alert(7)</script> {{{{ 7*7 }}}}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    init_sheet(run.folder, ["asha", "ravi"], "20")
    return run.folder


def client(place: Path, token: str | None = TOKEN, at: str = "/") -> TestClient:
    """A browser with a session of its own at a server that was just started."""
    app = create_app(load_run(place), [TOKEN], guests=guests_of(place), cookie="antar-8437")
    made = TestClient(app, base_url=HERE, follow_redirects=False)
    if token is not None:
        assert made.get(f"{at}?token={token}").status_code == 303
    return made


def as_guest(place: Path, who: str) -> TestClient:
    return client(place, guests_of(place)[who], MINE)


def csrf(browser: TestClient, page: str) -> str:
    return re.search(r'name="csrf" value="([^"]+)"', browser.get(page).text)[1]


class Hands:
    """An annotator at work, as the page's script writes."""

    def __init__(self, place: Path, who: str) -> None:
        self.browser, self.who, self.n, self.said = as_guest(place, who), who, 0, []
        self.item = self.next()
        self.csrf = csrf(self.browser, f"{MINE}/item/{self.item}")

    def next(self) -> str:
        self.item = self.browser.get(f"{MINE}/next").headers["location"].rsplit("/", 1)[1]
        return self.item

    def page(self) -> str:
        return self.browser.get(f"{MINE}/item/{self.item}").text

    def put(self, status: int = 200, path: str = "write", **fields: str):
        self.n += 1
        given = {"item": self.item, "write": f"{self.who}-hand-{self.n:06d}", **fields}
        answer = self.browser.post(f"{MINE}/{path}", data=given, headers={**JSON, "X-CSRF-Token": self.csrf})
        assert answer.status_code == status, answer.text
        self.said.append(answer.text)
        return answer.json()

    def fields(self, **fields: str) -> None:
        for field, value in fields.items():
            self.put(field=field, value=value)


def test_an_annotators_answers_from_the_server_are_blind(place):
    sheet = sheet_of(place)
    with connect(sheet) as database:
        keys = database.execute("SELECT feature, label_of, site, category, effect, validator FROM keys").fetchall()
        ids = database.execute("SELECT text_id FROM item_texts").fetchall()
        labels = dict(database.execute("SELECT item, label FROM items").fetchall())
    # The other one has answered everything, with words that must not be seen.
    for item in progress_of(sheet, "ravi").order:
        fields = {"pattern": "4", "what": "ravisword", "revealed": "yes", "verdict": "REVISE", "label": "ravislabel",
                  "kind": "linguistic", "submitted": "yes"}  # fmt: skip
        record_all(sheet, [Write(f"ravi-{item}-{f}", "ravi", item, f, v) for f, v in fields.items()])
    asha = Hands(place, "asha")
    pages = [
        asha.browser.get(path).text
        for path in (MINE, "/annotate/guide", asha.browser.get(f"{MINE}/next").headers["location"])
    ]
    opened = set()
    for item in progress_of(sheet, "asha").order:
        asha.item = item
        pages.append(asha.page())
        asha.fields(pattern="3", what="lamps")
        pages.append(asha.page())
        assert not [label for label in labels.values() if label.split()[0] in "".join(pages + asha.said)]
        if len(opened) == 3:
            continue
        # The label of this item, and of no other, is there once its blind answers are closed.
        asha.fields(revealed="yes")
        shown = asha.page()
        opened.add(item)
        assert labels[item].split()[0] in shown
        others = {label.split()[0] for other, label in labels.items() if other != item} - {labels[item].split()[0]}
        assert not [word for word in others if word in shown]
        assert "<script>alert(7)" not in shown and "{{ 7*7 }}" in shown
    pages += [asha.browser.get(f"/static/annotate/{name}").text for name in ("annotate.js", "annotate.css")]
    seen = "\n".join(pages + asha.said)
    for secret in {str(one) for row in keys for one in row if one} - {"large", "small", "festival"}:
        assert secret not in seen, secret
    for word in (
        "ravi",
        "layer0",
        "Fake-Base",
        "Fake &amp; Chat",
        "delta",
        "Qwen",
        "wrong_label",
        '"repeat',
        ">fake<",
        *{i for (i,) in ids},
    ):
        assert word not in seen, word


def test_a_guest_reaches_only_the_blind_pages_and_the_researcher_all_others(place):
    asha, owner, nobody = as_guest(place, "asha"), client(place), client(place, None)
    for page in ("/annotate", "/annotate/adjudicate", "/annotate/adjudicate/1", "/annotate/agreement", "/report",
                 "/annotate/minefield", "/features", f"{MINE}/../agreement"):  # fmt: skip
        answer = asha.get(page)
        assert answer.status_code == 403 and "annotators" in answer.text and len(answer.text) < 60, page
        assert nobody.get(page).status_code == 401
    assert asha.get("/").headers["location"] == MINE
    token = csrf(asha, f"{MINE}/item/{progress_of(sheet_of(place), 'asha').order[0]}")
    item = progress_of(sheet_of(place), "asha").order[0]
    forged = {"csrf": token, "ruling": "a-forged-one", "adjudicator": "asha", "verdict": "KEEP", "kind": "other"}
    assert asha.post(f"/annotate/adjudicate/{item}", data=forged).status_code == 403
    for page in ("/annotate", "/annotate/adjudicate", "/annotate/agreement", "/annotate/guide"):
        assert owner.get(page).status_code == 200, page
    people = owner.get("/annotate").text
    for who, link in guests_of(place).items():
        assert f"{HERE}{MINE}?token={link}" in people and who in people
    for path in (MINE, f"{MINE}/next", f"{MINE}/item/{item}"):
        assert owner.get(path).headers["location"] == "/annotate"
    written = {
        "csrf": csrf(owner, f"/annotate/adjudicate/{_disagree(place)}"),
        "item": item,
        "write": "the-owners-write",
    }
    assert owner.post(f"{MINE}/write", data={**written, "field": "pattern", "value": "3"}).status_code == 403


def test_every_route_of_annotation_says_401_without_a_session(place):
    nobody = client(place, None)
    item = progress_of(sheet_of(place), "asha").order[0]
    routes = [route.path for route in SECTION.routes(Shell(load_run(place), [SECTION]))]
    assert len(routes) >= 10
    for path in routes:
        for method in ("get", "head", "post"):
            answer = getattr(nobody, method)(path.replace("{item}", item))
            assert answer.status_code == 401 and "set-cookie" not in answer.headers, path
            assert "asha" not in answer.text


def _disagree(place: Path) -> str:
    """Two people answer an own item apart; returns it."""
    sheet = sheet_of(place)
    with connect(sheet) as database:
        (item,) = database.execute("SELECT item FROM keys WHERE role = 'own' ORDER BY item LIMIT 1").fetchone()
    for who, verdict in (("asha", "KEEP"), ("ravi", "INVALIDATE")):
        fields = {"pattern": "4", "what": f"{who} <b>x</b>", "revealed": "yes", "verdict": verdict,
                  "kind": "cultural", "submitted": "yes"}  # fmt: skip
        record_all(sheet, [Write(f"{who}-apart-{f}", who, item, f, v) for f, v in fields.items()])
    return item


def test_writes_need_the_token_of_their_own_pages(place):
    asha = Hands(place, "asha")
    given = {"item": asha.item, "write": "some-write-id", "field": "pattern", "value": "3"}
    for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": asha.csrf, "Origin": "http://evil.example"}):
        assert asha.browser.post(f"{MINE}/write", data=given, headers=headers).status_code == 403
    assert client(place, None).post(f"{MINE}/write", data=given).status_code == 401
    assert state_of(sheet_of(place), "asha", asha.item).pattern == ""


def test_one_item_from_the_texts_to_the_next_with_an_undo(place):
    asha, sheet = Hands(place, "asha"), sheet_of(place)
    first = asha.item
    assert asha.put(409, field="revealed", value="yes")["told"].endswith("still to answer: pattern")
    assert asha.put(400, field="pattern", value="9")["told"].startswith("pattern: expected")
    state = asha.put(field="pattern", value="3")["state"]
    assert (state["pattern"], state["submitted"]) == ("3", "")
    asha.fields(what="दीये", revealed="yes", verdict="KEEP", kind="cultural", seconds="12.5", submitted="yes")
    assert asha.next() != first
    assert "1 answered" in asha.page()
    answer = asha.put(path="undo")
    assert answer == {"item": first, "address": f"{MINE}/item/{first}"}
    assert asha.next() == first
    page = asha.page()
    assert 'lang="hi"' in page and "दीये" in page and "readonly" in page
    assert state_of(sheet, "asha", first).seconds == 12.5


def test_the_pages_work_without_a_script(place):
    asha, sheet = as_guest(place, "asha"), sheet_of(place)
    address = asha.get(f"{MINE}/next").headers["location"]

    def press(field: str, value: str, **more: str) -> str:
        form = re.search(rf'<form[^>]*data-field="{field}".*?</form>', asha.get(address).text, re.S)[0]
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))
        answer = asha.post(f"{MINE}/write", data={**fields, "value": value, **more})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    assert press("pattern", "5") == address
    assert press("what", "lamps", then="revealed") == address
    assert press("verdict", "REVISE") == address
    assert press("label", "oil lamps") == address
    assert press("kind", "cultural") == address
    assert press("submitted", "yes") == f"{MINE}/next"
    item = address.rsplit("/", 1)[1]
    assert state_of(sheet, "asha", item).label == "oil lamps"
    assert press("reopen", "") == address
    assert state_of(sheet, "asha", item).submitted == ""
    assert press("submitted", "yes") == f"{MINE}/next"
    undone = asha.post(f"{MINE}/undo", data={"csrf": csrf(asha, address), "write": "undo-by-form"})
    assert undone.headers["location"] == address
    refused = asha.post(f"{MINE}/write", data={"csrf": csrf(asha, address), "write": "late-change", "item": item,
                                               "field": "what", "value": "x"})  # fmt: skip
    assert refused.status_code == 409 and "closed" in refused.text


def test_a_link_and_its_session_outlive_the_server(place):
    links = guests_of(place)
    path = sheet_of(place).with_name(LINKS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    asha = Hands(place, "asha")
    asha.fields(pattern="4", what="lamps")
    again = TestClient(
        create_app(load_run(place), ["new"], guests=guests_of(place), cookie="antar-8437"), base_url=HERE
    )
    again.cookies = asha.browser.cookies
    asha.browser = again
    asha.fields(revealed="yes")  # the cookie and the token of the page from before
    assert guests_of(place) == links
    assert as_guest(place, "asha").get(MINE).status_code == 200  # and the link opens another browser
    path.unlink()
    assert not set(guests_of(place).values()) & set(links.values())
    assert again.get(f"{MINE}").status_code == 200  # this server still has the old one
    assert TestClient(create_app(load_run(place), [], guests=guests_of(place), cookie="antar-8437"), base_url=HERE,
                      cookies=asha.browser.cookies).get(MINE).status_code == 401  # fmt: skip
    path.write_text('{"asha": "short"}')
    with pytest.raises(UserError, match="found damage"):
        guests_of(place)


def test_rulings_are_made_side_by_side_and_kept_apart(place):
    item, owner, sheet = _disagree(place), client(place), sheet_of(place)
    assert "KEEP, cultural" in owner.get("/annotate/adjudicate").text
    page = owner.get(f"/annotate/adjudicate/{item}").text
    assert "asha &lt;b&gt;x&lt;/b&gt;" in page and "They differ on: verdict" in page
    given = {"csrf": csrf(owner, f"/annotate/adjudicate/{item}"), "ruling": "ruling-one", "adjudicator": "meera",
             "verdict": "REVISE", "kind": "topical", "note": "why"}  # fmt: skip
    faulty = owner.post(f"/annotate/adjudicate/{item}", data=given)
    assert (
        faulty.status_code == 400 and "expected a better label" in faulty.text and ">\nwhy</textarea>" in faulty.text
    )
    # As Chromium sends a form of a page without a referrer; from a page elsewhere it is refused.
    whole = {**given, "label": "oil lamps"}
    for site, status in (("cross-site", 403), ("same-origin", 303)):
        sent = {"Origin": "null", "Sec-Fetch-Site": site}
        assert owner.post(f"/annotate/adjudicate/{item}", data=whole, headers=sent).status_code == status
    (case,) = cases_of(sheet)
    assert (case.ruling.adjudicator, case.ruling.label, case.ruling.note) == ("meera", "oil lamps", "why")
    assert {who: state.verdict for who, state in case.answers.items()} == {"asha": "KEEP", "ravi": "INVALIDATE"}
    assert "REVISE" in owner.get("/annotate/adjudicate").text
    assert owner.get("/annotate/adjudicate/nosuchitem").headers["location"] == "/annotate/adjudicate"


def test_the_agreement_page_shows_what_the_findings_say(place):
    _disagree(place)
    page = client(place).get("/annotate/agreement").text
    for word in ("Krippendorff", "Gwet", "Cohen", "site", "language", "category", "wrong labels not kept", "asha"):
        assert word in page


def test_without_a_sheet_the_page_says_how_to_draw_one(run, browser):
    assert "antar annotate init" in browser.get("/annotate").text
    assert guests_of(run.folder) == {}
