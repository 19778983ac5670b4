"""antar as its command line, but each attempt at a shard of activations is noted where it is made, and takes a while.

Run as a script it is `antar`; imported by a worker it is where the worker finds the task.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from antar.models import SideTask
from antar.stages import extract

ATTEMPTS, PAUSE = "ANTAR_TEST_ATTEMPTS", "ANTAR_TEST_PAUSE"


class NotedSide(SideTask):
    def run(self, shard: int) -> None:
        self._note(f"start {self.model.display} {shard} {_who()}")
        time.sleep(float(os.environ[PAUSE]))
        super().run(shard)
        self._note(f"end {self.model.display} {shard} {_who()}")

    @staticmethod
    def _note(line: str) -> None:
        with Path(os.environ[ATTEMPTS]).open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def _who() -> str:
    """The task of an array job, or the address of a Ray node."""
    if task := os.environ.get("SLURM_ARRAY_TASK_ID"):
        return task
    from ray.util import get_node_ip_address

    return get_node_ip_address()


def attempts(path: Path, what: str) -> list[tuple[str, int, str]]:
    """(side, shard, who made it) of the attempts that started, or of those that ended."""
    words = [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [(side, int(shard), address) for did, side, shard, address in words if did == what]


if __name__ == "__main__":
    import attempts as importable

    from antar.cli import main

    extract.SideTask = importable.NotedSide
    main()
