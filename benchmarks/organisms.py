"""What whole studies find of what was planted: the tiny organism, its variants and five fresh seeds.

    python -m benchmarks.organisms [--out DIR] [--count]

Makes what is not made yet under DIR/organisms/ (about half an hour on one idle core) and writes
`results/organisms.json`. With `--count` nothing is made, and what lies there is counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from antar.core.atomic import write_json
from antar.core.machine import machine_facts, package_versions
from antar.prove.organisms import OrganismBattery, count_organisms, prove_organisms

RESULT = Path(__file__).parent / "results" / "organisms.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/proof"))
    parser.add_argument("--count", action="store_true", help="count what is made, make nothing")
    parser.add_argument("--note", default="", help="what a reader of the times must know")
    asked = parser.parse_args()
    block = (count_organisms if asked.count else prove_organisms)(OrganismBattery(), asked.out)
    write_json(
        RESULT, {"tiny": block, "machine": machine_facts(), "versions": package_versions(), "note": asked.note}
    )
    for goal in block["goals"]:
        print(f"{goal['name']}: {goal['found']} of {goal['of']}, promised {goal['promised']}, met: {goal['met']}")


if __name__ == "__main__":
    main()
