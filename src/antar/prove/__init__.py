"""The battery on planted truth: `antar prove`.

`vectors` runs the statistics on synthetic activations by the hundred; its numbers open `proof.json`. `organisms`
makes small model pairs with a known difference and counts what whole studies of them find. `smollm2` reads a longer
run, where there is one. `page` shows them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antar.core.atomic import write_json
from antar.prove.organisms import OrganismBattery, prove_organisms
from antar.prove.page import write_page
from antar.prove.smollm2 import smollm2_block
from antar.prove.vectors import Battery, run_battery, vectors_block

__all__ = ["Battery", "OrganismBattery", "prove", "prove_organisms", "run_battery", "write_page"]


def prove(quick: bool, out: Path, organisms: bool = True, smollm2: Path | None = None) -> dict[str, Any]:
    """Run the battery; write `out`/proof.json and `out`/index.html. Returns what is in the former.

    organisms: make the planted model pairs too, in `out`/organisms/. They go first: what is finished of them is kept
    when the battery is stopped, and the synthetic datasets are not.
    smollm2:   a finished run of studies/smollm2.yaml, to be put beside them
    """
    longer = smollm2_block(smollm2)  # before an hour of work: a wrong folder is said at once
    made: dict[str, Any] = {}
    if organisms:
        battery = OrganismBattery.quick() if quick else OrganismBattery()
        made["tiny"] = prove_organisms(battery, out)
    numbers = run_battery(Battery.quick() if quick else Battery())
    blocks = {"vectors": vectors_block(numbers), **made, "smollm2": longer}
    proof = numbers | {"quick": quick, "organisms": blocks}
    write_json(out / "proof.json", proof)
    write_page(proof, out)
    return proof
