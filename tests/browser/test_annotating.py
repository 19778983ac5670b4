"""Two people annotate in two real browsers with the keyboard alone, while the server is killed and started again;
then a third decides where they differ, and the agreement is read."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("starlette", reason="the web extra is not installed")

from playwright import sync_api

from antar.people.adjudicate import cases_of
from antar.people.findings import findings_of
from antar.people.queue import progress_of
from antar.people.store import state_of
from antar.stages.people import init_sheet
from antar.web.annotate.links import sheet_of
from fake_run import HOSTILE, write_fake_run

pytestmark = pytest.mark.browser
SCREENSHOTS = Path(os.environ.get("ANTAR_SCREENSHOTS") or "build/screenshots")
SLOW_MS = 60_000


class Server:
    """`antar serve` as a process of its own, always at the same port."""

    def __init__(self, run: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.run, self.process = run, None
        self.start()

    def start(self) -> None:
        command = "from antar.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, "serve", str(self.run), "--port", str(self.port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.links: dict[str, str] = {}
        until = time.monotonic() + 120
        while len(self.links) < 3 and time.monotonic() < until:
            line = self.process.stdout.readline()
            if found := re.search(r"(?:annotate as (\w+), blind|open)\S* (http\S+)", line):
                self.links[found[1] or ""] = found[2]
        assert len(self.links) == 3, self.links

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    run = write_fake_run(tmp_path_factory.mktemp("annotating") / "fake", llm=True)
    init_sheet(run, ["asha", "ravi"], "10")
    made = Server(run)
    yield made
    made.kill()


class Person:
    """One browser, and what went wrong in it."""

    def __init__(self, chromium, server: Server, who: str, **settings) -> None:
        self.who, self.server, self.faults = who, server, []
        self.page = chromium.new_context(**settings).new_page()
        self.page.set_default_timeout(SLOW_MS)
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.faults.append(f"error {error}"))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)
        self.page.goto(server.links[who])

    def _said(self, message) -> None:
        if message.type in ("error", "warning") and "ERR_CONNECTION" not in message.text:
            self.faults.append(f"{message.type} {message.text}")

    def _asked(self, request) -> None:
        if not request.url.startswith((f"http://127.0.0.1:{self.server.port}/", "data:")):
            self.faults.append(f"request {request.url}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def item(self) -> str:
        return self.page.url.rsplit("/", 1)[1]

    def blind(self, pattern: str, what: str) -> None:
        self.press(pattern)
        self.page.keyboard.type(what)
        self.press("Enter")
        self.page.wait_for_selector("#proposed")

    def judge(self, verdict: str, kind: str, better: str = "") -> None:
        """Verdict, kind, Enter; waits for the next item."""
        before = self.page.url
        self.press(verdict)
        if better:
            self.page.keyboard.type(better)
            self.press("Enter")
        self.press(kind, "Enter")
        self.page.wait_for_url(lambda url: url != before)


def shot(page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def test_ten_items_with_the_keyboard_alone_a_kill_in_the_middle_and_two_browsers(server, chromium):
    sheet = sheet_of(server.run)
    asha, ravi = Person(chromium, server, "asha"), Person(chromium, server, "ravi", color_scheme="dark")
    assert asha.page.url.endswith("/annotate/mine")
    for person in (asha, ravi):
        person.press("Enter")
        person.page.wait_for_selector(".texts")
    done: dict[str, tuple[str, str, str]] = {}
    for n in range(10):
        item = asha.item
        assert asha.page.locator("#proposed").count() == 0
        if n == 0:
            # What is missing is said, and nothing is shown before its time.
            asha.page.locator("#reveal").focus()
            asha.press("Enter")
            assert "a key from 1 to 5" in asha.page.locator("#told").inner_text()
            asha.page.locator("body").click(position={"x": 2, "y": 2})
        what = f"दीये और lamps {n}"
        if n == 2:  # a reload in the middle of a word
            asha.press("4")
            asha.page.keyboard.type(what)
            asha.page.reload()
            assert asha.page.locator("#what").input_value() == what
            asha.page.locator("#what").focus()
            asha.press("Enter")
            asha.page.wait_for_selector("#proposed")
        elif n == 4:  # the server is killed while something is being typed
            asha.press("4")
            asha.page.keyboard.type(what[:5])
            server.kill()
            asha.page.keyboard.type(what[5:])
            asha.press("Enter")
            asha.page.locator("#status", has_text="Not saved yet").wait_for()
            shot(asha.page, "annotate-server-away")
            server.start()
            asha.page.wait_for_selector("#proposed")  # the page goes on by itself
        else:
            asha.blind("4", what)
        if n == 5:
            shot(asha.page, "annotate-item-light")
        asha.judge(*(("r", "c", "a better label") if n == 3 else ("k", "c")))
        done[item] = ("4", what, "REVISE" if n == 3 else "KEEP")
        if n < 6:  # the other one, in between
            theirs = ravi.item
            ravi.blind("2", "<img src=x onerror=alert(9)> {{ 7*7 }}")
            if n == 3:
                shot(ravi.page, "annotate-item-dark")
            ravi.judge("i", "o")
            assert state_of(sheet, "ravi", theirs).submitted == "yes"
    for item, (pattern, what, verdict) in done.items():
        state = state_of(sheet, "asha", item)
        assert (state.pattern, state.what, state.verdict, state.kind, state.submitted) == (
            pattern, what, verdict, "cultural", "yes"
        )  # fmt: skip
        assert 0 < state.seconds < 300
    assert len(progress_of(sheet, "ravi").submitted) == 6
    # Undo goes back over the item before, key by key, and stops where the label was seen.
    last = list(done)[-1]
    asha.press("u")
    asha.page.wait_for_url(f"**/{last}")
    asha.press("u")
    sync_api.expect(asha.page.locator("[data-field=kind] [aria-pressed=true]")).to_have_count(0, timeout=SLOW_MS)
    asha.judge("i", "o")
    assert state_of(sheet, "asha", last).verdict == "INVALIDATE"
    assert asha.faults == ravi.faults == []
    asha.page.set_viewport_size({"width": 400, "height": 800})
    wide = asha.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 400, "the page is wider than a phone"
    shot(asha.page, "annotate-item-400")


def test_hostile_texts_are_shown_as_text(server, chromium):
    ravi = Person(chromium, server, "ravi")
    ravi.press("Enter")
    ravi.page.wait_for_selector(".texts")
    assert HOSTILE[2] in ravi.page.locator(".texts").inner_text()
    before = ravi.page.evaluate("document.querySelectorAll('script, img, svg, iframe, link').length")
    ravi.press("2")
    ravi.page.keyboard.type(HOSTILE[0] + HOSTILE[2])
    ravi.press("Enter")
    ravi.page.wait_for_selector("#proposed")
    assert ravi.page.locator("#what").input_value() == HOSTILE[0] + HOSTILE[2]
    assert ravi.page.evaluate("document.querySelectorAll('script, img, svg, iframe, link').length") == before
    ravi.judge("k", "t")
    assert ravi.faults == []


SLOW = """let calls = 0, under = 0;
const begin = () => {
  under += 1;
  sessionStorage.most = Math.max(sessionStorage.most || 0, under);
};
const plain = window.fetch, pause = (ms) => new Promise((done) => setTimeout(done, ms));
window.fetch = async (address, sent) => {
  calls += 1;
  begin();
  await pause(String(sent?.body).includes("field=revealed") ? 5000 : calls === 2 ? 5500 : 0);
  const answer = await plain(address, sent), json = answer.json.bind(answer);
  answer.json = () => pause(1500).then(json).finally(() => { under -= 1; });
  return answer;
};"""
"""A server that is slow and out of step, and a count of the writes that are under way at once."""


def test_keys_that_come_faster_than_the_server_answers_are_all_kept_in_their_order(server, chromium):
    ravi = Person(chromium, server, "ravi")
    ravi.page.add_init_script(SLOW)
    ravi.press("Enter")
    ravi.page.wait_for_selector(".texts")
    item = ravi.item
    ravi.press("2", "Escape")
    while ravi.page.evaluate("localStorage.length"):  # the first is kept by now, and its answer being read
        time.sleep(0.02)
    ravi.press("4")
    ravi.page.keyboard.type("two")
    ravi.press("Enter")
    ravi.page.wait_for_selector("#proposed")
    ravi.judge("k", "l")
    state = state_of(sheet_of(server.run), "ravi", item)
    assert (state.pattern, state.what, state.verdict, state.kind) == ("4", "two", "KEEP", "linguistic")
    assert state.submitted == "yes"
    assert ravi.page.evaluate("sessionStorage.most") == "1", "the next write waits until the last is known to be kept"
    assert ravi.faults == []


def test_a_text_without_a_pattern_is_gone_through_by_keys_alone(server, chromium):
    ravi = Person(chromium, server, "ravi")
    ravi.page.goto(f"http://127.0.0.1:{server.port}/annotate/mine/next")
    ravi.page.wait_for_selector(".texts")
    item = ravi.item
    ravi.press("1", "Enter")
    ravi.page.wait_for_selector("#proposed")
    ravi.judge("i", "o")
    state = state_of(sheet_of(server.run), "ravi", item)
    assert (state.pattern, state.what, state.verdict, state.submitted) == ("1", "", "INVALIDATE", "yes")
    assert ravi.faults == []


def test_a_third_person_decides_and_the_agreement_is_read(server, chromium):
    sheet = sheet_of(server.run)
    for who in ("asha", "ravi"):  # the rest, so that both have answered all
        person = Person(chromium, server, who)
        while progress_of(sheet, who).next:
            person.page.goto(f"http://127.0.0.1:{server.port}/annotate/mine/next")
            if not person.page.locator("#proposed").count():
                person.page.locator("body").click(position={"x": 2, "y": 2})
                person.blind("3", "rest")
            person.judge("k", "c")
        person.page.wait_for_selector("text=are answered")
        assert person.faults == []
    owner = Person(chromium, server, "", viewport={"width": 1600, "height": 1000})
    owner.page.goto(f"http://127.0.0.1:{server.port}/annotate")
    shot(owner.page, "annotate-people")
    cases = cases_of(sheet)
    assert cases
    owner.page.goto(f"http://127.0.0.1:{server.port}/annotate/adjudicate")
    shot(owner.page, "annotate-disagreements")
    owner.page.locator("tbody a").first.focus()
    owner.press("Enter")
    owner.page.wait_for_selector("#ruling")
    ruled = owner.item
    owner.page.locator("#adjudicator").focus()
    owner.page.keyboard.type("meera")
    owner.press("Escape", "k", "c")
    shot(owner.page, "annotate-case")
    owner.press("Enter")
    owner.page.wait_for_url(lambda url: not url.endswith(ruled))
    ruling = next(case.ruling for case in cases_of(sheet) if case.item == ruled)
    assert (ruling.adjudicator, ruling.verdict, ruling.kind) == ("meera", "KEEP", "cultural")
    owner.page.goto(f"http://127.0.0.1:{server.port}/annotate/agreement")
    found = findings_of(sheet, seed=5).questions["verdict"]
    row = owner.page.locator("tr", has=owner.page.locator("th", has_text=re.compile(r"^verdict$"))).inner_text()
    assert f"{found.raw.value:.2f}" in row and str(found.items) in row
    shot(owner.page, "annotate-agreement")
    assert owner.faults == []
