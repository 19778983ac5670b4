"""Samples a second of antar and its peers, with held-out FVU and dead share after equal samples from the same start.

    python -m benchmarks.train_speed [--only 256,256_dead,2048,2048_dead] [--peers all] [--quick]

Each trainer lives in a process of its own. Rounds alternate (A B C D, A B C D, …), so that nothing runs beside
anything else and a slow minute of the machine meets all alike; a round's speed is that of its median step (the first
ones find caches cold), a trainer's the median of its rounds. A configuration runs first a warm-up, which counts as
samples and not as time. Configurations that are run alone are merged into the result file. Prints the result as one
JSON line; what it is doing goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from antar.core.atomic import write_json
from antar.core.machine import machine_facts
from benchmarks.data import Truth, make_rows
from benchmarks.setting import Setting
from benchmarks.workers import ROOT, WorkerProcess, chosen, say, started, write_rows

RESULT = ROOT / "benchmarks" / "results" / "train_speed.json"
HELD_OUT = 4096
# With latents held dead the learning rate is small, or AuxK would wake them; a step takes as long.
HELD_LR = 1e-5
NOTES = (
    "k_aux is fixed at d/2 in SAELens, sparsify and dictionary_learning (antar is set to the same) and at n/2 in "
    "overcomplete, whose AuxK does not know who is dead: it gets it where latents are held dead, and elsewhere the "
    "plain mean square. Without held latents nobody is called dead within a run, so AuxK has nothing to do. SAELens "
    "and dictionary_learning always clip at norm 1, antar and overcomplete are set to, sparsify never does. All use "
    "Adam without decay at a constant rate. Peers run as their documentation shows, SAELens under autocast; in the "
    "`_tuned` configurations each has the fastest of its options by a trial on this machine (`tried`, samples/s): a "
    "compiled SAELens needs a C++ compiler, autocast and micro-batches are the caller's business elsewhere. antar "
    "has one way. SAELens's decoder_init_norm is 1 in `saelens` (the common start) and 0.1, "
    "its default, in `saelens_as_it_comes`. Held latents have encoder rows of a tenth of the others' length, and "
    "`held_fired` counts those that fired on held-out rows in the end."
)


@dataclass(frozen=True)
class Plan:
    setting: Setting
    rounds: int
    steps_a_round: int
    warm_up: int = 2
    without: tuple[str, ...] = ("saelens_as_it_comes",)

    @property
    def samples(self) -> int:
        return (self.warm_up + self.rounds * self.steps_a_round) * self.setting.batch


PLANS = {
    # 30,720 samples: enough to compare FVU
    "256": Plan(Setting(), rounds=7, steps_a_round=16, warm_up=8, without=()),
    "256_dead": Plan(Setting(held=1024, lr=HELD_LR), rounds=7, steps_a_round=4),
    "2048": Plan(Setting(batch=2048), rounds=7, steps_a_round=1),
    "2048_dead": Plan(Setting(batch=2048, held=1024, lr=HELD_LR), rounds=5, steps_a_round=1),
}
OPTIONS = ("plain", "tuned")
SUFFIX = {"plain": "", "tuned": "_tuned"}
TRUTH = Truth()
QUICK_TRUTH = Truth(d_model=64, directions=256, active=12)


def quick(plan: Plan) -> Plan:
    """The same at a size that takes no time, for a smoke test; its numbers mean nothing."""
    held = 16 if plan.setting.held else 0
    batch = plan.setting.batch // 16
    setting = replace(plan.setting, d_model=64, n_latents=128, k=8, batch=batch, held=held)
    return replace(plan, setting=setting, rounds=2, steps_a_round=2, warm_up=1)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    args = _arguments(argv)
    plans = {name: PLANS[name] for name in args.only.split(",")}
    if args.quick:
        plans = {name: quick(plan) for name, plan in plans.items()}
    plans = {
        name: replace(plan, rounds=args.rounds or plan.rounds, steps_a_round=args.steps or plan.steps_a_round)
        for name, plan in plans.items()
    }
    plans = {
        name: replace(plan, setting=replace(plan.setting, steps=plan.samples // plan.setting.batch))
        for name, plan in plans.items()
    }
    kept = json.loads(args.out.read_text())["configurations"] if args.out.exists() and not args.quick else {}
    truth = QUICK_TRUTH if args.quick else TRUTH
    with tempfile.TemporaryDirectory() as folder:
        say("making rows")
        most = max(plan.samples for plan in plans.values())
        write_rows(make_rows(truth, most, HELD_OUT // 16 if args.quick else HELD_OUT), Path(folder))
        with started(chosen(args.peers), Path(folder), args.threads) as workers:
            variants: dict[tuple[str, int], int] = {}
            for options in OPTIONS if args.options == "both" else (args.options,):
                for name, plan in plans.items():
                    key = name + SUFFIX[options]
                    kept[key] = {"data": asdict(truth), **run_plan(key, plan, workers, variants, options)}
                    result = summary(kept)
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    write_json(args.out, result)
    print(json.dumps(result))
    return result


def run_plan(
    name: str, plan: Plan, workers: dict[str, WorkerProcess], variants: dict[tuple[str, int], int], options: str
) -> dict[str, Any]:
    """One configuration. `variants` remembers which options were fastest, by trainer and batch."""
    batch = plan.setting.batch
    workers = {who: worker for who, worker in workers.items() if who not in plan.without}
    about: dict[str, Any] = {}
    for who, worker in workers.items():
        family = who.removesuffix("_as_it_comes")
        # `variants` starts with what a peer's documentation shows (SAELens under autocast).
        variant = 0 if options == "plain" else variants.get((family, batch))
        about[who] = worker.call("start", setting=plan.setting.to_json(), variant=variant)
        variants[family, batch] = about[who].pop("variant")
        say(f"{name}: {who} is ready ({about[who]['options']})")
    rounds: dict[str, list[float]] = {who: [] for who in workers}
    for worker in workers.values():
        worker.call("run", steps=plan.warm_up)
    for number in range(plan.rounds):
        for who, worker in workers.items():
            seconds = worker.call("run", steps=plan.steps_a_round)["seconds"]
            rounds[who].append(batch / statistics.median(seconds))
        speeds = ", ".join(f"{who} {speed[-1]:.0f}/s" for who, speed in rounds.items())
        say(f"{name}, round {number + 1}/{plan.rounds}: {speeds}")
    trainers = {
        who: {
            "samples_per_s": round(statistics.median(rounds[who]), 1),
            "rounds": [round(speed, 1) for speed in rounds[who]],
            **worker.call("evaluate"),
            **about[who],
        }
        for who, worker in workers.items()
    }
    return {
        "setting": asdict(plan.setting),
        "samples": plan.samples,
        "rounds": plan.rounds,
        "steps_a_round": plan.steps_a_round,
        "machine": machine_facts(),
        "trainers": trainers,
    }


def summary(configurations: dict[str, Any]) -> dict[str, Any]:
    """The fields of the claims (None where what they need has not been run), then everything."""

    def ratio(name: str) -> float | None:
        trainers = configurations.get(name, {}).get("trainers", {})
        peers = [facts["samples_per_s"] for who, facts in trainers.items() if who != "antar"]
        return round(trainers["antar"]["samples_per_s"] / max(peers), 3) if peers else None

    trainers = configurations.get("256", {}).get("trainers", {})
    both = "sparsify" in trainers
    order = [name + SUFFIX[options] for options in OPTIONS for name in PLANS]
    return {
        "benchmark": "train_speed",
        **{"ratio_fastest_peer" + name.removeprefix("256").replace("2048", "_2048"): ratio(name) for name in order},
        "fvu_ratio_sparsify": round(trainers["antar"]["fvu"] / trainers["sparsify"]["fvu"], 5) if both else None,
        "notes": NOTES,
        "configurations": {name: configurations[name] for name in order if name in configurations},
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_speed", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(PLANS), help="configurations, with commas between (default: all)")
    parser.add_argument("--peers", default="all", help="peers, with commas between; all or none")
    parser.add_argument("--rounds", type=int, help="rounds of each configuration")
    parser.add_argument("--steps", type=int, help="steps of a round")
    parser.add_argument("--threads", type=int, help="threads of each trainer (default: as torch has them)")
    parser.add_argument(
        "--options",
        choices=("both", *OPTIONS),
        default="both",
        help="peers as their documentation runs them (plain), tuned by a trial of their options, or both (default)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for a smoke test")
    parser.add_argument("--out", type=Path, help=f"result file (default: {RESULT.relative_to(ROOT)})")
    args = parser.parse_args(argv)
    if unknown := set(args.only.split(",")) - set(PLANS):
        parser.error(f"--only: expected some of {', '.join(PLANS)}, found {', '.join(sorted(unknown))}")
    if args.out is None:
        args.out = Path(tempfile.gettempdir()) / "train_speed_quick.json" if args.quick else RESULT
    return args


if __name__ == "__main__":
    main()
