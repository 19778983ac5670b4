"""Organism (b) of the battery: does a whole study find what was planted in a pair of small models?

For each variant of the tiny organism and each fresh seed a lean study (delta dictionaries, the concept facet) goes
through the same pipeline as any study, and its `truth_report.json` is counted: concepts that were changed and found,
concepts found that were not changed, and what is flagged on the second sham and with one checkpoint on both sides.
The same stands beside it for the energy gate alone and for features without a gate.

The gate is `TruthRule`'s defaults, and the seeds are in the code: both were fixed before the first of these organisms
was made. Recipes were tuned on other seeds (`TUNING_SEEDS`).
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from antar.core.atomic import write_json
from antar.core.config import Config
from antar.core.errors import UserError
from antar.core.progress import say
from antar.corpora.config import CorpusConfig
from antar.criteria import clopper_pearson
from antar.dictionaries.config import DictionaryConfig, preset
from antar.engines import InlineEngine
from antar.features.config import ContrastConfig
from antar.interpret.config import InterpretConfig
from antar.models.config import ExtractConfig
from antar.organisms.config import TinyConfig, TruthRule
from antar.pipeline import plan_study, run_study
from antar.stages.context import Context
from antar.study import ModelsConfig, Study

Variant = Literal["anchored", "kl", "plain"]
SEEDS = (106, 107, 108, 109, 110)
TUNING_SEEDS = (1, 2, 3, 7, 11, 12, 13, 101, 102, 103, 104, 105)
"""Seeds on which recipes and the gate were tried out. None of them is counted. (101–105 were counted once, under a
gate without outliers, and showed what was wrong with it: docs/method.md §6.)"""
LAST_STAGE = "measure"
RULES = {"rule": None, "energy_alone": "no_dictionary", "features_alone": "no_energy_gate"}
"""Our names → where `truth_report.json` has the scores (None: at its top)."""
FACTS_FILE = "made.json"


class OrganismBattery(Config):
    """Which organisms are made, and by what study; the defaults are the full battery's.

    Everything but `variants` and `seeds` is a recipe, the same for all pairs; `organism.variant` and `.seed` are set
    for each.
    """

    variants: tuple[Variant, ...] = Field(default=("anchored", "kl", "plain"), min_length=1)
    seeds: tuple[int, ...] = Field(default=SEEDS, min_length=1)
    organism: TinyConfig = TinyConfig(threads=1)
    extract: ExtractConfig = ExtractConfig(layers=(1, 2, 3), max_tokens=64, dtype="float32", threads=1)
    dictionaries: DictionaryConfig = Field(
        default_factory=lambda: preset(
            "antar",
            sides=["delta"],
            n_latents=256,
            k=16,
            lr=0.003,
            warmup_steps=50,
            max_epochs=30,
            threads=1,
            baselines=[],
        )
    )
    contrasts: ContrastConfig = ContrastConfig(
        shift=False, culture=False, interaction=False, facets=("concept",), nulls=()
    )
    interpret: InterpretConfig = InterpretConfig(features_per_site=1)
    """The least that the stage before `measure` makes: labels are no part of the truth report."""
    rule: TruthRule = TruthRule()
    """The gate."""

    @classmethod
    def quick(cls) -> OrganismBattery:
        return cls(variants=("anchored",), seeds=SEEDS[:1])


def study_of(battery: OrganismBattery, variant: Variant, seed: int) -> Study:
    """The study of one pair: the demo's, with only what the truth report needs."""
    organism = battery.organism.model_copy(update={"variant": variant, "seed": seed})
    return Study(
        study=f"{variant}-seed{seed}",
        question="Which of 24 concepts were changed? (one pair of the battery on planted truth)",
        seed=seed,
        models=ModelsConfig(organism=organism),
        corpus=CorpusConfig.model_validate(
            {
                "sources": [{"source": "organism"}],
                "clean": {"near_duplicates": None},
                "split": {"train": 0.45, "val": 0.05, "heldout": 0.5, "controls": "same"},
            }
        ),
        extract=battery.extract,
        dictionaries=battery.dictionaries,
        contrasts=battery.contrasts,
        interpret=battery.interpret,
        truth=battery.rule,
    )


def prove_organisms(battery: OrganismBattery, out: Path) -> dict[str, Any]:
    """Make what is not made yet under `out`/organisms/, and count. Returns the block `organisms.tiny` of proof.json.

    A killed run goes on where it stopped, and finished pairs are skipped. Two processes may share the work if each
    takes seeds of its own; a third call, for all seeds, then collects.
    """
    for seed in battery.seeds:  # seed by seed, because its variants share a base
        for variant in battery.variants:
            make_pair(battery, variant, seed, out)
    return count_organisms(battery, out)


