"""Trainers' and readers' processes seen from the script that times them: one does something, the others wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Rows
from benchmarks.peers import DRIVERS

ROOT = Path(__file__).resolve().parent.parent
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


class WorkerFailed(RuntimeError):
    """A process ended; the message holds the end of what it printed."""


class WorkerProcess:
    def __init__(
        self, name: str, folder: Path, threads: int | None, module: str = "benchmarks.peers.worker", own: bool = False
    ) -> None:
        """own: run by antar's interpreter; antar always is, peers have theirs."""
        python = sys.executable if own or name == "antar" else str(PEERS_PYTHON)
        if not Path(python).exists():
            raise SystemExit(f"{python}: expected the peers' virtual environment, found none; make peers")
        self.name = name
        self._log = folder / f"{name}.log"
        # One working thread a core, as torch takes it by default; set here so that all have the same.
        wanted = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
        path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [python, "-m", module, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
            cwd=ROOT,
            env={**os.environ, **wanted, "PYTHONPATH": path, "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"},
        )
        self._answer()

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise WorkerFailed(f"{self.name} ended with {self._process.returncode}:\n{self._log.read_text()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextmanager
def started(names: Sequence[str], folder: Path, threads: int | None = None) -> Iterator[dict[str, WorkerProcess]]:
    with ExitStack() as stack:
        workers: dict[str, WorkerProcess] = {}
        for name in names:
            workers[name] = WorkerProcess(name, folder, threads)
            stack.callback(workers[name].close)
        yield workers


def write_rows(rows: Rows, folder: Path) -> None:
    np.save(folder / "train.npy", rows.train_nd)
    np.save(folder / "held_out.npy", rows.held_out_nd)
    np.save(folder / "directions.npy", rows.directions_md)


def chosen(names: str) -> list[str]:
    """`antar` and those of a comma-separated list; all of them for `all`, antar alone for `none`."""
    peers = [name for name in DRIVERS if name != "antar"]
    wanted = {"all": peers, "none": []}.get(names, names.split(","))
    if unknown := set(wanted) - set(DRIVERS):
        raise SystemExit(f"--peers: expected some of {', '.join(peers)}, found {', '.join(sorted(unknown))}")
    return ["antar", *(name for name in peers if name in wanted)]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
