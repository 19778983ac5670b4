"""The battery on planted truth: `antar prove`.

`vectors` runs the statistics on synthetic activations by the hundred; its numbers open `proof.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antar.core.atomic import write_json
from antar.prove.vectors import Battery, run_battery

__all__ = ["Battery", "prove", "run_battery"]


def prove(quick: bool, out: Path) -> dict[str, Any]:
    """Run the battery and write `out`/proof.json; returns what is in it."""
    proof = run_battery(Battery.quick() if quick else Battery()) | {"quick": quick}
    write_json(out / "proof.json", proof)
    return proof
