"""The engine that is always there: this process, one shard after another."""

from __future__ import annotations

from collections.abc import Sequence

from antar.engines.base import ShardTask


class InlineEngine:
    name = "inline"

    def map(self, task: ShardTask, shards: Sequence[int]) -> None:
        for shard in shards:
            task(shard)
