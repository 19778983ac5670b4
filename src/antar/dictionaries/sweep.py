"""The `sweep:` part of a study file: other recipes for the study's dictionaries, to be trained side by side.

By default they are the published study's first three iterations, as far as size, k and AuxK go: every other field is
the study's own. What the study published for each stands in `PUBLISHED`, for the tables to show beside what is
measured. Its first two iterations also started from an encoder that was not the decoder's transpose, and its resets
did nothing (config.py lists the faults), so that the numbers are for orientation, not for agreement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError, field_validator

from antar.core.config import Config
from antar.dictionaries.config import DictionaryConfig

# They say which dictionaries a study has, not how one is trained.
NOT_OF_ONE_TRAINING = frozenset({"seeds", "folds", "sides", "kinds", "baselines", "imported"})


@dataclass(frozen=True)
class PublishedIteration:
    """What the published study says of one of its iterations: dictionaries with MSE < 0.05 on the controls, of nine,
    and the share of dead latents where it gives one."""

    overrides: Mapping[str, Any]
    passed: int
    of: int
    dead_share: float | None


PUBLISHED: Mapping[str, PublishedIteration] = {
    "iteration-1": PublishedIteration({"n_latents": 16384, "k": 128, "auxk_coefficient": 0.0}, 2, 9, 0.98),
    "iteration-2": PublishedIteration({"n_latents": 8192, "k": 256, "auxk_coefficient": 0.0}, 3, 9, 0.75),
    "iteration-3": PublishedIteration(
        {"n_latents": 8192, "k": 256, "auxk_coefficient": 0.03, "auxk_normalised": False}, 9, 9, None
    ),
}


def _published_variants() -> dict[str, dict[str, Any]]:
    return {name: dict(iteration.overrides) for name, iteration in PUBLISHED.items()}


class SweepConfig(Config):
    """What `antar sweep` trains, beside the study's own dictionaries."""

    variants: dict[str, dict[str, Any]] = Field(default_factory=_published_variants)
    """Name → the fields of `dictionaries` that are otherwise. A variant that names a `preset` takes every field that
    it does not set from that preset; any other takes it from the study."""

    @field_validator("variants")
    @classmethod
    def _check_names(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, overrides in variants.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
                raise ValueError(f"variant {name!r}: use at most 64 letters, digits, - and _ (it names a folder)")
            if strange := sorted(NOT_OF_ONE_TRAINING & overrides.keys()):
                raise ValueError(f"variant {name!r}: expected settings of one training, found {', '.join(strange)}")
        return variants


def variant_config(study: DictionaryConfig, overrides: Mapping[str, Any]) -> DictionaryConfig:
    """The study's dictionaries with `overrides`. Raises ValueError, in one line, for what cannot be."""
    own = {} if "preset" in overrides else study.model_dump()
    if "optimiser" in overrides:
        own.pop("weight_decay", None)  # each optimiser has its own, unless the variant says
    try:
        return DictionaryConfig.model_validate({**own, **overrides})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors())
        raise ValueError("; ".join(problem.removeprefix("Value error, ") for problem in problems)) from error


def published_of(name: str, overrides: Mapping[str, Any]) -> PublishedIteration | None:
    """What was published for a variant, as long as it still is what was published."""
    iteration = PUBLISHED.get(name)
    return iteration if iteration is not None and dict(iteration.overrides) == dict(overrides) else None
