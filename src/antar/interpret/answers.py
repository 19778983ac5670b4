"""What a model answers, as schemas that every server's constrained decoding takes: flat, all fields required.

The order of the fields is the order in which a constrained model writes them: first the ids that it looks at, then
what it makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

CATEGORIES = ("festival", "food", "kinship", "honorific", "place", "religion", "clothing", "art", "history",
              "code-mixing", "syntax", "topic", "style", "other")  # fmt: skip
Category = Literal["festival", "food", "kinship", "honorific", "place", "religion", "clothing", "art", "history",
                   "code-mixing", "syntax", "topic", "style", "other"]  # fmt: skip
LONGEST_LABEL, LONGEST_REASON, MOST_IDS = 400, 500, 20


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LabelAnswer(Answer):
    """`label` is empty when INCOHERENT; `language` is what the feature is about."""

    evidence: list[str] = Field(max_length=MOST_IDS)
    answer: Literal["COHERENT", "INCOHERENT"]
    label: str = Field(max_length=LONGEST_LABEL)
    category: Category
    language: Literal["en", "hi", "both", "other"]


class ValidateAnswer(Answer):
    """`label` is the new one under REVISE, and not read otherwise."""

    evidence: list[str] = Field(max_length=MOST_IDS)
    reason: str = Field(max_length=LONGEST_REASON)
    verdict: Literal["KEEP", "REVISE", "INVALIDATE"]
    label: str = Field(max_length=LONGEST_LABEL)


class SaebenchAnswer(Answer):
    """The ids of the texts that should activate the feature."""

    active: list[str] = Field(max_length=MOST_IDS)


def json_schema(model: type[Answer], ids: Sequence[str] | None) -> dict[str, Any]:
    """The schema that is sent: no titles, no references. `ids`: the only ones that may be named, if it says so.

    The longest lengths are sent with ids only: they stop a small model that repeats itself, but strict hosted
    services refuse a schema that has them. Answers are held to them here in any case.
    """
    full = model.model_json_schema()
    properties = {name: _plain(name, field, ids) for name, field in full["properties"].items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _plain(name: str, field: dict[str, Any], ids: Sequence[str] | None) -> dict[str, Any]:
    dropped = {"title", "description"} if ids else {"title", "description", "maxLength", "maxItems"}
    kept = {name: value for name, value in field.items() if name not in dropped}
    if kept.get("type") == "array":
        kept["items"] = {"type": "string", "enum": list(ids)} if ids else {"type": "string"}
        if ids:
            kept["maxItems"] = min(kept["maxItems"], len(ids))
            # A small model under a grammar leaves the list empty where it may; only SAEBench's may mean that.
            kept["minItems"] = 0 if name == "active" else 1
    return kept
