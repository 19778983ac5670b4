"""Masked copies of clues: the artifact's name and the names of places give way to neutral words.

A feature that fires on DOSA's clues may know nothing but the name of a state. A copy without names, read through the
models as a text of its own, says how much of the cross-check the names carry. Copies belong to the document of their
clue, so both lie in one half, and they are made after duplicates were dropped: a clue without a name in it and its
copy are equal, and that is how many clues have none.

Masked are the artifact's own name (and each of its spellings, as in `Fulkari/phulkari`) and the name of every state
that the source has, as whole words, whatever the case. An ending after a name (`Rajasthani`, `Goan`, `Assamese`,
`lamps`) is masked with it. Cities, rivers, languages and peoples have no column that names them: they stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from antar.corpora.clean import normal_form, normalise
from antar.corpora.config import SourceConfig
from antar.corpora.records import Candidate
from antar.corpora.schema import MASKED_OF
from antar.corpora.units import count_words

ARTIFACT, PLACE = "something", "somewhere"
_SPELLINGS = re.compile(r"[/,&()]|\band\b", re.IGNORECASE)
_DEMONYM = r"(?:i|is|n|ns|an|ans|ese|ite|ites|s|['’]s)?"
_PLURAL = r"(?:s|es|['’]s)?"
SHORTEST = 3
"""Characters of a name below which a spelling is not looked for: it would be found in every other text."""


def masked_copies(
    texts: Sequence[Candidate], sources: Sequence[SourceConfig]
) -> tuple[list[Candidate], list[dict[str, Any]]]:
    """(copies, facts): a copy of every text of a source that says `masked: true`; a row of facts for each source."""
    copies: list[Candidate] = []
    facts: list[dict[str, Any]] = []
    for source in sources:
        if not getattr(source, "masked", False):
            continue
        own = [text for text in texts if text.source == source.label]
        places = place_pattern([text.facets.get("state") or "" for text in own])
        counts = {"changed": 0, "artifact": 0, "place": 0}
        for text in own:
            masked, artifacts, named_places = mask(text.text, text.facets.get("artifact") or "", places)
            counts["changed"] += masked != text.text
            counts["artifact"] += artifacts > 0
            counts["place"] += named_places > 0
            copies.append(_copy(text, masked))
        facts.append({"source": source.label, "texts": len(own), **counts})
    return copies, facts


def mask(text: str, artifact: str, places: re.Pattern[str] | None) -> tuple[str, int, int]:
    """(`text` without names, how often the artifact stood there, how often a place did)."""
    artifacts = named_places = 0
    if (names := _pattern(spellings(artifact), _PLURAL)) is not None:
        text, artifacts = names.subn(ARTIFACT, text)
    if places is not None:
        text, named_places = places.subn(PLACE, text)
    return text, artifacts, named_places


def spellings(artifact: str) -> set[str]:
    """An artifact's whole name, and each name in a list of them (`Fulkari/phulkari`, `Bonaalu/Bonalu`)."""
    return {artifact.strip(), *(part.strip() for part in _SPELLINGS.split(artifact))}


def place_pattern(states: Sequence[str]) -> re.Pattern[str] | None:
    """Finds the names of `states` (folder names, such as `andhra_pradesh`) and their demonyms; None for none."""
    return _pattern(set(states), _DEMONYM)


def _pattern(names: set[str], ending: str) -> re.Pattern[str] | None:
    # Longest first, so that a name within another does not leave the rest of it standing.
    wanted = sorted(
        {normalise(name).replace("_", " ") for name in names if len(name.strip()) >= SHORTEST}, key=len, reverse=True
    )
    if not wanted:
        return None
    any_name = "|".join(r"[\s_-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", name)) for name in wanted)
    # \b would see a boundary between a Devanagari letter and its vowel sign; no letter, digit or mark may follow.
    return re.compile(rf"(?<![\w])(?:{any_name}){ending}(?![\w\u0900-\u0963])", re.IGNORECASE)


def _copy(text: Candidate, masked: str) -> Candidate:
    return replace(
        text,
        text_id=f"{text.text_id}/masked",
        text=masked,
        facets={**text.facets, MASKED_OF: text.text_id},
        normal_form=normal_form(masked),
        words=count_words(masked),
    )
