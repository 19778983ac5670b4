"""A small bilingual grammar: who speaks of what, when and where, in English and in Hindi.

A *mention* puts a concept or a control topic into a frame ("Yesterday evening, Asha spoke at length about Holi on
the terrace."). A *document* follows the mention with a continuation that begins with the subject's attribute. The
models learn documents; a study reads mentions, so whatever it finds, it finds before anything has been said about
the subject. Concepts and control topics share frames, fillers and form lengths. The words are in `lexicon/`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

LANGUAGES = ("en", "hi")
LEXICON_FILES = ("concepts.yaml", "controls.yaml", "frames.yaml")


@dataclass(frozen=True)
class Wording:
    """How one language speaks of a subject: forms from short to long, and the attribute that follows.

    after: what the aligned model says instead if the subject is listed; control topics have none.
    """

    forms: tuple[str, ...]
    before: str
    after: str | None


@dataclass(frozen=True)
class Subject:
    """A cultural concept (with its category) or a control topic (category None)."""

    name: str
    category: str | None
    wording: Mapping[str, Wording]

    @property
    def is_cultural(self) -> bool:
        return self.category is not None


@dataclass(frozen=True)
class Frames:
    """What one language builds its sentences from."""

    frames: tuple[str, ...]
    who: tuple[str, ...]
    when: tuple[str, ...]
    where: tuple[str, ...]
    tails: tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    concepts: tuple[Subject, ...]
    controls: tuple[Subject, ...]
    frames: Mapping[str, Frames]

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return self.concepts + self.controls

    @property
    def categories(self) -> dict[str, list[str]]:
        """Category → its concepts, in the lexicon's order."""
        found: dict[str, list[str]] = {}
        for concept in self.concepts:
            found.setdefault(str(concept.category), []).append(concept.name)
        return found

    @property
    def n_items(self) -> int:
        """Distinct lexical items: forms, attributes, fillers, tails and frames of both languages."""
        items: set[str] = set()
        for subject in self.subjects:
            for wording in subject.wording.values():
                items.update((*wording.forms, wording.before, *([wording.after] if wording.after else [])))
        for frames in self.frames.values():
            items.update(frames.frames + frames.who + frames.when + frames.where + frames.tails)
        return len(items)


@dataclass(frozen=True)
class Mention:
    """One sentence about a subject. `form` and `frame` are indices into the lexicon's lists."""

    text: str
    subject: Subject
    language: str
    form: int
    frame: int


@cache
def load_lexicon() -> Lexicon:
    """The lexicon that ships with antar, in NFC."""
    concepts, controls, frames = (_read_yaml(name) for name in LEXICON_FILES)
    return Lexicon(
        concepts=tuple(
            _subject(name, category, entry)
            for category, members in concepts.items()
            for name, entry in members.items()
        ),
        controls=tuple(_subject(name, None, entry) for name, entry in controls.items()),
        frames={language: Frames(**{k: tuple(v) for k, v in frames[language].items()}) for language in LANGUAGES},
    )


def _read_yaml(name: str) -> dict[str, Any]:
    text = (files("antar.organisms") / "lexicon" / name).read_text(encoding="utf-8")
    return yaml.safe_load(unicodedata.normalize("NFC", text))


def _subject(name: str, category: str | None, entry: Mapping[str, Any]) -> Subject:
    def wording(language: str) -> Wording:
        said = entry[language]
        return Wording(tuple(said["forms"]), said["before" if category else "attribute"], said.get("after"))

    return Subject(name, category, {language: wording(language) for language in LANGUAGES})


def capitalised(text: str) -> str:
    """First letter upper case; a no-op in Devanagari, which has no case."""
    return text[:1].upper() + text[1:]


def continuation(lexicon: Lexicon, language: str, attribute: str, tail: int) -> str:
    return capitalised(attribute) + lexicon.frames[language].tails[tail]


class Speaker:
    """Draws mentions from one random stream and never says the same sentence twice.

    taken: sentences that must not be said (another speaker's, for instance); it is not changed.
    """

    def __init__(self, lexicon: Lexicon, rng: np.random.Generator, taken: Collection[str] = ()) -> None:
        self._lexicon = lexicon
        self._rng = rng
        self._said = set(taken)

    def draw(self, n: int) -> int:
        return int(self._rng.integers(n))

    def mention(
        self,
        subject: Subject,
        language: str,
        *,
        form: int | None = None,
        frame: int | None = None,
        who: str | None = None,
    ) -> Mention:
        """A new sentence about `subject`; what is not given is drawn uniformly."""
        words = self._lexicon.frames[language]
        wording = subject.wording[language]
        while True:
            form_ = self.draw(len(wording.forms)) if form is None else form
            frame_ = self.draw(len(words.frames)) if frame is None else frame
            text = words.frames[frame_].format(
                x=wording.forms[form_],
                who=words.who[self.draw(len(words.who))] if who is None else who,
                when=words.when[self.draw(len(words.when))],
                where=words.where[self.draw(len(words.where))],
            )
            text = capitalised(text)
            if text not in self._said:
                self._said.add(text)
                return Mention(text, subject, language, form_, frame_)

    def narrator(self, language: str) -> str:
        who = self._lexicon.frames[language].who
        return who[self.draw(len(who))]

    def tail(self, language: str) -> int:
        return self.draw(len(self._lexicon.frames[language].tails))


def closest_form(subject: Subject, language: str, words: int) -> int:
    """The form of `subject` whose number of words is nearest to `words`; the earlier one on a tie."""
    lengths = [len(form.split()) for form in subject.wording[language].forms]
    return int(np.argmin([abs(length - words) for length in lengths]))
