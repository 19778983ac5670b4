"""One endpoint as the client sees it: what the server there can do, and one attempt at one call.

Servers say that they speak OpenAI's protocol and mean different parts of it. So each is asked once, with tiny
questions: does it know the model, does it hold to a JSON schema (else to JSON at all, else to nothing), does it give
probabilities. Whatever it promises, every answer is checked again here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import openai
from pydantic import ValidationError

from antar.core.hashing import sha256_json
from antar.interpret.llm.asking import Target, schema_of
from antar.interpret.llm.calls import Call
from antar.interpret.llm.completion import Completion, read_completion
from antar.interpret.llm.faults import BadAnswer, Busy, Fault, NoEntry, Refused, fault_of, one_line
from antar.interpret.llm.limit import Limit
from antar.interpret.llm.replies import first_object, is_text, yes_or_no, yes_share

Structured = Literal["json_schema", "json_object", "prompt"]
TOP_LOGPROBS = (20, 5)
"""How many alternatives of the first token are asked for; servers allow different numbers."""
WORD_TOKENS = 4
"""What a one-word answer may have where no probabilities tell the first token's meaning."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
AGAIN = (
    "Your last answer could not be used: it did not have the required shape, or it named ids that are not there. "
    "Answer once more, in the required shape only."
)


def _without_proxy() -> Any:
    """A proxy that the environment names would be sent the questions, and could not reach this machine."""
    return openai.DefaultAsyncHttpxClient(trust_env=False)


@dataclass(frozen=True)
class Abilities:
    """structured: how a schema is asked for; top_logprobs: alternatives of a token that it gives, 0 for none.

    None: not asked yet.
    """

    structured: Structured | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True)
class Reply:
    """One usable answer, and what the record keeps of how it came."""

    answer: dict[str, Any]
    score: float | None
    facts: dict[str, Any]
    seconds: float


