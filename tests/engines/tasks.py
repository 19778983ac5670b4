"""Shard tasks for the tests of the Ray engine; in a module, so that a worker finds them as it finds antar's own."""

from __future__ import annotations

import os
import signal
import time
import uuid
import warnings
from pathlib import Path

from antar.core.errors import AntarWarning, UserError
from antar.core.progress import say


class Noting:
    """Notes each attempt in `folder`: `<name>-<shard>-<anything>` with who made it, and how many it made before."""

    def __init__(self, folder: Path, name: str = "job", pause: float = 0.0) -> None:
        self.folder, self.name, self.pause, self.made = folder, name, pause, 0

    def run(self, shard: int) -> None:
        import torch

        self.made += 1
        about = [os.getpid(), self.made, torch.get_num_threads(), os.environ["CUDA_VISIBLE_DEVICES"] or "none"]
        note = self.folder / f"{self.name}-{shard}-{uuid.uuid4().hex}"
        note.write_text(" ".join(map(str, about)))
        time.sleep(self.pause)


class Meeting(Noting):
    """Ends when `together` attempts have begun, and fails when they do not come."""

    def __init__(self, folder: Path, together: int) -> None:
        super().__init__(folder)
        self.together = together

    def run(self, shard: int) -> None:
        super().run(shard)
        deadline = time.monotonic() + 240
        while len(list(self.folder.iterdir())) < self.together:
            assert time.monotonic() < deadline, "the others never came"
            time.sleep(0.05)


class Failing(Noting):
    """Shard 1 is a user's mistake; shard 2 a defect."""

    def run(self, shard: int) -> None:
        super().run(shard)
        say("  reading")
        warnings.warn("few texts", AntarWarning, stacklevel=1)
        if shard == 1:
            raise UserError("expected text, found none")
        if shard == 2:
            raise ZeroDivisionError


class Dying(Noting):
    """Shard 1 kills its worker: the first time, or `always`."""

    def __init__(self, folder: Path, always: bool) -> None:
        super().__init__(folder)
        self.always = always

    def run(self, shard: int) -> None:
        again = any(self.folder.glob(f"job-{shard}-*"))
        super().run(shard)
        if shard == 1 and (self.always or not again):
            os.kill(os.getpid(), signal.SIGKILL)


def notes(folder: Path) -> dict[str, list[list[str]]]:
    """`name-shard` → what each attempt noted: process, count, threads, devices."""
    found: dict[str, list[list[str]]] = {}
    for path in sorted(folder.iterdir()):
        found.setdefault(path.name.rpartition("-")[0], []).append(path.read_text().split())
    return found
