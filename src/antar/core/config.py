"""The base of every room's config model: frozen, and strict about keys that it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Inherit from this for any part of a study file. Document each field with a docstring under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
