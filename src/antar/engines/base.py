"""The one interface of an engine.

A shard task is idempotent and deterministic: it writes its own output (whole or absent) to the run folder and
returns nothing, so that results never travel through the driver and a lost worker costs one shard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

ShardTask = Callable[[int], None]


class Engine(Protocol):
    name: str

    def map(self, task: ShardTask, shards: Sequence[int]) -> None:
        """Run `task(shard)` for each of `shards`; raise what a shard raised."""
        ...
