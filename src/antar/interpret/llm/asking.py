"""Which model is asked, and how: what makes a call's key, and what only makes it arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antar.core.hashing import sha256_json
from antar.interpret.llm.calls import Call


@dataclass(frozen=True)
class Target:
    """Where a model is served. The key is never written anywhere."""

    base_url: str
    key: str
    concurrency: int


@dataclass(frozen=True)
class Asking:
    """A model and how it is asked.

    parameters:  `temperature, seed, max_tokens, extra_body`: they determine answers, so they are in every key
    connect:     gives the endpoints; asked only when there is a call to make (it may start a server)
    """

    model: str
    revision: str | None
    parameters: Mapping[str, Any]
    timeout_s: float
    attempts: int
    patience_s: float
    connect: Callable[[], Sequence[Target]]

    def key(self, call: Call) -> str:
        # A one-word answer has no schema and no longest length of its own.
        parameters = dict(self.parameters) if call.answer else {**self.parameters, "max_tokens": None}
        return sha256_json(
            [self.model, self.revision, call.prompt, call.prompt_sha256, parameters, schema_of(call), call.messages]
        )


def schema_of(call: Call) -> Mapping[str, Any] | None:
    return None if call.answer is None else call.schema or call.answer.model_json_schema()
