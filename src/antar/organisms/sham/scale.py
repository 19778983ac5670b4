"""The factor by which a group's change of weights is scaled so that the drift at its layer is what it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LARGEST = 2.0
"""No change is stretched further than this: beyond it the weights are no longer those of a model that was trained."""
_STRETCH = 2**0.5
_MOST = 40


@dataclass(frozen=True)
class Scaled:
    """factor: of the group's change of weights; drift: what it gives; propagated: the drift at factor 0, which comes
    from the shallower groups alone."""

    factor: float
    drift: float
    propagated: float


def find_factor(drift_at: Callable[[float], float], target: float, tolerance: float) -> Scaled:
    """The factor at which `drift_at(factor)` is `target` within `tolerance` (relative).

    0 where the drift that shallower groups propagate is already `target` or more; `LARGEST` where even that falls
    short. Else a root in a bracket by regula falsi with halved weights (the Illinois method: Dowell & Jarratt 1971),
    which, as bisection does, never leaves the bracket, and takes two or three readings where drift grows linearly.
    """
    propagated = drift_at(0.0)
    if propagated >= target:
        return Scaled(0.0, propagated, propagated)
    low, low_gap = 0.0, propagated - target
    high = 1.0
    drift = drift_at(high)
    while drift < target * (1 - tolerance) and high < LARGEST:
        low, low_gap = high, drift - target
        high = min(high * _STRETCH, LARGEST)
        drift = drift_at(high)
    high_gap, factor, moved = drift - target, high, ""
    for _ in range(_MOST):
        if abs(drift - target) <= tolerance * target or high_gap < 0:
            break
        factor = (low * high_gap - high * low_gap) / (high_gap - low_gap)
        drift = drift_at(factor)
        # An end that stays for a second time counts half, so that it cannot stay for ever.
        if drift < target:
            low, low_gap, high_gap = factor, drift - target, high_gap / (2 if moved == "low" else 1)
            moved = "low"
        else:
            high, high_gap, low_gap = factor, drift - target, low_gap / (2 if moved == "high" else 1)
            moved = "high"
    return Scaled(factor, drift, propagated)
