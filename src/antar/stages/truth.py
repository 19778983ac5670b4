"""The last step on an organism: what the study flags as changed, against what was planted.

The contrasts are measured before the list of planted concepts is opened; the rule and its thresholds come from the
study file. `truth_report.json` also says what the rule flags on the second sham, and with the same checkpoint on
both sides, where there is nothing to find.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl

from antar.core.sites import Site
from antar.models import read_site
from antar.organisms.config import TinyConfig, TruthRule
from antar.organisms.truth import SideFindings, concept_evidence, relative_energy, score_truth
from antar.stages.context import Context


def has_truth(context: Context) -> bool:
    """Whether the study's organism has a list of changed concepts."""
    return isinstance(context.study.models.organism, TinyConfig)


def truth_report(context: Context, texts: pl.DataFrame, contrasts: pl.DataFrame, rule: TruthRule) -> dict[str, Any]:
    """What goes to `truth_report.json`. The first sham (by name) sets the threshold, the second measures it."""
    examples = pl.read_parquet(context.folder / "features" / "examples.parquet")
    heldout = np.flatnonzero((texts["split"] == "heldout").to_numpy())
    held = texts[heldout]
    base = {layer: read_site(context.folder, Site("base", layer))[heldout] for layer in context.layers()}

    def findings(side: str) -> SideFindings:
        deltas = {layer: read_site(context.folder, Site(side, layer))[heldout] for layer in context.layers()}
        names = [f"{side}.layer{layer:02d}" for layer in context.layers()]
        rows = contrasts if side == "delta" else contrasts.with_columns(null=pl.lit(""))
        return SideFindings(relative_energy(deltas, base, held), concept_evidence(rows, examples, texts, names, rule))

    nothing = {layer: acts_nd - acts_nd for layer, acts_nd in base.items()}
    shams = [findings(f"delta:{name}") for name in context.study.sham_names[:2]]
    truth = json.loads((context.folder / "organism" / "truth.json").read_bytes())
    return score_truth(
        truth["listed"],
        findings("delta"),
        shams[0],
        shams[1] if len(shams) > 1 else None,
        SideFindings(relative_energy(nothing, base, held)),
        rule,
    )