def count_organisms(battery: OrganismBattery, out: Path) -> dict[str, Any]:
    """The block, counted from pairs that are made, whatever code made them. UserError for one that is not."""
    for seed in battery.seeds:
        for variant in battery.variants:
            folder = _context(battery, variant, seed, out).folder
            for name in ("truth_report.json", "organism/truth.json", FACTS_FILE):
                if not (folder / name).is_file():
                    raise UserError(
                        f"{folder}: expected a finished pair with {name}, found none; "
                        f"`antar prove --out {out}` makes it"
                    )
    variants = {variant: _variant_block(battery, variant, out) for variant in battery.variants}
    return {
        "what": "small model pairs whose changed concepts are known, each through the whole pipeline",
        "gate": {
            **battery.rule.model_dump(),
            "fixed": "the defaults of TruthRule, fixed before any of these organisms was made, after those of the "
            "tuning seeds had been seen"
            if battery.rule == TruthRule()
            else "no: it is not the gate whose goals were promised",
        },
        "seeds": list(battery.seeds),
        "tuning_seeds": list(TUNING_SEEDS),
        "intervals": "95%, Clopper and Pearson, over concepts of all seeds as if they were independent; those of one "
        "organism share its threshold, so the true intervals are wider",
        "same_checkpoint": "a delta of zero: nothing has energy and nothing fires, so 0 holds by construction",
        "variants": variants,
        "goals": [goal for variant in battery.variants for goal in goals_of(variant, variants[variant], battery)],
        "recipe": _recipe(battery),
        "seconds": round(sum(variant["seconds"] for variant in variants.values()), 1),
    }


def make_pair(battery: OrganismBattery, variant: Variant, seed: int, out: Path) -> Path:
    """Make one pair's study up to its truth report, unless that is there and fresh; its run folder."""
    context = _context(battery, variant, seed, out)
    if _is_fresh(context):
        return context.folder
    say(f"organism {context.study.study}")
    started = time.monotonic()
    _take_base(battery, variant, seed, out)
    facts = context.folder / FACTS_FILE
    earlier = json.loads(facts.read_bytes())["seconds"] if facts.is_file() else 0.0
    try:
        run_study(context, until=LAST_STAGE)
    finally:
        # Written after a failure or Ctrl-C too: a pair that is made in two goes has taken the time of both.
        if context.folder.is_dir():
            write_json(facts, {"seconds": round(earlier + time.monotonic() - started, 1)})
    return context.folder


def _context(battery: OrganismBattery, variant: Variant, seed: int, out: Path) -> Context:
    study = study_of(battery, variant, seed)
    return Context(study, out, out / "organisms" / study.study, InlineEngine())


def _is_fresh(context: Context) -> bool:
    for plan in plan_study(context):
        if not plan.fresh:
            return False
        if plan.stage == LAST_STAGE:
            return (context.folder / "truth_report.json").is_file()
    return False


def _take_base(battery: OrganismBattery, variant: Variant, seed: int, out: Path) -> None:
    """Copy the base model of this seed from another variant, where there is one: it follows from the seed alone.

    Whether it is whole and of this recipe is checked by the organism itself, which makes it again where it is not.
    The copy gets its name last, so a killed copy is never taken for a base.
    """
    target = _context(battery, variant, seed, out).folder / "organism"
    if (target / "base").exists():
        return
    for other in battery.variants:
        source = _context(battery, other, seed, out).folder / "organism" / "base"
        if source.is_dir():
            temporary = target / ".tmp-base"
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(source, temporary)
            temporary.replace(target / "base")
            return


def _recipe(battery: OrganismBattery) -> dict[str, Any]:
    """What made the pairs, in full: the study of the first one, but for what differs from pair to pair."""
    study = study_of(battery, battery.variants[0], battery.seeds[0]).model_dump(mode="json")
    left_out = ("variant", "seed", "align_lr")
    organism = {key: value for key, value in study["models"]["organism"].items() if key not in left_out}
    rates = {v: battery.organism.model_copy(update={"variant": v}).fine_tune_lr for v in battery.variants}
    return {
        "organism": organism | {"align_lr": rates},
        **{part: study[part] for part in ("extract", "dictionaries", "contrasts")},
    }


# -- counting -----------------------------------------------------------------------------------------------------


def _variant_block(battery: OrganismBattery, variant: Variant, out: Path) -> dict[str, Any]:
    folders = {seed: _context(battery, variant, seed, out).folder for seed in battery.seeds}
    seeds = {str(seed): seed_block(folder) for seed, folder in folders.items()}
    rows = list(seeds.values())
    return {
        "totals": {rule: total_of([row[rule] for row in rows]) for rule in RULES},
        "behaviour": _mean_behaviour([row["behaviour"] for row in rows]),
        "energy_over_threshold": {
            "least_of_changed": min(row["energy_over_threshold"]["least_of_changed"] for row in rows),
            "largest_of_others": max(row["energy_over_threshold"]["largest_of_others"] for row in rows),
            "largest_on_second_sham": max(row["energy_over_threshold"]["largest_on_second_sham"] for row in rows),
        },
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "by_seed": seeds,
    }


