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
        from ray.util import get_node_ip_address

        self._note(f"start {self.model.display} {shard} {get_node_ip_address()}")
        time.sleep(float(os.environ[PAUSE]))
        super().run(shard)
        self._note(f"end {self.model.display} {shard} {get_node_ip_address()}")

    @staticmethod
    def _note(line: str) -> None:
        with Path(os.environ[ATTEMPTS]).open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def attempts(path: Path, what: str) -> list[tuple[str, int, str]]:
    """(side, shard, address) of the attempts that started, or of those that ended."""
    words = [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [(side, int(shard), address) for did, side, shard, address in words if did == what]


if __name__ == "__main__":
    import attempts as importable

    from antar.cli import main

    extract.SideTask = importable.NotedSide
    main()
