"""Who may look: whoever opened the printed link, in that browser, on this machine.

The token in the link works once and is exchanged for a cookie that scripts cannot read and other sites cannot send.
Requests that name another host are refused, so that a web page elsewhere cannot reach a run through a name that it
points at the loopback (DNS rebinding). Only reading is possible.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "antar"
HOSTS = ("127.0.0.1", "localhost")
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_USED = "This link has been used. Stop `antar serve` and start it again for a new one.\n"
_NO_SESSION = "Open the link that `antar serve` printed.\n"


class Guard:
    """The outermost layer of the app: host, method, token, cookie, and the headers of every answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token: str | None = token
        self._secret = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self._exchange(Request(scope))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _with_defaults(message["headers"])
            await send(message)

        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        host = Headers(scope=scope).get("host", "").rsplit(":", 1)[0]
        if host not in HOSTS:
            return PlainTextResponse("Only this machine may look.\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Nothing here can be written.\n", 405, {"Allow": "GET, HEAD"})
        return None

    def _exchange(self, request: Request) -> Response | None:
        """A redirect with the cookie for the token, a refusal without either, None for who has the cookie."""
        offered = request.query_params.get("token")
        if offered is not None and not self._has_cookie(request):
            if self._token is None or not _same(offered, self._token):
                return PlainTextResponse(_USED if self._token is None else _NO_SESSION, 403)
            self._token = None
        elif not self._has_cookie(request):
            return PlainTextResponse(_NO_SESSION, 403)
        elif offered is None:
            return None
        answer = RedirectResponse(without_token(request), 303)
        answer.set_cookie(COOKIE, self._secret, httponly=True, samesite="strict", path="/")
        return answer

    def _has_cookie(self, request: Request) -> bool:
        return _same(request.cookies.get(COOKIE, ""), self._secret)


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8"), other.encode("utf-8"))


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


def _with_defaults(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name.lower() for name, _ in headers}
    wanted = {**HEADERS, "Content-Security-Policy": POLICY}
    extra = [(name.lower().encode(), value.encode()) for name, value in wanted.items()]
    return [*headers, *(pair for pair in extra if pair[0] not in there)]
