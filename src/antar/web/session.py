"""Who may look and write: whoever opened a printed link, or knows the password, in that browser.

A token in a link works once and is exchanged for a cookie that scripts cannot read and other sites cannot send.
Requests that name a host which this server does not answer to are refused, so that a web page elsewhere cannot reach
a run through a name that it points at this machine (DNS rebinding). Every write carries the session's CSRF token, in
a form field or a header, and comes from a page of this server. Without a session every address says 401, also those
that do not exist.

An annotator is a guest: a link of their own opens the blind pages and nothing else. It works again and again, and its
session outlives the server, for who annotates for days comes back to what was begun.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost")
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
MOST_BYTES = 8 * 2**20
"""Of one write. More is refused before it is read."""
LOGIN = "/login"
GUEST_DAYS = 60
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_USED = "This link has been used. Each link works once: use another, or start the server again for new ones.\n"
_NOT_HERE = "This page is not for annotators.\n"
_NO_SESSION = "Open the link that antar printed.\n"


@dataclass(frozen=True)
class Session:
    """One browser's, or one guest's. `id` may be written to files (it opens nothing); `csrf` goes into its pages;
    `guest` is the annotator's name, "" for who may see everything."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    guest: str = ""


class Guard:
    """The outermost layer of the app: host, method, session, CSRF, and the headers of every answer.

    tokens:   of the links, each for one browser; password: also opens, where it is not None
    hosts:    names that requests may be addressed to, without ports
    cookie:   the cookie's name; browsers share cookies between ports, so two servers need two names
    guests:   annotator → the token of their link; guest_paths: what guests may reach, and whatever lies below it
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Iterable[str],
        *,
        password: str | None = None,
        hosts: Iterable[str] = LOOPBACK,
        cookie: str = "antar",
        guests: Mapping[str, str] | None = None,
        guest_paths: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._tokens = set(tokens)
        self._used = set[str]()
        self._password = password
        self._hosts = frozenset(host.lower() for host in hosts)
        self._cookie = cookie
        self._sessions: dict[str, Session] = {}
        self._guests = {token: name for name, token in (guests or {}).items()}
        self._guest_paths = tuple(guest_paths)
        for token, name in self._guests.items():
            self._sessions[_derived(token, "cookie")] = Session(
                _derived(token, "id")[:16], _derived(token, "csrf"), name
            )
        self._one_guess = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_defaults(message["headers"])
            await send(message)

        request = Request(scope, receive)
        answer = self._refusal(request)
        if answer is None and request.method == "POST":
            body = await _read(request)
            answer = PlainTextResponse("Too much at once.\n", 413) if body is None else None
            if body is not None:
                receive = _replayed(body)
                answer = await self._login(request, body) or self._forged(request, body)
        answer = answer or self._exchange(request)
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if hostname(request.headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("This server does not answer to that name.\n", 421)
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("Only GET and POST.\n", 405, {"Allow": "GET, HEAD, POST"})
        return None

    def _exchange(self, request: Request) -> Response | None:
        """A redirect with the cookie for a token, a refusal without either, None for who has the cookie."""
        offered = request.query_params.get("token")
        if offered is not None and (guest := _find(offered, self._guests)) is not None:
            answer = self._onward(request)
            self._give(answer, _derived(guest, "cookie"), GUEST_DAYS * 24 * 3600)
            return answer
        session = self._session(request)
        if session is not None:
            request.scope["session"] = session
            if session.guest and not self._is_for_guests(request.url.path):
                first = request.url.path == "/" and self._guest_paths
                return RedirectResponse(self._guest_paths[0], 303) if first else PlainTextResponse(_NOT_HERE, 403)
            # A link that is opened a second time in its own browser leads on; the token goes from the address.
            return None if offered is None or request.method == "POST" else self._onward(request)
        if offered is not None and (token := _find(offered, self._tokens)) is not None:
            self._tokens.discard(token)
            self._used.add(token)
            return self._welcome(self._onward(request))
        if self._password is not None:
            return _login_page(without_token(request), 401)
        used = offered is not None and _find(offered, self._used) is not None
        return PlainTextResponse(_USED if used else _NO_SESSION, 401)

    async def _login(self, request: Request, body: bytes) -> Response | None:
        """The answer to a password; None where this is no login."""
        if self._password is None or request.url.path != LOGIN or self._session(request) is not None:
            return None
        if not _same_origin(request):
            return PlainTextResponse("This form is not from here.\n", 403)
        given = form_of(body)
        async with self._one_guess:
            if not _same(given.get("password", ""), self._password):
                await asyncio.sleep(1)  # one guess a second, however many ask
                return _login_page(given.get("next", "/"), 401, "That is not the password.")
        return self._welcome(RedirectResponse(local(given.get("next", "/")), 303))

    def _forged(self, request: Request, body: bytes) -> Response | None:
        """A refusal for a write that this server's own page did not make; None for who has no session at all."""
        session = self._session(request)
        if session is None:
            return None
        offered = request.headers.get(CSRF_HEADER)
        if offered is None and _is_form(request):
            offered = form_of(body).get(CSRF_FIELD)
        if not _same(offered or "", session.csrf) or not _same_origin(request):
            return PlainTextResponse("This form is too old or not from here. Load the page again.\n", 403)
        return None

    def _onward(self, request: Request) -> Response:
        return RedirectResponse(without_token(request), 303)

    def _welcome(self, answer: Response) -> Response:
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = Session()
        self._give(answer, secret)
        return answer

    def _give(self, answer: Response, secret: str, seconds: int | None = None) -> None:
        answer.set_cookie(self._cookie, secret, httponly=True, samesite="strict", path="/", max_age=seconds)

    def _is_for_guests(self, path: str) -> bool:
        return any(path == one or path.startswith(f"{one}/") for one in self._guest_paths)

    def _session(self, request: Request) -> Session | None:
        secret = _find(request.cookies.get(self._cookie, ""), self._sessions)
        return None if secret is None else self._sessions[secret]


