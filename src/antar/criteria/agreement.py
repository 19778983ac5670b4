"""Criterion 6: do two people who judge the same labels, blinded to each other and to the model, agree?

Krippendorff's alpha is chance-corrected, so that two judges who both say KEEP 85% of the time do not pass by
agreeing at random (raw agreement of 0.74 is then chance). The lower end of its interval decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from antar.criteria.config import CriteriaConfig
from antar.criteria.types import Cell, Criterion, Interval, Null, finite


@dataclass(frozen=True)
class Agreement:
    """What the annotations say: alpha with its interval, Gwet's AC1, raw agreement, and how much was judged.

    reason: why there is no alpha or no interval, in words
    planted: how each person fared with known-wrong labels and second sights, which enter no other number here
    per_dictionary: a row a dictionary
    """

    alpha: float | None
    alpha_ci: Interval | None
    ac1: float | None
    raw: float | None
    items: int
    judges: int
    kappa: float | None = None
    reason: str | None = None
    planted: Mapping[str, Cell] = field(default_factory=dict[str, Cell])
    per_dictionary: Sequence[Mapping[str, Any]] = ()


def human_agreement(agreement: Agreement | None, cfg: CriteriaConfig) -> Criterion:
    """Criterion 6. `agreement` is None where nobody has annotated."""
    value = finite(agreement.alpha) if agreement else None
    ci = agreement.alpha_ci if agreement else None
    beside: dict[str, Cell] = {}
    if agreement:
        beside = {
            "Gwet's AC1": finite(agreement.ac1),
            "Cohen's κ": finite(agreement.kappa),
            "raw agreement": finite(agreement.raw),
            "items judged by two people or more": agreement.items,
            "judges": agreement.judges,
            **agreement.planted,
        }
    if agreement is None or agreement.judges < 2:
        verdict, sentence = "not measured", "Two people have not yet judged the same labels."
        value, ci = None, None
    elif value is None or ci is None or finite(ci[0]) is None:
        verdict, sentence = (
            "not measured",
            (
                f"Alpha has no interval over {agreement.items} items"
                f"{f' ({agreement.reason})' if agreement.reason else ''}; judge more of them."
            ),
        )
    else:
        verdict = "pass" if ci[0] >= cfg.agreement else "fail"
        sentence = (
            f"Over {agreement.items} labels, {agreement.judges} people agree with alpha {value:.2f} "
            f"(at least {ci[0]:.2f}) beyond what their habits give by chance."
        )
    return Criterion.model_validate(
        {
            "number": 6,
            "name": "human agreement",
            "question": "Do blinded people agree on the labels beyond chance (lower end of the interval)?",
            "published": f"human agreement ≥ {cfg.agreement:.2f}",
            "value": value,
            "ci": ci,
            "threshold": cfg.agreement,
            "comparison": ">=",
            "null": Null(name="judging by habit alone (theory)", value=0.0) if value is not None else None,
            "verdict": verdict,
            "sentence": sentence,
            "beside": beside,
            "per_dictionary": list(agreement.per_dictionary) if agreement else [],
        }
    )
