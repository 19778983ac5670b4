"""Inside a process that is to die: `SIGKILL` just before its n-th change to the run folder, or a list of all changes.

Python announces every file that it opens, renames, deletes or makes (audit events). Killing on them hits the windows
between two file operations exactly, which a clock hits by luck only. Events of a temporary file count when it is
opened to be flushed, too: the file is whole then, and has not its name yet.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _changed(event: str, args: tuple[Any, ...]) -> str | None:
    """The path that an audit event changes."""
    if event in _CHANGES:
        path = args[0]
    elif event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        path = args[0]
        if not args[2] & _WRITING and ".tmp-" not in os.fsdecode(path):
            return None
    else:
        return None
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else None


def kill_at(run: Path, stage: str, number: int, among: str = "") -> None:
    """Die before the `number`-th change (from 1) to what belongs to `stage` and has `among` in its path."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        path = _changed(event, args)
        if path is None or among not in path or _stage(run, path) != stage:
            return
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def watch(run: Path, out: Path) -> None:
    """Append (stage, CPU seconds so far) to `out` at every change: where a run spends its time."""
    handle = out.open("w", encoding="utf-8", buffering=1)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        path = _changed(event, args)
        if path is not None and (stage := _stage(run, path)) is not None:
            handle.write(json.dumps([stage, time.process_time()]) + "\n")

    sys.addaudithook(hook)


def _stage(run: Path, path: str) -> str | None:
    root = f"{run}{os.sep}"
    absolute = os.path.abspath(path)  # noqa: PTH100 (a link is not to be followed, nor the disk asked)
    return stage_of(absolute[len(root) :]) if absolute.startswith(root) else None


_FOLDERS = {"organism": "organism", "corpus": "corpus", "activations": "extract", "dictionaries": "train",
            "codes": "features", "interpret": "interpret", "report": "report"}  # fmt: skip
_OF_FEATURES = ("features.parquet", "examples.parquet", "geometry.json", "manifest.json")


def stage_of(name: str) -> str | None:
    """The stage that writes `name` (relative to the run folder); None for what every run writes at its start."""
    top, _, rest = name.partition("/")
    if top == "features":
        if not rest:
            return None  # two stages see to it that the folder is there
        return "features" if rest.endswith(_OF_FEATURES) else "measure"
    if top in _FOLDERS:
        return _FOLDERS[top]
    return "measure" if "criteria" in top or "truth_report" in top else None
