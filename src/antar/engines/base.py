"""The one interface of an engine.

A shard task is idempotent and deterministic: it writes its own output (whole or absent) to the run folder and
returns nothing, so that results never travel through the driver and a lost worker costs one shard. A task may keep
what it loaded (weights, activations) between its shards; before its first shard it can be pickled, which is how it
comes to a worker of another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ShardTask = Callable[[int], None]


def nothing(_: int) -> None:
    """The callback of who does not want to hear."""


@dataclass(frozen=True)
class Job:
    """Shards that one task makes.

    name: what a person calls it, e.g. `activations of base`; start: gives the task, anew each time, so that what it
    loads is let go after its last shard; done: told of each finished shard, on the driver
    """

    name: str
    start: Callable[[], ShardTask]
    shards: Sequence[int]
    done: Callable[[int], None] = nothing


@dataclass(frozen=True)
class Needs:
    """What a task asks for, where there is something to ask: the inline engine takes the machine as it is.

    cpus: cores that are kept free for one task; None is one beside a GPU, else as many as it has threads;
    gpus: share of a GPU, 0 to 1; None is a whole one where there are any; threads: torch's while a task runs, None as
    in this process; folder: must be seen by every worker under this path
    """

    cpus: float | None = None
    gpus: float | None = None
    threads: int | None = None
    folder: Path | None = None


NO_NEEDS = Needs()


@dataclass(frozen=True)
class Room:
    """workers: how many tasks run at once, at least one; gpu: whether they have one (a share of one)."""

    workers: int
    gpu: bool


class ShardFailed(Exception):
    """A shard raised what is no user's mistake, in another process: the worker's traceback is the message."""


class Engine(Protocol):
    """local: tasks run in this process, one after another, and may show their own progress."""

    name: str
    local: bool

    def map(self, jobs: Sequence[Job], needs: Needs = NO_NEEDS) -> None:
        """Run each job's task on each of its shards; raise what a shard raised.

        An engine that is not local raises `UserError` or `ShardFailed` once, when nothing runs any more, with the
        shard's name before what the shard said.
        """
        ...

    def room(self, needs: Needs) -> Room:
        """What there is for tasks with such needs, as things stand now."""
        ...

    def close(self) -> None:
        """Let go of workers. An engine that was never used has none."""
        ...
