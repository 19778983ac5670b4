"""The guard: nothing without a session, links that work once, forged and rebound requests, the policy."""

from __future__ import annotations

import re
import socket
import time

import pytest

pytest.importorskip("starlette", reason="the web extra is not installed")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from antar.core.errors import UserError
from antar.web import require_extra, serve
from antar.web.app import SECTIONS, create_app, routes_of
from antar.web.server import PASSWORD, hosts_of, listen, read_password, warning
from antar.web.session import MOST_BYTES, Guard, form_of, hostname, local, session_of, without_token
from antar.web.shell import Shell

HERE, TOKEN = "http://127.0.0.1:8437", "the-token"


def all_routes(routes) -> list[Route]:
    found = []
    for route in routes:
        found += all_routes(route.routes) if isinstance(route, Mount) else [route]
    return found


def address_of(route) -> str:
    """Some address that the route answers."""
    names = {"name": "base.layer01/0", "figure": "groups"}
    if "static" in route.path:
        names["name"] = "antar.css"
    if "/dictionary/" in route.path:
        names = {"name": "base.layer01", "figure": "loss"}
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda m: names.get(m[1], "1"), route.path)


def test_every_route_says_401_without_a_session(run, client_of):
    client = client_of(run)
    routes = all_routes(routes_of(Shell(run, SECTIONS)))
    assert len(routes) >= 3
    for route in routes:
        path = address_of(route)
        for method in ("get", "head", "post"):
            answer = getattr(client, method)(path)
            assert answer.status_code == 401, (method, path)
            assert "fake" not in answer.text and "set-cookie" not in answer.headers
    for path in ("/nowhere", "/static/antar.css", "/%2e%2e/features"):
        assert client.get(path).status_code == 401
    for wrong in ("wrong", "%C3%A9", ""):
        assert client.get(f"/?token={wrong}").status_code == 401
    for cookie in ("antar=guess", "antar=", "antar=\u00e9"):
        assert client.get("/report", headers={"Cookie": cookie.encode("latin-1")}).status_code == 401


def test_every_route_answers_with_a_session(run, browser):
    for route in all_routes(routes_of(Shell(run, SECTIONS))):
        if "GET" in (route.methods or ()):
            assert browser.get(address_of(route)).status_code in (200, 303), route.path


def test_a_link_works_once_and_gives_a_cookie_that_only_its_browser_has(run, client_of):
    client = client_of(run)
    answer = client.get(f"/report?token={TOKEN}&text=lamp")
    assert answer.status_code == 303 and answer.headers["location"] == "/report?text=lamp"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert TOKEN not in answer.headers["set-cookie"]
    assert client.get("/report").status_code == 200
    assert client.get(f"/report?token={TOKEN}").headers["location"] == "/report"  # opened again by its own browser
    again = TestClient(client.app, base_url=HERE, follow_redirects=False).get(f"/?token={TOKEN}")
    assert again.status_code == 401 and "has been used" in again.text


def test_two_links_are_two_sessions(run):
    app = create_app(run, ["one", "two"], cookie="antar-8437")
    browsers = [TestClient(app, base_url=HERE, follow_redirects=False) for _ in range(2)]
    cookies = [b.get(f"/?token={t}").cookies["antar-8437"] for b, t in zip(browsers, ("one", "two"), strict=True)]
    assert cookies[0] != cookies[1]
    pages = [b.get("/nowhere").text for b in browsers]
    tokens = [re.search(r"X-CSRF-Token&#34;: &#34;([^&]+)&#34;", page)[1] for page in pages]
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\\\evil.example", "/a b"])
def test_a_redirect_never_leaves_this_machine(path):
    scope = {"type": "http", "path": path, "query_string": b"token=t&text=%2F%2F", "headers": [], "method": "GET"}
    address = without_token(Request(scope))
    assert address.endswith("?text=%2F%2F") and "token" not in address
    assert not address.startswith("//") and "\\" not in address and " " not in address
    assert local(path) in ("/", "/a b")
    assert local("https://evil.example") == "/" and local("/features?x=1") == "/features?x=1"
    assert local("/\nx") == "/"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8437", "127.0.0.1.evil.example", "", "[::1]", "a@127.0.0.1", "localhost/x"]
)
def test_other_names_are_refused(run, host, client_of):
    client = client_of(run)
    assert client.get(f"/?token={TOKEN}", headers={"Host": host}).status_code == 421
    assert (
        client.get(f"/?token={TOKEN}", headers={"Host": "LOCALHOST:1"}).status_code == 303
    )  # and the link was not spent


