"""Updesh: the last assistant message of each conversation of the cultural multi-hop reasoning task.

Revisions of the data set differ: `messages` is a list of `{role, content}` or the JSON text of one, and `id` is a
string or an integer. Conversations of the same id in two languages count as one document, so that a text and its
translation never lie on both sides of a split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from antar.core.errors import UserError
from antar.corpora.config import Updesh
from antar.corpora.hub import Part, hub_inputs, read_parts
from antar.corpora.records import Opened, Place, RawText
from antar.corpora.rows import Row, value_of


def _parts(source: Updesh) -> dict[str, Part]:
    return {
        language: Part(split, f"{source.config}/{split}" if source.config else split)
        for language, split in source.languages.items()
        if source.wanted(language) != 0
    }


def inputs(source: Updesh, place: Place) -> dict[str, Path]:
    return hub_inputs(source, place, list(_parts(source).values()))


def open_source(source: Updesh, place: Place) -> Opened:
    parts = _parts(source)
    rows, facts = read_parts(source, place, list(parts.values()))
    return Opened(
        (_raw_text(source, language, row) for language, part in parts.items() for row in rows[part.split]), facts
    )


def _raw_text(source: Updesh, language: str, row: Row) -> RawText:
    answer = last_assistant(row)
    key = str(value_of(row, "id"))
    return RawText(
        text_id=f"{source.label}:{language}:{key}",
        text=answer or "",
        group=source.group,
        language=language,
        document=f"{source.label}:{key}",
        problem=None if answer else "no assistant message",
    )


def last_assistant(row: Row) -> str | None:
    """The content of the last message whose role is assistant; None when there is none."""
    for message in reversed(list(_messages(row))):
        if message.get("role") == "assistant":
            content = message.get("content")
            return content if isinstance(content, str) else None
    return None


def _messages(row: Row) -> Iterator[dict[str, Any]]:
    value = value_of(row, "messages")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise UserError(f"{row.where}: expected messages as JSON, found {error}") from error
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise UserError(
            f"{row.where}: expected messages as a list of {{role, content}}, found {type(value).__name__}"
        )
    yield from value
