"""A scripted OpenAI-compatible server on the loopback, so that it is the client that is tested.

It speaks HTTP/1.1 by hand in a thread of its own, answers by a callable, fails as often and in the ways it is told
to, and counts what it was asked. What it says by default is in `injections.py`, whose names are here too. Run as a
program it serves fixed answers and prints its base URL.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import hashlib
import json
import math
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parent))
from injections import (  # noqa: F401 (some are here for those who import them from here)
    Answer,
    Json,
    choices,
    data_of,
    fixed,
    gullible,
    obedient,
    obeyed_in,
    outside_data,
    properties,
    schema_of,
)

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
FAULT_KINDS = ("429", "500", "slow", "truncated", "invalid_json", "wrong_ids", "dropped", "mid_stream")


@dataclass
class Faults:
    """A share of the chat requests goes wrong, drawn as they arrive; `kinds` are from FAULT_KINDS."""

    share: float
    kinds: tuple[str, ...] = FAULT_KINDS
    seed: int = 0
    retry_after_s: float = 0.02
    slow_s: float = 0.2

    def __post_init__(self) -> None:
        if wrong := set(self.kinds) - set(FAULT_KINDS):
            raise ValueError(f"no such kinds of fault: {sorted(wrong)}")
        self._random = random.Random(self.seed)

    def draw(self) -> str | None:
        return self._random.choice(self.kinds) if self._random.random() < self.share else None


@dataclass(frozen=True)
class Features:
    """What the server can do. prose: it talks around JSON that it does not enforce."""

    json_schema: Literal["enforced", "ignored", "rejected"] = "enforced"
    json_object: Literal["enforced", "ignored", "rejected"] = "enforced"
    logprobs: Literal["given", "ignored", "rejected"] = "given"
    max_top_logprobs: int = 20
    prose: bool = False


@dataclass
class Counts:
    """What a server has seen. The values of `by_status` add up to `requests` when nothing is in flight.

    by_status:     HTTP status, or `dropped`, `mid_stream`, `gone` (the client or the server left before the answer)
    by_fault:      the faults that were done
    in_flight_max: the most chat requests that were being answered at once; those refused with 429 are not among them
    bodies:        sha256 of a chat request's body → how often it came
    answered:      the same, for bodies that were answered whole and without a fault (slow ones count)
    """

    requests: int = 0
    in_flight_max: int = 0
    by_status: Counter[int | str] = field(default_factory=Counter)
    by_fault: Counter[str] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Reply:
    status: int | str
    payload: bytes = b""
    more: str = ""
    answers: str | None = None


def _error(status: int, message: str, param: str | None = None, more: str = "") -> _Reply:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    kind = "server_error" if status >= 500 else kind
    error = {"message": message, "type": kind, "param": param, "code": "unsupported_value" if param else None}
    return _Reply(status, json.dumps({"error": error}).encode(), more)


class ScriptedServer:
    """A server in a `with` block. `faults`, `features`, `capacity` and `answer` may be set while it runs.

    answer:   what is said to a request; runs in the server's thread. One that raises answers 500 and fails the block
    token:    the bearer token that a request must carry
    capacity: requests above so many in flight are answered 429
    """

    def __init__(
        self,
        answer: Callable[[Json], Answer] | None = None,
        *,
        token: str | None = None,
        faults: Faults | None = None,
        features: Features | None = None,
        capacity: int | None = None,
        models: tuple[str, ...] = ("scripted",),
        port: int = 0,
    ) -> None:
        self.answer = answer or obedient
        self.token, self.faults, self.features = token, faults, features or Features()
        self.capacity, self.models, self.port = capacity, models, port
        self.in_flight = 0
        self._counts = Counts()
        self._bugs: list[str] = []
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._listening: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._bugs and kind is None:
            raise AssertionError(f"the answer script raised {len(self._bugs)} times, first:\n{self._bugs[0]}")

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def counts(self) -> Counts:
        """A copy of the counts as they are now."""

        async def copied() -> Counts:
            return copy.deepcopy(self._counts)

        return self._do(copied()) if self._thread.is_alive() else self._counts

    def die(self) -> None:
        """Stop listening and cut every connection, also those that wait for an answer."""
        self._do(self._die())

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen())

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        # Not a port from the system's ephemeral range: while the server is dead, a client that asks again and again
        # could be given that very port as its own and connect to itself.
        for _ in range(200):
            port = self.port or random.SystemRandom().randrange(20_000, 32_000)
            try:
                server = await asyncio.start_server(self._connection, "127.0.0.1", port, limit=1 << 20, backlog=1024)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                self.port, self._listening = port, server
                return
        raise OSError(f"no port to listen on (wanted {self.port or 'any'})")

    async def _die(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        gone = list(self._open)
        for task, writer in list(self._open.items()):
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while self._listening is not None and await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            del self._open[task]
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply; whether the connection stays open."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self._counts.requests += 1
        status: int | str = "gone"
        try:
            reply = await self._reply(first, headers, body)
            if reader.at_eof() or writer.is_closing():
                return False
            status = reply.status
            if reply.answers is not None:
                self._counts.answered[reply.answers] += 1
            keep = isinstance(status, int) and headers.get("connection", "").lower() != "close"
            if status != "dropped":
                code = status if isinstance(status, int) else 200
                head = (
                    f"HTTP/1.1 {code} {REASONS.get(code, 'Error')}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(reply.payload)}\r\n{reply.more}\r\n"
                )
                payload = reply.payload[: len(reply.payload) // 2] if status == "mid_stream" else reply.payload
                writer.write(head.encode() + payload)
            return keep
        finally:
            self._counts.by_status[status] += 1

    async def _reply(self, first: str, headers: Mapping[str, str], body: bytes) -> _Reply:
        if self.token is not None and headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "no such key")
        if first.startswith("GET /v1/models "):
            served = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in self.models]
            return _Reply(200, json.dumps({"object": "list", "data": served}).encode())
        if not first.startswith("POST /v1/chat/completions "):
            return _error(404, f"nothing at {first}")
        digest = hashlib.sha256(body).hexdigest()
        self._counts.bodies[digest] += 1
        fault = self.faults.draw() if self.faults is not None else None
        retry = f"Retry-After: {self.faults.retry_after_s if self.faults is not None else 0.02:g}\r\n"
        if self.capacity is not None and self.in_flight >= self.capacity:
            return _error(429, "too many requests in flight", more=retry)
        self.in_flight += 1
        self._counts.in_flight_max = max(self._counts.in_flight_max, self.in_flight)
        try:
            return await self._chat(digest, body, fault, retry)
        except Exception:  # a fault of the script, shown when the block ends
            self._bugs.append(traceback.format_exc())
            return _error(500, "the answer script raised")
        finally:
            self.in_flight -= 1

    async def _chat(self, digest: str, body: bytes, fault: str | None, retry: str) -> _Reply:
        try:
            request = json.loads(body)
            model, _ = str(request["model"]), [message["role"] for message in request["messages"]]
        except (ValueError, KeyError, TypeError):
            return _error(400, "expected JSON with model and messages")
        self._counts.models[model] += 1
        if refused := self._refused(request):
            return refused
        if fault in ("429", "500", "dropped"):
            self._counts.by_fault[fault] += 1
            failed = {"429": _error(429, "slow down", more=retry), "500": _error(500, "something broke")}
            return failed.get(fault, _Reply("dropped"))
        answer = self._said(request)
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        if answer.status > 200:
            return _error(answer.status, "this question breaks it")
        changed = {"truncated": _truncated, "invalid_json": _garbled, "wrong_ids": _other_ids}
        if fault in changed:
            was, answer = answer, changed[fault](answer)
            fault = None if answer == was else fault
        if fault is not None:
            self._counts.by_fault[fault] += 1
        if fault == "slow" and self.faults is not None:
            await asyncio.sleep(self.faults.slow_s)
        payload = json.dumps(self._completion(request, answer), ensure_ascii=False).encode()
        return _Reply(
            200 if fault != "mid_stream" else fault, payload, "", digest if fault in (None, "slow") else None
        )

    def _refused(self, request: Json) -> _Reply | None:
        form = (request.get("response_format") or {}).get("type", "text")
        if request.get("stream"):
            return _error(400, "streaming is not supported", "stream")
        if form != "text" and getattr(self.features, form, "rejected") == "rejected":
            return _error(400, f"response_format of type {form} is not supported", "response_format")
        if request.get("logprobs") and self.features.logprobs == "rejected":
            return _error(400, "logprobs are not supported", "logprobs")
        if (request.get("top_logprobs") or 0) > self.features.max_top_logprobs:
            return _error(400, f"top_logprobs must be at most {self.features.max_top_logprobs}", "top_logprobs")
        return None

    def _said(self, request: Json) -> Answer:
        """The script's answer, or that to a probe. What the server ignores the script does not see."""
        form = (request.get("response_format") or {}).get("type", "text")
        enforced = form != "text" and getattr(self.features, form) == "enforced"
        if "probe" in (wanted := properties(schema_of(request))):
            right = json.dumps({"probe": choices(wanted["probe"])[0]})
            answer = Answer(right if enforced or form == "text" else 'Sure! Here it is: {"probe": "no"}')
        else:
            seen = (
                request
                if enforced or form == "text"
                else {k: v for k, v in request.items() if k != "response_format"}
            )
            answer = self.answer(seen)
        if self.features.prose and not enforced and answer.content.startswith("{"):
            around = f"Here is the answer:\n```json\n{answer.content}\n```\nI hope that this helps."
            return replace(answer, content=around, logprobs=None)
        return answer

    def _completion(self, request: Json, answer: Answer) -> Json:
        read = sum(len(str(message.get("content"))) for message in request["messages"]) // 4 + 1
        written = len(answer.content) // 4 + 1
        first = None
        if request.get("logprobs") and self.features.logprobs == "given":
            first = {"content": [_first_token(answer, request.get("top_logprobs") or 0)], "refusal": None}
        message = {"role": "assistant", "content": answer.content}
        return {
            "id": f"chatcmpl-{self._counts.requests}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "logprobs": first, "finish_reason": answer.finish_reason}],
            "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
            "system_fingerprint": "fp_scripted",
        }