def test_names_in_host_headers():
    assert hostname("[::1]:80") == "::1" and hostname("LocalHost:1") == "localhost" and hostname("é") == ""


@pytest.fixture
def written():
    """A guard over an app that says what was written to it."""

    async def write(request: Request):
        body = await request.body()
        return PlainTextResponse(f"{session_of(request).csrf} {body.decode()} {form_of(body).get('x')}")

    app = Guard(Starlette(routes=[Route("/write", write, methods=["GET", "POST"])]), [TOKEN])
    client = TestClient(app, base_url=HERE, follow_redirects=False)
    client.get(f"/write?token={TOKEN}")
    return client, client.get("/write").text.split()[0]


def test_a_write_needs_the_sessions_token(written):
    client, csrf = written
    assert client.post("/write", data={"x": "1", "csrf": csrf}).text.endswith(" 1")
    assert client.post("/write", content='{"a": 1}', headers={"X-CSRF-Token": csrf}).text == f'{csrf} {{"a": 1}} None'
    for forged in ({"data": {"x": "1"}}, {"data": {"csrf": "guess"}}, {"headers": {"X-CSRF-Token": "guess"}},
                   {"content": f"csrf={csrf}", "headers": {"Content-Type": "text/plain"}},
                   {"params": {"csrf": csrf}}, {"data": {"csrf": ""}}):  # fmt: skip
        assert client.post("/write", **forged).status_code == 403, forged


