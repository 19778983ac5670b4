"""Organism (c) in the proof: what the longer run on SmolLM2 says, read from its finished run folder.

The battery does not make this run, which takes hours. What was planted is known in part only: not which concepts,
but which texts the fine-tune and its shams have learnt. So there is no count of what was found; its criteria stand
beside their nulls, and its sides beside what they were tuned on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from antar.core.errors import UserError
from antar.organisms.smollm2 import SmolConfig, learning_order
from antar.report.blocks import Block, Column, Facts, Paragraph, Row, Section, Table
from antar.report.criteria import criteria_table
from antar.report.text import listing, number, plural
from antar.run import Run, load_run

HOW = "antar run studies/smollm2.yaml, then antar prove --smollm2 runs/smollm2"
WHAT = "SmolLM2-135M-Instruct and a copy tuned briefly on listed texts, beside copies tuned as long on control texts"
_CRITERION = ("number", "name", "value", "ci", "threshold", "comparison", "null", "verdict", "sentence")
_SIDE = ("steps", "tokens", "first_loss", "last_losses", "activation_drift")


def smollm2_block(run: Path | None) -> dict[str, Any]:
    """The block `organisms.smollm2`; UserError where `run` is no finished run of that study.

    run: the run's folder; None says how there comes to be one
    """
    if run is None:
        return {"run": False, "how": HOW}
    found = load_run(run)
    summary, criteria = _summary(found), found.criteria
    recipe = SmolConfig.model_validate(summary["recipe"])
    learnt = {side: _learnt(found, recipe, side, facts) for side, facts in summary["sides"].items() if side != "base"}
    four = next((one for one in criteria["criteria"] if one["name"] == "effect"), None)
    return {
        "run": True,
        "what": WHAT,
        "study": criteria["study"],
        "headline": criteria["headline"],
        "criteria": [{key: one[key] for key in _CRITERION} for one in criteria["criteria"]],
        "beside_the_shams": {} if four is None else dict(four["beside"]),
        "planted": {
            side: {"learnt": learnt[side]} | {key: summary["sides"][side][key] for key in _SIDE} for side in learnt
        },
        "recipe": summary["recipe"],
    }


def _summary(run: Run) -> dict[str, Any]:
    models = run.study.get("models")
    organism = models.get("organism") if isinstance(models, Mapping) else None
    kind = organism.get("kind") if isinstance(organism, Mapping) else None
    if kind != "smollm2":
        raise UserError(
            f"{run.folder}: expected a run of the organism smollm2, found {kind or 'no organism'} in its study.yaml; "
            f"{HOW}"
        )
    path = run.folder / "organism" / "organism.json"
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{path}: expected what the organism was made of, found none to read; {HOW}") from error


def _learnt(run: Run, recipe: SmolConfig, side: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The texts that a side was tuned on: the order in which it took them follows from its recipe."""
    group = facts["texts"]
    texts = run.texts.filter((pl.col("group") == group) & (pl.col("split") == "train"))
    if texts.height != facts["texts_available"]:
        raise UserError(
            f"{run.folder}: expected the {facts['texts_available']} {group} training texts that {side} was tuned on, "
            f"found {texts.height} in its corpus; run the study again"
        )
    rows = sorted(set(learning_order(recipe, texts.height, side).tolist()))
    chosen = texts[rows]
    counts = chosen.group_by("source", "language").len().sort("source", "language")
    return {
        "group": group,
        "texts": chosen.height,
        "of": texts.height,
        "by_source_and_language": {f"{source}, {language}": n for source, language, n in counts.iter_rows()},
        "text_ids": chosen["text_id"].to_list(),
    }


# -- on the page --------------------------------------------------------------------------------------------------


def smollm2_section(block: Mapping[str, Any]) -> Section:
    title = "The organism smollm2: a real model, tuned on listed texts"
    if not block.get("run"):
        told = f"Not a part of this proof: it is the longer run. To add it: {block.get('how')}."
        return Section("organism-smollm2", title, [Paragraph(told)])
    facts = [(name, number(value)) for name, value in block["beside_the_shams"].items()]
    blocks: list[Block] = [
        Paragraph(f"{block['what']}.", "note"),
        *(Paragraph(line) for line in block["headline"]),
        criteria_table(block["criteria"]),
        _planted(block["planted"]),
    ]
    if facts:
        blocks += [Paragraph("Its effects beside the shams' and the other nulls':"), Facts(facts)]
    return Section("organism-smollm2", title, blocks)


def _planted(sides: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[Row] = []
    for side, found in sides.items():
        learnt = found["learnt"]
        sources = listing([f"{number(n)} of {source}" for source, n in learnt["by_source_and_language"].items()])
        drift = found["activation_drift"].get("control") or {}
        cells = [
            f"{plural(learnt['texts'], 'text')} of {number(learnt['of'])} ({learnt['group']})",
            sources,
            number(found["steps"]),
            number(found["first_loss"]),
            number(found["last_losses"]),
            listing([number(value) for value in drift.values()]),
        ]
        rows.append(Row(side, cells, null=side != "chat"))
    return Table(
        "What each side was tuned on. Shaded: the shams.",
        [Column("side", False), Column("learnt", False), Column("by source and language", False), Column("steps"),
         Column("first loss"), Column("last losses"), Column("drift on controls")],
        rows,
        "Losses: nats a token on training texts, which differ between the sides. Drift: median over held-out control "
        "tokens of how far a state lies from base's, as a share of its norm, after some of the blocks. The text ids "
        "are in proof.json.",
        stacked=True,
    )  # fmt: skip
