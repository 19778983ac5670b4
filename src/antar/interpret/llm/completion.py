"""A server's reply, held to the few fields that antar reads.

The openai package builds its own model of a reply without checking it: a message that is null or a usage that is text
only shows where it is read, and would end the run there. So the body is read here. What is not needed (token counts,
probabilities) is left out where it is not of the expected shape; without an answer in it the reply is broken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antar.interpret.llm.faults import Broken


@dataclass(frozen=True)
class Completion:
    """text: what was written, empty when nothing was; finish_reason: `length` when it was cut off

    alternatives: the first token's, each with its log-probability; empty where the server gives none
    prompt_tokens, completion_tokens: as the server counts them, 0 where it does not
    """

    text: str
    finish_reason: str | None
    alternatives: Sequence[tuple[str, float]]
    prompt_tokens: int
    completion_tokens: int
    model: str | None
    system_fingerprint: str | None


def read_completion(body: str) -> Completion:
    """Raises Broken where there is no answer in it."""
    try:
        reply = _mapping(json.loads(body))
    except (ValueError, RecursionError):
        raise Broken("a reply that is no JSON") from None
    choices = reply.get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Broken("a reply without an answer in it")
    usage = _mapping(reply.get("usage"))
    return Completion(
        text=_text(_mapping(message).get("content")),
        finish_reason=_string(choice.get("finish_reason")),
        alternatives=_alternatives(_mapping(choice.get("logprobs"))),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        model=_string(reply.get("model")),
        system_fingerprint=_string(reply.get("system_fingerprint")),
    )


def _text(content: Any) -> str:
    """Plain text, or a list of parts (some servers put a model's thoughts into parts of their own)."""
    if isinstance(content, list):
        return "".join(_string(_mapping(part).get("text")) or "" for part in content)
    return _string(content) or ""


def _alternatives(logprobs: Mapping[str, Any]) -> Sequence[tuple[str, float]]:
    content = logprobs.get("content")
    first = _mapping(content[0]) if isinstance(content, list) and content else {}
    listed = first.get("top_logprobs")
    found = [_alternative(one) for one in (listed if isinstance(listed, list) and listed else [first])]
    return [one for one in found if one is not None]


def _alternative(given: Any) -> tuple[str, float] | None:
    one = _mapping(given)
    token, logprob = one.get("token"), one.get("logprob")
    if not isinstance(token, str) or not isinstance(logprob, int | float) or math.isnan(logprob):
        return None
    return token, float(logprob)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0
