"""What calls came to: how many, how many failed and why, tokens, money, and how fast they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from antar.interpret.llm.config import Prices
from antar.interpret.llm.log import Entry


@dataclass(frozen=True)
class Usage:
    """The calls of one role: for the facts of the stage, and for what a larger run will cost.

    retried:    calls that needed more than one attempt
    per_second: finished calls over the time in which any of them was under way; None without any
    """

    calls: int
    failed: int
    reasons: dict[str, int]
    retried: int
    prompt_tokens: int
    completion_tokens: int
    per_second: float | None

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Usage:
        busy = _covered([(entry.started, entry.finished) for entry in entries])
        reasons = Counter(entry.outcome.failed for entry in entries if entry.outcome.failed)
        return cls(
            calls=len(entries),
            failed=sum(entry.outcome.failed is not None for entry in entries),
            reasons=dict(reasons.most_common()),
            retried=sum(entry.attempts > 1 for entry in entries),
            prompt_tokens=sum(entry.prompt_tokens for entry in entries),
            completion_tokens=sum(entry.completion_tokens for entry in entries),
            per_second=len(entries) / busy if busy > 0 else None,
        )

    def as_dict(self, prices: Prices | None) -> dict[str, Any]:
        found = asdict(self)
        if prices is not None:
            found["cost"] = cost(self.prompt_tokens, self.completion_tokens, prices)
            found["currency"] = prices.currency
        return found


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans lasts: what lies between two runs is in none."""
    seconds, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds


def spoken_rate(per_second: float) -> str:
    """`0.52`, `7.6`, `184`: two digits, and all of those before the point."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def cost(prompt_tokens: float, completion_tokens: float, prices: Prices) -> float:
    """In the currency of the prices, which are for a million tokens."""
    return (prompt_tokens * prices.input + completion_tokens * prices.output) / 1e6
