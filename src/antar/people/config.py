"""The part of a study file that says what people are shown."""

from __future__ import annotations

from pydantic import Field

from antar.core.config import Config


class PeopleConfig(Config):
    """The annotation sheet."""

    features: int = Field(default=100, ge=1)
    """Labelled features on the sheet, spread evenly over dictionaries, and in each over verdicts and effects."""
    wrong_share: float = Field(default=0.1, ge=0, lt=1)
    """More features under another feature's label, as a share of `features`; nothing marks them."""
    repeat_share: float = Field(default=0.1, ge=0, le=1)
    """Features that come a second time, as a share of `features`: does a person agree with themselves?"""
    examples: int = Field(default=10, ge=2)
    """Texts shown for each feature: of the estimate half, which no labeller saw."""
    characters: int = Field(default=600, ge=50)
    """Where a shown text is cut, never inside a character as people see it."""
