"""One trainer's process: it stays alive, does what it is told on a pipe, and is idle between.

    python -m benchmarks.peers.worker NAME FOLDER

reads one JSON object a line on standard input and answers with one on standard output. Whatever a peer prints goes to
standard error. FOLDER holds the rows (`train.npy`, `held_out.npy`) and the start's setting comes with `start`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evaluate import evaluate, reconstruct, recovered
from benchmarks.peers import Driver, driver_class
from benchmarks.setting import Setting, held_latents, start_weights

CHECKED_ROWS = 256
# A trial of one variant, in samples (at least one step of each).
WARM_UP, TRIAL = 256, 768


class Worker:
    def __init__(self, name: str, folder: Path) -> None:
        self._class = driver_class(name)
        self._folder = folder
        self._driver: Driver | None = None

    def start(self, setting: str, variant: int | None = None) -> dict[str, Any]:
        """Build the trainer of one configuration, with the variant of that number, or with the fastest one."""
        self._driver = None  # the old one's memory first
        self._setting = Setting.from_json(setting)
        self._train_nd = torch.from_numpy(np.load(self._folder / "train.npy"))
        self._held_out_nd = torch.from_numpy(np.load(self._folder / "held_out.npy"))
        tried: dict[str, float | str] = {}
        if variant is None:
            variant, tried = self._fastest()
        self._build(variant)
        return {
            "variant": variant,
            "tried": tried,
            "options": self._driver.options,
            "versions": versions(self._driver.packages),
            "threads": torch.get_num_threads(),
        }

    def _build(self, variant: int) -> None:
        self._driver = None
        start = start_weights(self._setting)
        self._driver = self._class(self._setting, start, self._train_nd, **self._class.variants[variant])
        self._at = 0

    def _fastest(self) -> tuple[int, dict[str, float | str]]:
        """The fastest variant by a short trial, and samples/s of all (or why one does not run here)."""
        if len(self._class.variants) == 1:
            return 0, {}
        best, chosen, tried, batch = 0.0, 0, {}, self._setting.batch
        for number, variant in enumerate(self._class.variants):
            name = ", ".join(f"{key} {value}" for key, value in variant.items())
            try:
                self._build(number)
                self.run(-(-WARM_UP // batch))
                speed = batch / min(self.run(-(-TRIAL // batch))["seconds"])
            except Exception as error:
                tried[name] = f"does not run here: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
                continue
            tried[name] = round(speed, 1)
            if speed > best:
                best, chosen = speed, number
        return chosen, tried

    def run(self, steps: int) -> dict[str, Any]:
        """`steps` batches, in the order of the rows; seconds of each, the step alone."""
        assert self._driver is not None
        batch, seconds = self._setting.batch, []
        batches = len(self._train_nd) // batch
        with self._driver.running() if hasattr(self._driver, "running") else nullcontext():
            for _ in range(steps):
                lo = (self._at % batches) * batch
                x_bd = self._train_nd[lo : lo + batch]
                before = time.perf_counter()
                self._driver.step(x_bd)
                seconds.append(time.perf_counter() - before)
                self._at += 1
        return {"seconds": seconds}

    def evaluate(self) -> dict[str, Any]:
        assert self._driver is not None
        weights, k = self._driver.weights(), self._setting.k
        fvu, fired_n = evaluate(weights, self._held_out_nd, k)
        x_bd = self._held_out_nd[:CHECKED_ROWS]
        variance = float((x_bd - x_bd.mean(0)).square().sum())
        own = float((x_bd - self._driver.reconstruct(x_bd)).square().sum()) / variance
        ours = float((x_bd - reconstruct(weights, x_bd, k)[0]).square().sum()) / variance
        return {
            "fvu": fvu,
            "dead_share": 1 - float(fired_n.double().mean()),
            "held_fired": int((fired_n & held_latents(self._setting)).sum()),
            "evaluator_gap": abs(own - ours) / ours,
        }

    def recovered(self) -> dict[str, Any]:
        assert self._driver is not None
        directions_md = torch.from_numpy(np.load(self._folder / "directions.npy"))
        return {"recovered": recovered(self._driver.weights().decoder_nd, directions_md)}


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def serve(worker: Callable[[str, Path], object]) -> None:
    """The process of `worker(NAME, FOLDER)`: each line names a method of it and its arguments."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    name, folder = sys.argv[1:]
    made = worker(name, Path(folder))
    print(json.dumps({"ready": name}), file=answers)
    for line in sys.stdin:
        call = json.loads(line)
        print(json.dumps(getattr(made, call.pop("do"))(**call)), file=answers)


if __name__ == "__main__":
    serve(Worker)
