"""What can go wrong with one call, by what is to be done about it.

Busy         the server says so (429): the endpoint takes fewer calls for a while; the call has lost nothing
Unreachable  nobody listens: the endpoint is left out until it answers; the call has lost nothing
Broken       5xx, a timeout, a connection that ended early: the call is tried again, so many times
Refused      400 and the like: this question cannot be asked there
BadAnswer    an answer came and cannot be used: cut off, not JSON, outside the schema, ids that are not there
NoEntry      the key or the model's name is wrong: no call can succeed, so the run stops
"""

from __future__ import annotations

import openai

from antar.interpret.llm.replies import on_one_line

LONGEST = 300


class Fault(Exception):
    """One attempt that failed; `str` is the reason, in one line."""


class Busy(Fault):
    def __init__(self, reason: str, wait_s: float | None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Unreachable(Fault):
    pass


class Broken(Fault):
    """loading: the server is there and says that it is not ready yet (503)."""

    def __init__(self, reason: str, timed_out: bool = False, loading: bool = False) -> None:
        super().__init__(reason)
        self.timed_out, self.loading = timed_out, loading


class Refused(Fault):
    pass


class BadAnswer(Fault):
    pass


class NoEntry(Fault):
    pass


def one_line(text: str) -> str:
    return on_one_line(text)[:LONGEST]


def fault_of(error: Exception) -> Fault:
    """The fault that an exception of the openai package, or of what lies beneath it, is."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Broken("no answer in time", timed_out=True)
    if isinstance(error, openai.APIStatusError):
        return _of_status(error)
    beneath: BaseException | None = error
    while beneath is not None:
        # By name: which HTTP library lies beneath depends on the version of openai.
        if isinstance(beneath, ConnectionRefusedError) or type(beneath).__name__ == "ConnectError":
            return Unreachable("nobody listens there")
        beneath = beneath.__cause__
    # A body that ends early or is no JSON; also what openai could not make its own model of.
    return Broken(f"the connection or the reply was broken: {one_line(type(error).__name__)}")


def _of_status(error: openai.APIStatusError) -> Fault:
    reason = f"{error.status_code}: {one_line(_message(error))}"
    if error.status_code == 429:
        return Busy(reason, _retry_after(error.response.headers.get("retry-after")))
    if error.status_code in (401, 403, 404):
        return NoEntry(reason)
    if error.status_code >= 500 or error.status_code in (408, 409, 425):
        return Broken(reason, loading=error.status_code == 503)
    return Refused(reason)


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        found = body.get("message") or body.get("error") or body
        return str(found)
    return str(body or error.message)


def _retry_after(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None  # a date: rare, and a guess will do
