"""What a person answers of an item, in which order, and what each answer may be.

    texts → pattern (1–5) → what (free text) → the label is shown → verdict, kind (and a better label) → submitted

The two blind answers are closed when the label is shown: an answer changed in sight of the label is no blind one.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from antar.core.errors import UserError

PATTERNS = ("1", "2", "3", "4", "5")
VERDICTS = ("KEEP", "REVISE", "INVALIDATE")
KINDS = ("cultural", "linguistic", "topical", "other")
BLIND = ("pattern", "what")
CHOICES = {"pattern": PATTERNS, "verdict": VERDICTS, "kind": KINDS, "revealed": ("yes",), "submitted": ("yes",)}
TEXTS = ("what", "label")
FIELDS = (*CHOICES, *TEXTS, "seconds")
UNDOABLE = ("pattern", "verdict", "kind", "submitted")
"""One key gives such an answer, so one key takes it back. Texts have the undo of their text box."""
MOST_CHARACTERS = 2000
MOST_SECONDS = 3600.0
"""What one write may add to the time of an item."""


class Refused(UserError):
    """An answer that the state of its item does not allow."""


@dataclass(frozen=True)
class State:
    """What stands of one person's answers to one item; "" is no answer. `seconds`: active time so far."""

    pattern: str = ""
    what: str = ""
    revealed: str = ""
    verdict: str = ""
    kind: str = ""
    label: str = ""
    submitted: str = ""
    seconds: float = 0.0

    def missing(self) -> str | None:
        """The first thing that is still to be answered; None when the item may be submitted."""
        blind = self.missing_blind()
        if blind or not self.revealed:
            return blind or "revealed"
        if not self.verdict:
            return "verdict"
        if self.verdict == "REVISE" and not self.label.strip():
            return "label"
        return None if self.kind else "kind"

    def missing_blind(self) -> str | None:
        """What is to be answered before the label may be seen. Who sees no pattern need not say what it is."""
        if not self.pattern:
            return "pattern"
        return None if self.pattern == "1" or self.what.strip() else "what"


def check_value(field: str, value: str, where: str) -> None:
    """Raise UserError unless `value` is one that `field` may have at all."""
    if field not in FIELDS:
        raise UserError(f"{where}: expected a field of {', '.join(FIELDS)}, found {field!r}; mend it")
    if field in CHOICES and value and value not in CHOICES[field]:
        choices = ", ".join(CHOICES[field])
        raise UserError(f"{where}: expected {choices} or nothing for {field}, found {value!r}; mend it")
    if field == "revealed" and not value:
        raise UserError(f"{where}: expected yes for revealed, found nothing; a label that was seen stays seen")
    if field in TEXTS and (len(value) > MOST_CHARACTERS or "\0" in value):
        raise UserError(
            f"{where}: expected at most {MOST_CHARACTERS} characters of text for {field}, found {len(value)}"
            f"{' with a NUL among them' if chr(0) in value else ''}; shorten it"
        )
    if field == "seconds":
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= MOST_SECONDS:
            raise UserError(f"{where}: expected 0 to {MOST_SECONDS:g} seconds, found {value[:20]!r}; mend it")


def check_allowed(state: State, field: str, value: str) -> None:
    """Raise Refused unless `state` lets `field` become `value`. What changes nothing is always allowed."""
    if field == "seconds" or value == getattr(state, field):
        return
    if field in BLIND and state.revealed:
        raise Refused(f"{field}: the label has been seen, so the answers before it are closed")
    if field == "revealed" and (missing := state.missing_blind()):
        raise Refused(f"the label is shown after the blind answers; still to answer: {missing}")
    if field in ("verdict", "kind", "label") and not state.revealed:
        raise Refused(f"{field}: the label has not been shown yet")
    if field == "submitted":
        if value and (missing := state.missing()):
            raise Refused(f"an item is submitted when all is answered; still to answer: {missing}")
    elif state.submitted:
        raise Refused(f"{field}: the item has been submitted; undo that first")


def annotator_name(annotator: str) -> str:
    """The name in NFC without white space at its ends; UserError when nothing or something unprintable is left."""
    name = unicodedata.normalize("NFC", annotator.strip())
    if not name or len(name) > 60 or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise UserError(
            f"annotator: expected a name of 1 to 60 printable characters, found {annotator[:60]!r}; "
            "give the name of the person who answers"
        )
    return name
