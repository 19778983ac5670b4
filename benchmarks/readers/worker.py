"""One reader's process: it loads a model, reads texts when it is told to on a pipe, and is idle between.

    python -m benchmarks.readers.worker NAME FOLDER

reads one JSON object a line and answers with one. FOLDER holds `model/` and `ids.npz`; what a reader found for the
first texts goes to `NAME-DTYPE.npy` there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.worker import serve, versions
from benchmarks.readers import ReadsActivations, reader_class


class Worker:
    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder
        stored = np.load(folder / "ids.npz")
        self._ids = np.split(stored["ids"], stored["offsets"][1:-1])
        self._readers: dict[str, ReadsActivations] = {}

    def load(self, dtype: str) -> dict[str, Any]:
        self._readers[dtype] = reader_class(self._name)(self._folder / "model", dtype)
        self._readers[dtype].read(self._ids[:8])  # whatever is done once is done here
        packages = self._readers[dtype].packages
        return {"versions": versions(packages), "threads": torch.get_num_threads()}

    def read(self, dtype: str, texts: int) -> dict[str, Any]:
        before = time.perf_counter()
        found = self._readers[dtype].read(self._ids[:texts])
        seconds = time.perf_counter() - before
        np.save(self._folder / f"{self._name}-{dtype}.npy", found)
        return {"seconds": seconds}


if __name__ == "__main__":
    serve(Worker)
