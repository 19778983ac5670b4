"""Which shard a worker makes next, and what becomes of those that failed or were lost. Knows no engine.

A worker stays with the job whose task it has loaded, because changing costs a checkpoint's weights; it goes to
another when its own has nothing left to start. A shard that *failed* (its task raised) is not tried again: the task
is deterministic. The other shards go on, since each finished one stays, and a rerun then makes only what failed;
but after `GIVE_UP` failures nothing new is started, because then it is not the shard. A shard whose worker was *lost*
goes back to the front of the queue; after `TRIES` lost workers it counts as failed, since it may be what kills them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from antar.core.errors import UserError
from antar.engines.base import Job, ShardFailed

GIVE_UP = 3
TRIES = 4


@dataclass(frozen=True)
class Item:
    """One shard of the job at `job`."""

    job: int
    shard: int


@dataclass(frozen=True)
class Problem:
    """Why a shard failed. by_user: a mistake of the input, as one line; else `text` is a traceback."""

    text: str
    by_user: bool
    where: str


class ShardQueue:
    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._waiting = [deque(job.shards) for job in jobs]
        self._running: set[Item] = set()
        self._losses: dict[Item, int] = {}
        self._failed: list[tuple[Item, Problem]] = []

    def name(self, item: Item) -> str:
        return f"{self._jobs[item.job].name}, shard {item.shard}"

    @property
    def unfinished(self) -> int:
        """Shards that run or will be started."""
        return len(self._running) + self.waiting

    @property
    def waiting(self) -> int:
        return 0 if len(self._failed) >= GIVE_UP else sum(map(len, self._waiting))

    def take(self, job: int | None = None) -> Item | None:
        """The next shard for a worker that has the task of `job` loaded; None when there is nothing to start."""
        if not self.waiting:
            return None
        if job is None or not self._waiting[job]:
            busy = [sum(item.job == one for item in self._running) for one in range(len(self._jobs))]
            # Most shards for each worker on it: two workers on two equal jobs take one each.
            job = max(range(len(self._jobs)), key=lambda one: len(self._waiting[one]) / (1 + busy[one]))
        item = Item(job, self._waiting[job].popleft())
        self._running.add(item)
        return item

    def finished(self, item: Item) -> None:
        self._running.remove(item)
        self._jobs[item.job].done(item.shard)

    def failed(self, item: Item, problem: Problem) -> None:
        self._running.remove(item)
        self._failed.append((item, problem))

    def lost(self, item: Item, where: str) -> bool:
        """The worker that had `item` is gone. True when it will be tried again."""
        self._losses[item] = self._losses.get(item, 0) + 1
        if self._losses[item] >= TRIES:
            why = (
                f"its worker was lost {TRIES} times (lastly on {where}): expected a worker that lives, which a "
                "machine with more memory may give"
            )
            self.failed(item, Problem(why, True, where))
            return False
        self._running.remove(item)
        self._waiting[item.job].appendleft(item.shard)
        return True

    def raise_failures(self) -> None:
        """Raise the first failure as one error that says how many there were; nothing when there were none."""
        if not self._failed:
            return
        item, problem = self._failed[0]
        others = len(self._failed) - 1
        more = f" (and {others} more shard{'' if others == 1 else 's'} failed)" if others else ""
        if problem.by_user:
            raise UserError(f"{self.name(item)}: {problem.text}{more}")
        raise ShardFailed(f"{self.name(item)}, on {problem.where}{more}:\n{problem.text}")