def seed_block(folder: Path) -> dict[str, Any]:
    """What one finished pair says: counts by each rule, how near the gate was, and how its models behave."""
    report = json.loads((folder / "truth_report.json").read_bytes())
    truth = json.loads((folder / "organism" / "truth.json").read_bytes())
    listed, concepts = truth["listed"], truth["concepts"]
    return {
        "changed": listed,
        **{
            rule: count_scores(report if key is None else report[key], listed, concepts)
            for rule, key in RULES.items()
        },
        "energy_over_threshold": _margins(report, listed),
        "behaviour": _behaviour(truth["behaviour"]),
        "seconds": json.loads((folder / FACTS_FILE).read_bytes())["seconds"],
    }


def count_scores(scores: Mapping[str, Any], listed: Sequence[str], concepts: Sequence[str]) -> dict[str, Any]:
    """Counts and names from one rule's part of a truth report."""
    flagged = list(scores["flagged"])
    return {
        "changed": len(listed),
        "unchanged": len(concepts) - len(listed),
        "found": sum(name in listed for name in flagged),
        "false": sum(name not in listed for name in flagged),
        "second_sham": scores["flagged_on_null"],
        "same_checkpoint": scores["flagged_same_checkpoint"],
        "missed": [name for name in listed if name not in flagged],
        "falsely": [name for name in flagged if name not in listed],
        "on_second_sham": list(scores["flagged_on_null_list"] or ()),
    }


def total_of(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over seeds of `count_scores`, each with the Clopper-Pearson interval of its share."""
    changed, unchanged = (sum(one[name] for one in counts) for name in ("changed", "unchanged"))
    of = {"found": changed, "false": unchanged, "second_sham": changed + unchanged,
          "same_checkpoint": changed + unchanged}  # fmt: skip
    total: dict[str, Any] = {"changed": changed, "unchanged": unchanged}
    for name, n in of.items():
        k = sum(one[name] for one in counts)
        interval = clopper_pearson(k, n)
        total |= {name: k, f"{name}_of": n, f"{name}_ci": list(interval) if interval else None}
    return total


def _margins(report: Mapping[str, Any], listed: Sequence[str]) -> dict[str, Any]:
    """Energies as multiples of the threshold: 1 is the gate. Says how near a miss or a false alarm was."""
    thresholds = report["thresholds"]["energy_of"]
    chat, second = (
        {name: energy / thresholds[name] for name, energy in report["energies"][side].items()}
        for side in ("chat", "null")
    )
    return {
        "least_of_changed": round(min(chat[name] for name in listed), 4),
        "largest_of_others": round(max(ratio for name, ratio in chat.items() if name not in listed), 4),
        "largest_on_second_sham": round(max(second.values()), 4),
        "missed": {name: round(chat[name], 4) for name in report["missed"]},
        "falsely": {name: round(chat[name], 4) for name in report["false"]},
    }


def _behaviour(sides: Mapping[str, Any]) -> dict[str, float]:
    """Shares of fresh mentions after which a side says what it should."""
    shams = [side for name, side in sides.items() if name.startswith("sham")]
    return {
        "base_says_original": (sides["base"]["listed"]["original"] + sides["base"]["unlisted"]["original"]) / 2,
        "chat_says_changed": sides["chat"]["listed"]["changed"],
        "chat_keeps_the_others": sides["chat"]["unlisted"]["original"],
        "shams_keep_the_listed": statistics.mean(side["listed"]["original"] for side in shams),
        "shams_keep_the_others": statistics.mean(side["unlisted"]["original"] for side in shams),
    }


def _mean_behaviour(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.mean(row[name] for row in rows), 4) for name in rows[0]}


def goals_of(variant: Variant, block: Mapping[str, Any], battery: OrganismBattery) -> list[dict[str, Any]]:
    """What was promised of five fresh seeds, and what was found.

    `met` is None where fewer were made, and under another gate or recipe than the defaults: nothing was promised of
    those. `plain` is the cautionary case: nothing is promised of it.
    """
    if variant == "plain":
        return []
    total = block["totals"]["rule"]
    promised = (("found", "at least", 27), ("false", "at most", 1), ("second_sham", "at most", 1),
                ("same_checkpoint", "at most", 0))  # fmt: skip
    judged = set(block["by_seed"]) == set(map(str, SEEDS)) and not unpromised_parts(battery)
    goals: list[dict[str, Any]] = []
    for name, sense, bound in promised:
        found = total[name]
        met = found >= bound if sense == "at least" else found <= bound
        goals.append(
            {
                "name": f"{variant}: {name}",
                "promised": f"{sense} {bound} over {len(SEEDS)} seeds",
                "found": found,
                "of": total[f"{name}_of"],
                "seeds": len(block["by_seed"]),
                "met": met if judged else None,
            }
        )
    return goals


def unpromised_parts(battery: OrganismBattery) -> list[str]:
    """The parts in which a battery is not the one whose goals were fixed. Labels are no part of what is counted."""
    usual = OrganismBattery()
    parts = ("rule", "organism", "extract", "dictionaries", "contrasts")
    return [part for part in parts if getattr(battery, part) != getattr(usual, part)]
