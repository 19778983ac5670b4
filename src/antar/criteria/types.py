"""The shape of a verdict: what `criteria.json` holds, and nothing that JSON cannot hold.

A number that could not be computed is null, never NaN, and a criterion without a value says `not measured` and
why. The models check that, so that no later room has to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from antar.criteria.benchmarks import Benchmarks

VerdictName = Literal["pass", "fail", "passes by construction", "not measured"]
Comparison = Literal[">=", ">", "<"]
Cell = bool | int | float | str | None
Interval = tuple[float, float]


def finite(value: Any) -> float | None:
    """`value` as a float; None where it is absent, not a number or infinite."""
    if value is None or isinstance(value, str):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _finite_interval(value: Any) -> Interval | None:
    if value is None:
        return None
    low, high = (finite(end) for end in value)
    return None if low is None or high is None else (low, high)


def _finite_cells(cells: Mapping[str, Any]) -> dict[str, Cell]:
    return {name: _cell(value) for name, value in cells.items()}


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    return finite(value) if isinstance(value, float) else value


Number = Annotated[float | None, BeforeValidator(finite)]
Ends = Annotated[Interval | None, BeforeValidator(_finite_interval)]
Cells = Annotated[dict[str, Cell], BeforeValidator(_finite_cells)]


class Null(BaseModel):
    """What the same number is where there is nothing to find. `ci` is None for a null known in theory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: Number = None
    ci: Ends = None


class Criterion(BaseModel):
    """One of the seven.

    question:       what it asks, in one sentence
    published:      the criterion as the published study states it
    value, ci:      the honest value and its 95% interval; None where it could not be measured
    threshold:      what `value` is compared with, by `comparison`
    sentence:       the finding, as a reader needs it
    beside:         numbers (or short facts) that must be seen with the value
    per_dictionary: one row a dictionary; `missing` says why a number in it is null
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    name: str
    question: str
    published: str
    value: Number = None
    ci: Ends = None
    threshold: float
    comparison: Comparison
    null: Null | None = None
    verdict: VerdictName
    sentence: str
    beside: Cells = {}
    per_dictionary: list[Cells] = []

    @model_validator(mode="after")
    def _verdict_needs_a_value(self) -> Criterion:
        if self.verdict in {"pass", "fail"} and self.value is None:
            raise ValueError(f"criterion {self.number}: a verdict of {self.verdict} needs a value")
        return self


class CriteriaReport(BaseModel):
    """What is written to `criteria.json`. saebench: what `antar saebench` measured (criteria/benchmarks.py); it
    stands beside criterion 3, which it is no part of. None where it was not run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    headline: list[str]
    criteria: list[Criterion]
    saebench: Benchmarks | None = None

    def beside(self, saebench: Benchmarks | None) -> CriteriaReport:
        """The same verdicts, with SAEBench's numbers beside them."""
        return self.model_copy(update={"saebench": saebench})

    def to_json(self) -> dict[str, Any]:
        """JSON-able; holds no NaN and no infinity."""
        return self.model_dump(mode="json")


def meets(value: float, comparison: Comparison, threshold: float) -> bool:
    if comparison == ">=":
        return value >= threshold
    return value > threshold if comparison == ">" else value < threshold


def missing_note(numbers: Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    """Why some of `wanted` are null in a row, or None."""
    notes: list[str] = []
    for name in wanted:
        if numbers.get(name) is None:
            notes.append(f"{name} was not measured")
        elif finite(numbers[name]) is None:
            notes.append(f"{name} is not a finite number")
    return "; ".join(notes) or None
