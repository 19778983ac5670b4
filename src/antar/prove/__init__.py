"""The battery on planted truth: `antar prove`.

`vectors` runs the statistics on synthetic activations by the hundred; its numbers open `proof.json`. `organisms`
makes small model pairs with a known difference and counts what whole studies of them find. `page` shows both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antar.core.atomic import write_json
from antar.prove.organisms import OrganismBattery, prove_organisms
from antar.prove.page import write_page
from antar.prove.vectors import Battery, run_battery

__all__ = ["Battery", "OrganismBattery", "prove", "prove_organisms", "run_battery", "write_page"]


def prove(quick: bool, out: Path, organisms: bool = True) -> dict[str, Any]:
    """Run the battery; write `out`/proof.json and `out`/index.html. Returns what is in the former.

    organisms: make the planted model pairs too, in `out`/organisms/. They go first: what is finished of them is kept
    when the battery is stopped, and the synthetic datasets are not.
    """
    made: dict[str, Any] = {}
    if organisms:
        battery = OrganismBattery.quick() if quick else OrganismBattery()
        made["organisms"] = {"tiny": prove_organisms(battery, out)}
    proof = run_battery(Battery.quick() if quick else Battery()) | {"quick": quick} | made
    write_json(out / "proof.json", proof)
    write_page(proof, out)
    return proof
