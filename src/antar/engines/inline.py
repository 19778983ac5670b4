"""The engine that is always there: this process, one shard after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from antar.engines.base import NO_NEEDS, Job, Needs, Room


class InlineEngine:
    name = "inline"
    local = True

    def map(self, jobs: Sequence[Job], needs: Needs = NO_NEEDS) -> None:
        for job in jobs:
            self._one(job)

    @staticmethod
    def _one(job: Job) -> None:
        if not job.shards:
            return
        task = job.start()  # in a frame of its own: this job's weights are gone before the next one's come
        for shard in job.shards:
            task(shard)
            job.done(shard)

    def room(self, needs: Needs) -> Room:
        return Room(1, torch.cuda.is_available() and needs.gpus != 0)

    def close(self) -> None:
        """There is nothing to let go of."""