@dataclass
class Spent:
    """Tokens of every attempt that was answered, usable or not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, completion: Completion) -> None:
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens


class Endpoint:
    """A server, for one event loop."""

    def __init__(
        self,
        target: Target,
        model: str,
        parameters: Mapping[str, Any],
        timeout_s: float,
        abilities: Abilities | None = None,
    ) -> None:
        self.target, self.model = target, model
        self.limit = Limit(target.concurrency, timeout_s)
        self._parameters, self._timeout_s = parameters, timeout_s
        self._client = openai.AsyncOpenAI(
            base_url=target.base_url,
            api_key=target.key or "none",
            max_retries=0,
            timeout=timeout_s,
            http_client=_without_proxy() if urlsplit(target.base_url).hostname in LOOPBACK else None,
        )
        self.abilities = abilities or Abilities()

    async def close(self) -> None:
        await self._client.close()

    async def is_up(self) -> bool:
        """Whether it answers a tiny question. That it lists its models says little: a server whose engine has died
        still does, and would use up the attempts of calls that another endpoint can answer."""
        try:
            await self._chat("Answer with one word.", "Say yes.", 1, {})
        except Fault as fault:
            return isinstance(fault, Busy | NoEntry | Refused)
        return True

    async def probe(self, one_token: bool) -> None:
        """Find out what is not known yet for this kind of call. Raises a Fault when the server does not answer, or
        does not know the model."""
        known = self.abilities
        if known == Abilities():
            await self._check_model()
        if one_token and known.top_logprobs is None:
            self.abilities = replace(known, top_logprobs=await self._probe_logprobs())
        elif not one_token and known.structured is None:
            self.abilities = replace(known, structured=await self._probe_structured())

    async def _check_model(self) -> None:
        try:
            listed = [model.id async for model in await self._client.models.list()]
        except Exception as error:
            fault = fault_of(error)
            if isinstance(fault, NoEntry) and fault.args[0].startswith("404"):
                return  # it lists no models, which is no fault
            raise fault from error
        # Ollama lists `name:latest` for what is asked for as `name`.
        if listed and not any(name == self.model or name.startswith(f"{self.model}:") for name in listed):
            raise NoEntry(f"it serves {', '.join(listed[:5])}, not {self.model}")

    async def _probe_structured(self) -> Structured:
        wanted = sha256_json([self.model, "probe"])[:8]
        schema = {
            "type": "object",
            "properties": {"probe": {"type": "string", "enum": [wanted]}},
            "required": ["probe"],
            "additionalProperties": False,
        }
        question = 'Answer with one JSON object that has one key, "probe". Its value is any word.'
        for mode in ("json_schema", "json_object"):
            try:
                completion = await self._chat("Reply in JSON.", question, 64, _response_format(mode, schema))
            except Refused:
                continue
            found = first_object(completion.text)
            if found is not None and (mode == "json_object" or found.get("probe") == wanted):
                return mode
        return "prompt"

    async def _probe_logprobs(self) -> int:
        for top in TOP_LOGPROBS:
            try:
                completion = await self._chat(
                    "Answer with one word.", "Say yes.", 1, {"logprobs": True, "top_logprobs": top}
                )
            except Refused:
                continue
            if completion.alternatives:
                return top
        return 0

    async def _chat(self, system: str, user: str, max_tokens: int, more: Mapping[str, Any]) -> Completion:
        # What chat completions have beyond the plain fields goes in as the body, so that no field is lost or renamed.
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
                max_tokens=max_tokens,
                temperature=self._parameters["temperature"],
                seed=self._parameters["seed"],
                extra_body={**self._parameters["extra_body"], **more},
            )
            return read_completion(raw.text)
        except Exception as error:
            raise fault_of(error) from error

    async def attempt(self, call: Call, spent: Spent, again: bool) -> Reply:
        """Ask once. `again`: an answer has come before and could not be used. Raises a Fault."""
        user = f"{call.user}\n\n{AGAIN}" if again else call.user
        started = time.monotonic()
        if call.answer is None:
            top = self.abilities.top_logprobs
            more = {"logprobs": True, "top_logprobs": top} if top else {}
            completion = await self._chat(call.system, user, 1 if top else WORD_TOKENS, more)
        else:
            more = _response_format(self.abilities.structured or "prompt", schema_of(call) or {})
            completion = await self._chat(call.system, user, self._parameters["max_tokens"], more)
        seconds = time.monotonic() - started
        spent.add(completion)
        answer, score = _word(completion) if call.answer is None else (_structured(call, completion), None)
        return Reply(answer, score, self._facts(completion), seconds)

    def _facts(self, completion: Completion) -> dict[str, Any]:
        return {
            "endpoint": self.target.base_url,
            "served_model": completion.model,
            "system_fingerprint": completion.system_fingerprint,
            "structured": self.abilities.structured,
            "top_logprobs": self.abilities.top_logprobs,
            "finish_reason": completion.finish_reason,
            "text": completion.text,
        }


def _response_format(mode: Structured, schema: Mapping[str, Any]) -> dict[str, Any]:
    if mode == "prompt":
        return {}
    if mode == "json_object":
        return {"response_format": {"type": "json_object"}}
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _structured(call: Call, completion: Completion) -> dict[str, Any]:
    """The answer, held to the schema whatever the server promised, and to the ids that were shown."""
    if completion.finish_reason == "length":
        raise BadAnswer("the answer was cut off at its longest")
    found = first_object(completion.text)
    if found is None:
        raise BadAnswer("the answer is no JSON object")
    if not is_text(found):
        raise BadAnswer("half of a character in the answer")
    assert call.answer is not None
    try:
        answer = call.answer.model_validate(found, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadAnswer(one_line(f"outside the schema: {where}: {first['msg']}")) from error
    problem = call.check(answer)
    if problem is not None:
        raise BadAnswer(one_line(problem))
    return answer.model_dump(mode="json")


def _word(completion: Completion) -> tuple[dict[str, Any], float | None]:
    """Yes or no: by the probabilities of the first token where there are any, else by the word."""
    score = yes_share([(token, math.exp(min(0.0, logprob))) for token, logprob in completion.alternatives])
    said = (score > 0.5) if score is not None else yes_or_no(completion.text)
    if said is None:
        raise BadAnswer("the answer is neither yes nor no")
    return {"yes": said}, score
