"""How many calls an endpoint is given: down at once when it is too much, up slowly when it goes well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from antar.interpret.llm import limit as module
from antar.interpret.llm.limit import DOWN_AFTER, WINDOW, Limit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_a_429_halves_once_for_all_that_were_in_flight_together(clock: Callable[[float], None]) -> None:
    limit = Limit(32, 10.0)
    for _ in range(8):
        limit.busy(0.0)
    assert limit.now == 16
    clock(2.0)
    limit.busy(0.0)
    assert limit.now == 8
    for _ in range(20):
        clock(2.0)
        limit.busy(0.0)
    assert limit.now == 1


def test_it_grows_by_one_a_round_and_never_past_what_was_allowed(clock: Callable[[float], None]) -> None:
    limit = Limit(8, 10.0)
    limit.busy(0.0)
    for _ in range(4):
        limit.answered(0.1)
    assert 4.5 < limit.now <= 5
    for _ in range(200):
        limit.answered(0.1)
    assert limit.now == 8


def test_timeouts_and_latencies_near_one_cut_a_quarter(clock: Callable[[float], None]) -> None:
    slow = Limit(8, 10.0)
    for _ in range(WINDOW):
        slow.answered(6.0)
    assert slow.now == 6
    timed_out = Limit(8, 10.0)
    assert not timed_out.broken(timed_out=True)
    assert timed_out.now == 6
    broken = Limit(8, 10.0)
    assert [broken.broken(timed_out=False) for _ in range(DOWN_AFTER)] == [False] * (DOWN_AFTER - 1) + [True]
    assert broken.now == 8


def test_no_more_than_the_limit_are_given_and_none_while_it_is_down() -> None:
    async def scene() -> list[int]:
        limit = Limit(2, 10.0)
        taken = [asyncio.create_task(limit.take()) for _ in range(3)]
        seen: list[int] = []
        await asyncio.sleep(0.01)
        seen.append(sum(task.done() for task in taken))
        await limit.set_down(True)
        await limit.give_back()
        await asyncio.sleep(0.01)
        seen.append(sum(task.done() for task in taken))
        await limit.set_down(False)
        await asyncio.sleep(0.01)
        seen.append(sum(task.done() for task in taken))
        return seen

    assert asyncio.run(scene()) == [2, 2, 3]
