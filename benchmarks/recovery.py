"""A run against a known truth: which share of 4,096 sparse directions do antar and its peers find in equal samples?

    python -m benchmarks.recovery [--peers all] [--seeds 0,1] [--quick]

All trainers see the same rows in the same order and start from the same weights. A direction counts as found when
some decoder row meets it with a cosine above 0.9. One trainer runs at a time, in a process of its own. Trainers and
seeds that are run alone are merged into the result file. Prints the result as one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from antar.core.atomic import write_json
from antar.core.machine import machine_facts
from benchmarks.data import Truth, make_rows
from benchmarks.setting import Setting
from benchmarks.workers import ROOT, chosen, say, started, write_rows

RESULT = ROOT / "benchmarks" / "results" / "recovery.json"
HELD_OUT = 4096
NOTES = (
    "`recovered` is the share of the true directions that a decoder row meets with a cosine above 0.9. A latent is "
    "called dead after `dead_window` samples without firing, and AuxK works on the dead ones with weight 1/32; k_aux "
    "is d/2, in overcomplete n/2 and whether dead or not. SAELens and dictionary_learning clip at norm 1, antar and "
    "overcomplete are set to, sparsify never does. Adam without decay at a constant rate for all. Every peer runs "
    "with its plain options (the first of its variants), SAELens with bf16 autocast, and both with decoder rows of "
    "length 1 and 0.1 (its default, `saelens_as_it_comes`) at the start."
)


@dataclass(frozen=True)
class Plan:
    truth: Truth
    setting: Setting
    rows: int
    samples: int


PLAN = Plan(
    Truth(d_model=512, directions=4096, active=12, decay=0.0, spectrum=0.0, noise=0.02),
    Setting(d_model=512, n_latents=8192, k=12, batch=256, lr=2e-3, dead_window=32768),
    rows=65536,
    samples=196608,
)
QUICK = Plan(
    Truth(d_model=32, directions=48, active=2, decay=0.0, spectrum=0.0, noise=0.01),
    Setting(d_model=32, n_latents=96, k=2, batch=64, lr=1e-2, dead_window=1024),
    rows=4096,
    samples=40960,
)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    args = _arguments(argv)
    plan = QUICK if args.quick else PLAN
    plan = replace(plan, samples=args.samples or plan.samples)
    plan = replace(plan, setting=replace(plan.setting, steps=plan.samples // plan.setting.batch))
    same = {"plan": asdict(plan)}
    seeds = _kept(args.out, same) if not args.quick else {}
    for seed in args.seeds.split(","):
        found = run_seed(plan, int(seed), chosen(args.peers), args.threads)
        seeds[seed] = {**seeds.get(seed, {}), **found}
        result = summary(same, seeds)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, result)
    print(json.dumps(result))
    return result


def _kept(path: Path, same: dict[str, Any]) -> dict[str, Any]:
    """What the result file holds, if it was made by the same plan."""
    before = json.loads(path.read_text()) if path.exists() else {}
    return before.get("seeds", {}) if before.get("plan") == same["plan"] else {}


def run_seed(plan: Plan, seed: int, names: list[str], threads: int | None) -> dict[str, Any]:
    setting = replace(plan.setting, seed=seed)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_rows(make_rows(replace(plan.truth, seed=seed), plan.rows, HELD_OUT), Path(folder))
        for name in names:
            with started([name], Path(folder), threads) as workers:
                worker = workers[name]
                about = worker.call("start", setting=setting.to_json(), variant=0)
                seconds = sum(worker.call("run", steps=setting.steps)["seconds"])
                found[name] = {
                    **worker.call("recovered"),
                    **worker.call("evaluate"),
                    "samples_per_s": round(plan.samples / seconds, 1),
                    "options": about["options"],
                    "versions": about["versions"],
                    "threads": about["threads"],
                    "machine": machine_facts(),
                }
            facts = found[name]
            say(
                f"seed {seed}: {name} found {facts['recovered']:.1%}, FVU {facts['fvu']:.4f}, dead "
                f"{facts['dead_share']:.1%}, {facts['samples_per_s']:.0f} samples/s"
            )
    return found


def summary(same: dict[str, Any], seeds: dict[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys(name for found in seeds.values() for name in found)
    recovered = {name: [found[name]["recovered"] for found in seeds.values() if name in found] for name in names}
    return {
        "benchmark": "recovery",
        "recovered": {name: round(sum(shares) / len(shares), 4) for name, shares in recovered.items()},
        "notes": NOTES,
        **same,
        "seeds": dict(sorted(seeds.items())),
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__.split("\n")[0])
    parser.add_argument("--peers", default="all", help="peers, with commas between; all or none")
    parser.add_argument("--seeds", default="0", help="seeds of truth, rows and start, with commas between")
    parser.add_argument("--samples", type=int, help="samples of each training")
    parser.add_argument("--threads", type=int, help="threads of each trainer (default: as torch has them)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for a smoke test")
    parser.add_argument("--out", type=Path, help=f"result file (default: {RESULT.relative_to(ROOT)})")
    args = parser.parse_args(argv)
    if args.out is None:
        args.out = Path(tempfile.gettempdir()) / "recovery_quick.json" if args.quick else RESULT
    return args


if __name__ == "__main__":
    main()
