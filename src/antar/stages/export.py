"""Writing a run for other tools: the published layout of activation sets, as plain npz arrays."""

from __future__ import annotations

from pathlib import Path

from antar.core.errors import UserError
from antar.models import export_npz
from antar.run import load_run


def export_run(run_folder: Path, out: Path, to: str) -> int:
    """Write the run in `run_folder` under `out` in the format `to`. Returns how many files were written."""
    if to != "npz":
        raise UserError(f"--to: expected npz, found {to!r}")
    run = load_run(run_folder)
    return len(export_npz(run.folder, run.texts, sorted(run.study["extract"]["layers"]), out))
