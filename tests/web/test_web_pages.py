"""The browser: closed to who has no link, read-only, escaped, searched and paged on the server."""

from __future__ import annotations

import html
import importlib.util
import re
import socket
import unicodedata
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the web extra is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.requests import Request
from starlette.testclient import TestClient

from antar.core.errors import UserError
from antar.run import load_run
from antar.web import require_extra, serve
from antar.web.app import create_app
from antar.web.server import listen
from antar.web.session import without_token
from antar.web.table import ROWS_PER_PAGE, Query, folded

TOKEN = "the-token"
HERE = "http://127.0.0.1:8437"


@pytest.fixture(scope="module")
def fake():
    path = Path(__file__).resolve().parent.parent / "fake_run.py"
    spec = importlib.util.spec_from_file_location("fake_run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(fake, tmp_path_factory):
    made = load_run(fake.write_fake_run(tmp_path_factory.mktemp("runs") / "fake"))
    (made.folder / "report").mkdir()
    (made.folder / "report/index.html").write_text("<!doctype html><p>the report</p>", encoding="utf-8")
    return made


def client_of(run) -> TestClient:
    return TestClient(create_app(run, TOKEN), base_url=HERE, follow_redirects=False)


@pytest.fixture(scope="module")
def browser(run) -> TestClient:
    client = client_of(run)
    assert client.get(f"/?token={TOKEN}").status_code == 303
    return client


def test_nothing_is_seen_without_the_link(run):
    client = client_of(run)
    for path in ("/", "/report", "/features", "/feature/base.layer01/0", "/style.css", "/nowhere"):
        answer = client.get(path)
        assert answer.status_code == 403 and "fake" not in answer.text
    assert client.get("/?token=wrong").status_code == 403
    assert client.get("/?token=%C3%A9").status_code == 403
    assert client.get("/features", headers={"Cookie": "antar=guess"}).status_code == 403


def test_the_link_works_once_and_gives_a_cookie_that_only_the_browser_has(run):
    client = client_of(run)
    answer = client.get(f"/features?token={TOKEN}&text=lamp")
    assert answer.status_code == 303 and answer.headers["location"] == "/features?text=lamp"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert TOKEN not in answer.headers["set-cookie"]
    assert client.get("/features").status_code == 200
    again = TestClient(client.app, base_url=HERE, follow_redirects=False).get(f"/?token={TOKEN}")
    assert again.status_code == 403 and "has been used" in again.text


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\\\evil.example", "/a b"])
def test_the_redirect_never_leaves_this_machine(path):
    scope = {"type": "http", "path": path, "query_string": b"token=t&text=%2F%2F", "headers": [], "method": "GET"}
    address = without_token(Request(scope))
    assert address.endswith("?text=%2F%2F") and "token" not in address
    assert not address.startswith("//") and "\\" not in address and " " not in address


def test_other_hosts_and_writing_are_refused(run, browser):
    rebound = TestClient(create_app(run, TOKEN), base_url="http://evil.example", follow_redirects=False)
    assert rebound.get(f"/?token={TOKEN}").status_code == 421
    for method in ("post", "put", "delete", "patch"):
        assert getattr(browser, method)("/features").status_code == 405


def test_every_answer_carries_the_policy(browser):
    for path in ("/features", "/feature/base.layer01/0", "/nowhere", "/report", "/style.css"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script" not in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"


def test_the_report_is_served_as_it_is_or_said_to_be_missing(run, browser, fake, tmp_path):
    assert browser.get("/report").text == "<!doctype html><p>the report</p>"
    assert "style-src 'sha256-" in browser.get("/report").headers["content-security-policy"]
    bare = client_of(load_run(fake.write_fake_run(tmp_path / "bare")))
    bare.get(f"/?token={TOKEN}")
    answer = bare.get("/report")
    assert answer.status_code == 404 and "has no report yet" in answer.text


def features_of(page: str) -> list[str]:
    return re.findall(r'<a href="/feature/[^"]+">([^<]+)</a>', page)


def test_pages_hold_every_live_feature_once(run, browser):
    found: list[str] = []
    page, link = 0, "/features?sort=feature"
    while link:
        text = browser.get(link).text
        names = features_of(text)
        assert len(names) <= ROWS_PER_PAGE
        found += names
        following = re.search(r'<a rel="next" href="([^"]+)"', text)
        link, page = html.unescape(following[1]) if following else None, page + 1
    live = run.features.filter("live")
    wanted = [name for name in live["feature"] if ":" not in name]
    assert found == wanted and page > 1
    assert features_of(browser.get("/features?sort=feature&page=999999").text) == found[-len(names) :]


def test_the_strongest_effect_comes_first(browser):
    page = browser.get("/features").text
    rows = re.findall(r'<tr>\n<th scope="row">.*?</tr>', page, re.S)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in rows]
    effects = [abs(float(row[4].replace("−", "-"))) for row in cells]
    assert len(effects) > 20 and effects == sorted(effects, reverse=True)
    assert all("shuffled groups" in row[5] for row in cells)  # a null beside every effect


def test_filters_and_search(run, browser):
    only = features_of(browser.get("/features?dictionary=delta.layer01").text)
    assert only and all(name.startswith("delta.layer01/") for name in only)
    revised = features_of(browser.get("/features?verdict=REVISE").text)
    verdicts = dict(run.verdicts.select("feature", "verdict").iter_rows())
    assert revised and {verdicts[name] for name in revised} == {"REVISE"}
    spoken = features_of(browser.get("/features?language=hi").text)
    languages = dict(run.labels.select("feature", "language").iter_rows())
    assert spoken and {languages[name] for name in spoken} == {"hi"}
    labels = dict(run.labels.select("feature", "label").iter_rows())
    found = features_of(browser.get("/features", params={"text": "दीवाली"}).text)
    assert found and all("दीवाली" in labels[name] for name in found)
    assert found == features_of(
        browser.get("/features", params={"text": unicodedata.normalize("NFD", "दीवाली")}).text
    )
    assert features_of(browser.get("/features", params={"text": "LAMPS <B>"}).text)
    assert "No feature fits" in browser.get("/features", params={"text": ".*"}).text  # a text, not a pattern


def test_what_is_asked_is_escaped_and_never_an_error(browser):
    hostile = "\"><script>alert(1)</script>'"
    for name in ("text", "dictionary", "language", "verdict", "sort", "page"):
        answer = browser.get("/features", params={name: hostile})
        assert answer.status_code == 200 and "<script" not in answer.text
    missing = browser.get(f"/feature/{hostile}")
    assert missing.status_code == 404 and "<script" not in missing.text
    assert browser.get("/nowhere").status_code == 404


def test_a_feature_page_shows_everything_escaped(fake, browser, run):
    feature = run.labels.filter(run.labels["label"].str.contains("</script>"))["feature"][0]
    page = browser.get(f"/feature/{feature}").text
    assert "&lt;/script&gt;&lt;script&gt;alert(3)" in page and "<script" not in page
    assert html.escape(fake.HINDI) in page and 'lang="hi"' in page
    assert "⟨U+202E⟩" in page and "\u202e" not in page
    assert "null: 95% of |d|" in page and "AUROC" in page
    for tag in ("src=", "http://", "https://"):
        assert tag not in re.sub(r"&lt;.*?&gt;", "", page)


def test_a_run_without_labels_or_contrasts_is_browsed_all_the_same(fake, tmp_path):
    client = client_of(load_run(fake.write_fake_run(tmp_path / "bare", labels=False, contrasts=False)))
    client.get(f"/?token={TOKEN}")
    page = client.get("/features").text
    assert len(features_of(page)) == ROWS_PER_PAGE and "not measured" in page and "no label" in page
    assert client.get("/feature/base.layer01/0").status_code == 200


def test_a_query_takes_only_sense():
    assert Query.of({"page": "²", "sort": "x"}) == Query()
    assert Query.of({"page": "9" * 30}).page == 1
    assert len(Query.of({"text": "x" * 9999}).text) == 200
    assert folded("É") == folded("E\u0301")


def test_without_the_extra_there_is_one_line(monkeypatch):
    monkeypatch.setattr("antar.web.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'antar\[web\]'") as error:
        require_extra()
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="web extra"):
        serve("anywhere")


def test_a_taken_port_and_a_missing_run_are_one_line(tmp_path):
    with pytest.raises(UserError, match="expected a run folder"):
        serve(tmp_path)
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    with pytest.raises(UserError, match="expected a free port"):
        listen(taken.getsockname()[1])
    taken.close()
    with listen(0) as mine:
        assert mine.getsockname()[0] == "127.0.0.1"
