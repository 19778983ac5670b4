"""What a model is asked and what came of it: a call, its key, and its outcome.

A call is built from a versioned prompt and from texts that are data (see `antar.interpret.quoting`). Its key is the
sha256 over model, revision, prompt version, parameters, schema and the whole input, so an answer is used again
exactly when nothing that could have changed it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

Role = Literal["label", "validate", "predict", "saebench"]


@dataclass(frozen=True)
class Call:
    """One question.

    about:      what it is asked for, usually a feature; for the record, not part of the key
    prompt:     name and version of the prompt file, e.g. `label.en.v1`, and `prompt_sha256` its text
    inputs:     the variables that were put into the prompt: with it they are the whole question again
    system, user: the two messages
    answer:     the schema of the answer; None asks for one token, yes or no
    schema:     the JSON schema that is sent, by default that of `answer` (it may list the ids that may be evidence)
    check:      what is wrong with an answer that fits the schema, in one line; None when nothing is
    """

    role: Role
    about: str
    prompt: str
    prompt_sha256: str
    inputs: Mapping[str, Any]
    system: str
    user: str
    answer: type[BaseModel] | None
    schema: Mapping[str, Any] | None = None
    check: Callable[[Any], str | None] = field(default=lambda answer: None)

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


@dataclass(frozen=True)
class Outcome:
    """What came of a call: an answer, or the reason for which there is none.

    answer: the answer as the schema's fields; `{"yes": bool}` for one token
    score:  P(yes) / (P(yes) + P(no)) of a one-token answer, where the server gives probabilities
    """

    answer: Mapping[str, Any] | None
    failed: str | None
    score: float | None = None