def test_a_write_from_another_page_is_refused_even_with_the_token(written):
    client, csrf = written
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                    {"Origin": "http://127.0.0.1:9999"}, {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
        assert client.post("/write", data={"csrf": csrf}, headers=headers).status_code == 403, headers
    assert client.post("/write", data={"csrf": csrf}, headers={"Origin": HERE}).status_code == 200


def test_methods_and_sizes_are_bounded(written):
    client, csrf = written
    for method in ("put", "delete", "patch", "options"):
        assert getattr(client, method)("/write").status_code == 405
    assert client.post("/write", content=b"x" * (MOST_BYTES + 1), headers={"X-CSRF-Token": csrf}).status_code == 413
    assert client.post("/write", content=b"x" * 1000, headers={"X-CSRF-Token": csrf}).status_code == 200


def test_a_session_does_not_open_another_server(run, client_of, browser_of):
    one, other = browser_of(run), client_of(run)
    other.cookies = one.cookies
    assert other.get("/report").status_code == 401


def test_a_password_opens_and_guesses_are_slow(run, client_of):
    client = client_of(run, password="a long password")
    first = client.get("/report?x=1")
    assert first.status_code == 401 and 'value="/report?x=1"' in first.text and "<script" not in first.text
    began = time.monotonic()
    wrong = client.post("/login", data={"password": "another", "next": '/"><script>'})
    assert wrong.status_code == 401 and time.monotonic() - began >= 1 and "<script>" not in wrong.text
    assert client.post("/login", data={"password": "a long password"},
                       headers={"Origin": "http://evil.example"}).status_code == 403  # fmt: skip
    opened = client.post("/login", data={"password": "a long password", "next": "//evil.example"})
    assert opened.status_code == 303 and opened.headers["location"] == "/"
    assert client.get("/report").status_code == 200


def test_without_a_password_there_is_no_login(run, client_of):
    assert client_of(run).post("/login", data={"password": ""}).status_code == 401


def test_every_answer_carries_the_policy(browser, run, client_of):
    refused = client_of(run).get("/report")
    for answer in (refused, *map(browser.get, ("/nowhere", "/report", "/static/antar.css"))):
        headers = answer.headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
    assert "script-src 'self'" in browser.get("/nowhere").headers["content-security-policy"]
    assert browser.get("/nowhere").headers["cache-control"] == "no-store"


def test_the_report_is_served_under_its_own_policy_and_never_a_looser_one(run, browser):
    path = run.folder / "report/index.html"
    before = path.read_text(encoding="utf-8")
    try:
        for asked, wanted in (
            ("default-src 'none'; style-src 'sha256-x='", "style-src 'sha256-x='"),
            ("default-src 'none'; script-src 'unsafe-inline'", "default-src 'none'; frame-ancestors 'none'"),
            ("default-src *", "default-src 'none'; frame-ancestors 'none'"),
        ):
            path.write_text(f'<meta http-equiv="Content-Security-Policy" content="{asked}">x', encoding="utf-8")
            assert wanted in browser.get("/report").headers["content-security-policy"]
    finally:
        path.write_text(before, encoding="utf-8")
    assert browser.get("/report").text == before


def test_static_files_are_kept_under_their_content_and_hold_no_foreign_address(browser):
    page = browser.get("/nowhere").text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(addresses) >= 4
    for address in addresses:
        answer = browser.get(address)
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    assert browser.get("/static/antar.css").headers["cache-control"] == "no-store"
    assert browser.get("/static/htmx.LICENSE.txt").text.startswith("Zero-Clause BSD")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", browser.get("/static/antar.css").text)
    for missing in ("../app.py", "nothing.js"):
        assert browser.get(f"/static/{missing}").status_code == 404


def test_pages_hold_no_script_and_no_style_of_their_own(browser):
    page = browser.get("/nowhere").text
    assert not re.search(r"<script(?! src=\"/static/)|<style|\sstyle=|\son[a-z]+=|javascript:", page)


def test_another_host_needs_a_password_and_says_so(monkeypatch):
    monkeypatch.setenv(PASSWORD, "short")
    with pytest.raises(UserError, match="at least 12 characters, found 5"):
        read_password("0.0.0.0")
    monkeypatch.setenv(PASSWORD, "long enough to be one")
    assert read_password("0.0.0.0") == "long enough to be one"
    assert "WARNING" in warning("0.0.0.0", 1) and "plain HTTP" in warning("0.0.0.0", 1)
    assert hosts_of("127.0.0.1") == {"127.0.0.1", "localhost"}
    assert {"10.0.0.5", "localhost"} <= hosts_of("10.0.0.5")
    assert socket.gethostname() in hosts_of("0.0.0.0") and "evil.example" not in hosts_of("0.0.0.0")


def test_without_the_extra_there_is_one_line(monkeypatch):
    monkeypatch.setattr("antar.web.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'antar\[web\]'") as error:
        require_extra()
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="web extra"):
        serve("anywhere")


def test_a_taken_port_a_strange_host_and_a_missing_run_are_one_line(tmp_path):
    with pytest.raises(UserError, match="expected a run folder"):
        serve(tmp_path)
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    with pytest.raises(UserError, match="expected a free port"):
        listen(taken.getsockname()[1])
    taken.close()
    with pytest.raises(UserError, match="expected an address of this machine"):
        listen(0, "no such host")
    with listen(0) as mine:
        assert mine.getsockname()[0] == "127.0.0.1"


def test_small_answers_on_a_kept_connection_are_sent_at_once():
    """A socket that does not say that it is TCP's is not told so by asyncio, and each answer then waits 40 ms."""
    with listen(0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