def session_of(request: Request) -> Session:
    """The session of a request that the guard let through."""
    return request.scope["session"]


def form_of(body: bytes) -> dict[str, str]:
    """The fields of an urlencoded form; of a field that comes twice, the last."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def hostname(host: str) -> str:
    """The name in a Host header, without the port: `[::1]:80` → `::1`."""
    return (urlsplit(f"//{host}").hostname or "") if host.isascii() and "/" not in host and "@" not in host else ""


def without_token(request: Request) -> str:
    """The address that was asked for, less the token: always a path on this machine."""
    kept = [
        (key, value)
        for key, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if key != "token"
    ]
    # One slash in front only: `//host` would leave this machine.
    path = "/" + quote(str(request.scope["path"]).lstrip("/\\"))
    return path + (f"?{urlencode(kept)}" if kept else "")


def local(address: str) -> str:
    """`address` where it is a path on this server, else the first page."""
    stays = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if stays else "/"


def _same_origin(request: Request) -> bool:
    """Whether the browser says that a page of this server sent it; programs say nothing, and need the token."""
    origin = request.headers.get("origin")
    if origin == "null" and request.headers.get("sec-fetch-site") == "same-origin":
        origin = None  # a browser hides the origin of a form where pages send no referrer
    site = request.headers.get("sec-fetch-site", "same-origin")
    host = request.headers.get("host", "")
    return site in ("same-origin", "none") and (origin is None or urlsplit(origin).netloc.lower() == host.lower())


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "")
    return kind.split(";", 1)[0].strip().lower() == "application/x-www-form-urlencoded"


def _derived(token: str, use: str) -> str:
    """A secret of a guest's that every server makes the same of their token."""
    return hmac.new(token.encode("utf-8"), use.encode("utf-8"), hashlib.sha256).hexdigest()


def _find(offered: str, known: Iterable[str]) -> str | None:
    # All are compared, each in constant time, so that the time says nothing about any of them.
    found = [one for one in known if _same(offered, one)]
    return found[0] if found else None


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


async def _read(request: Request) -> bytes | None:
    """The whole body; None where it is more than MOST_BYTES."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _replayed(body: bytes) -> Receive:
    """A `receive` that gives the body once more, to the page that handles it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _login_page(after: str, status: int, told: str = "") -> Response:
    """Plain HTML without a style sheet: who has no session may not load one."""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>antar</title><h1>antar</h1><p role=status>{escape(told)}</p>"
        f'<form method="post" action="{LOGIN}"><input type="hidden" name="next" value="{escape(local(after))}">'
        '<label>Password <input type="password" name="password" autocomplete="current-password" autofocus required>'
        "</label> <button>Open</button></form></html>\n"
    )
    return HTMLResponse(page, status)


def _with_defaults(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = Headers(raw=headers)
    wanted = {**HEADERS, "Content-Security-Policy": POLICY}
    extra = [(name.lower().encode(), value.encode()) for name, value in wanted.items() if name not in there]
    return [*headers, *extra]