def _first_token(answer: Answer, most: int) -> Json:
    spread = answer.logprobs or [(answer.content, 1.0)]
    each = [
        {"token": token, "logprob": math.log(p) if p > 0 else -9999.0, "bytes": list(token.encode())}
        for token, p in spread
    ]
    ranked = sorted(each, key=lambda entry: -entry["logprob"])
    return {**each[0], "top_logprobs": ranked[:most]}


def _truncated(answer: Answer) -> Answer:
    half = answer.content[: len(answer.content) // 2] if len(answer.content) > 8 else ""
    return replace(answer, content=half, finish_reason="length", logprobs=None)


def _garbled(answer: Answer) -> Answer:
    return replace(answer, content=answer.content[: len(answer.content) * 2 // 3] + '"\\', logprobs=None)


def _other_ids(answer: Answer) -> Answer:
    """Evidence that does not exist. An answer that has no room for ids stays as it is."""
    try:
        content = json.loads(answer.content)
    except ValueError:
        return answer
    if isinstance(content, dict):
        for name in ("evidence", "active"):
            if isinstance(content.get(name), list):
                content[name] = [f"nope{n}" for n in range(len(content[name]) or 1)]
                return replace(answer, content=json.dumps(content, ensure_ascii=False))
    return answer


def main() -> None:
    """Serve until the program is told to end (SIGTERM, SIGINT); then say in one line of JSON what was seen."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that every answer takes")
    parser.add_argument("--capacity", type=int, help="answer 429 above so many requests in flight")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, ends := {signal.SIGTERM, signal.SIGINT})

    def answer(request: Json) -> Answer:
        return replace(fixed(request), delay_s=args.delay)

    with ScriptedServer(answer, port=args.port, capacity=args.capacity) as server:
        print(server.base_url, flush=True)
        signal.sigwait(ends)
        seen = server.counts
    statuses = {str(status): n for status, n in seen.by_status.items()}
    print(json.dumps({"requests": seen.requests, "by_status": statuses, "in_flight_max": seen.in_flight_max}))


if __name__ == "__main__":
    main()
