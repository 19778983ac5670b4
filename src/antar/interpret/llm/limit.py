"""How many calls one endpoint is given at once, and whether it is given any.

The number starts at what the study file allows, is halved when the server says 429, falls by a quarter when calls
time out or come near it, and grows by one for every round that goes well (additive increase, multiplicative decrease,
as in TCP: Jacobson, SIGCOMM 1988). An endpoint that is down is given none until a health check finds it up again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

WINDOW = 20
"""Latencies that are looked at together."""
NEAR_TIMEOUT = 0.5
"""When a tenth of them takes longer than this share of the timeout, the server has too much to do."""
DOWN_AFTER = 8
"""So many broken calls in a row, none answered between them, and the endpoint is left out."""


class Limit:
    """Slots of one endpoint. `take` waits for one; `give_back` must follow."""

    def __init__(self, most: int, timeout_s: float) -> None:
        self.most, self.now = most, float(most)
        self.in_flight = 0
        self.down = False
        self._near = NEAR_TIMEOUT * timeout_s
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._broken_in_a_row = 0
        self._paused_until = 0.0
        self._last_cut = 0.0
        self._changed = asyncio.Condition()

    async def take(self) -> None:
        async with self._changed:
            while self.down or self.in_flight >= int(self.now) or self._pause() > 0:
                if not self.down and self.in_flight < int(self.now):
                    # Only the pause is in the way, and nobody wakes us at its end.
                    try:
                        await asyncio.wait_for(self._changed.wait(), self._pause())
                    except TimeoutError:
                        continue
                else:
                    await self._changed.wait()
            self.in_flight += 1

    async def give_back(self) -> None:
        async with self._changed:
            self.in_flight -= 1
            self._changed.notify_all()

    def answered(self, seconds: float) -> None:
        self._broken_in_a_row = 0
        self._latencies.append(seconds)
        slow = sorted(self._latencies)[int(0.9 * (len(self._latencies) - 1))] > self._near
        if slow and len(self._latencies) == WINDOW:
            self._cut(0.75)
            self._latencies.clear()
        else:
            self.now = min(self.most, self.now + 1 / self.now)

    def busy(self, wait_s: float | None) -> None:
        """The server said 429."""
        self._cut(0.5)
        pause = min(60.0, 0.5 if wait_s is None else wait_s)
        self._paused_until = max(self._paused_until, time.monotonic() + pause)

    def broken(self, timed_out: bool) -> bool:
        """A call broke; True when that makes the endpoint one to leave out."""
        if timed_out:
            self._cut(0.75)
        self._broken_in_a_row += 1
        return self._broken_in_a_row >= DOWN_AFTER

    async def set_down(self, down: bool) -> None:
        async with self._changed:
            self.down = down
            self._broken_in_a_row = 0
            self._changed.notify_all()

    def _pause(self) -> float:
        return self._paused_until - time.monotonic()

    def _cut(self, factor: float) -> None:
        # Calls that were in flight together are refused together: one cut for all of them.
        now = time.monotonic()
        typical = sum(self._latencies) / len(self._latencies) if self._latencies else 0.1
        if now - self._last_cut >= min(1.0, typical):
            self._last_cut = now
            self.now = max(1.0, self.now * factor)
