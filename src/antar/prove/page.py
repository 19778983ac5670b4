"""The page of `antar prove`: every number of proof.json beside what was promised, in one file that loads nothing.

The statistics' part shows whatever numbers are there, under the names that they have: the battery may grow without
this page. The organisms' part knows its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from antar import __version__
from antar.core.atomic import write_text
from antar.prove.smollm2 import smollm2_section
from antar.report.blocks import Badge, Block, Cell, Column, Facts, Folded, Paragraph, Row, Section, Table, Value
from antar.report.page import content_policy, environment, style_sheet
from antar.report.text import interval, listing, number, percent, setting

PAGE = "index.html"
# Blocks of proof.json that are no results, or that have a section of their own.
_APART = {"organisms", "machine", "versions", "design", "promised"}
_RULES = (
    ("rule", "energy and a feature (the rule)"),
    ("energy_alone", "energy alone, no dictionary"),
    ("features_alone", "features alone, no energy"),
)
_COUNTS = (
    ("found", "changed, found"),
    ("false", "unchanged, flagged"),
    ("second_sham", "flagged on the second sham"),
    ("same_checkpoint", "flagged with one checkpoint on both sides"),
)


def write_page(proof: Mapping[str, Any], out: Path) -> Path:
    """Write `out`/index.html from what is in proof.json. The same proof gives the same bytes."""
    sections = [statistics_section(proof)]
    for name, block in (proof.get("organisms") or {}).items():
        if name == "vectors":  # its numbers are the section above
            continue
        sections.append(smollm2_section(block) if name == "smollm2" else organism_section(name, block))
    sections.append(_setting_section(proof))
    sheet = style_sheet()
    page = environment("antar.prove").get_template("proof.html.j2").render(
        sections=sections, headline=headline(proof), style=Markup(sheet), policy=content_policy(sheet),
        version=__version__,
    )  # fmt: skip
    path = out / PAGE
    write_text(path, page + "\n")
    return path


def headline(proof: Mapping[str, Any]) -> list[str]:
    """The sentences that a reader sees first: top-level numbers with a promise, then the goals on organisms."""
    promised = _promises(proof)
    lines = [
        f"{told_name(one.name)}: {number(one.value)}{_in_brackets(one.interval)}, promised {setting(one.promised)}."
        for one in numbers_of(
            {key: value for key, value in proof.items() if not isinstance(value, Mapping)}, promised
        )
        if one.promised is not None
    ]
    for name, block in (proof.get("organisms") or {}).items():
        goals: Sequence[Mapping[str, Any]] = block.get("goals") or ()
        judged = [goal for goal in goals if goal.get("met") is not None]
        if judged:
            missed = [str(goal["name"]) for goal in judged if not goal["met"]]
            met = len(judged) - len(missed)
            told = f"Organism {name}: {met} of {len(judged)} goals met"
            lines.append(f"{told}; missed: {listing(missed)}." if missed else f"{told}.")
        elif goals:
            lines.append(
                f"Organism {name}: its goals are not judged: they are of five seeds, with the fixed gate and recipe."
            )
    return lines or ["No number here has a promise beside it."]


# -- the statistics -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """One result: its own 95% interval, how many things it is over, and what was promised of it."""

    name: str
    value: float | int | bool | None
    interval: Sequence[float] | None = None
    n: int | None = None
    promised: Any = None
    met: bool | None = None


def numbers_of(block: Mapping[str, Any], promised: Mapping[str, Any], prefix: str = "") -> Iterator[Number]:
    """Every number in `block`, however deep, with the `_ci` and `_n` that stand beside it.

    Two layouts are read: `name`, `name_ci`, `name_n` side by side; and a mapping with `value` (and `ci` or
    `interval`, `n`, `promised`, `met`). Texts and lists are left out. `promised`: name → bound, used where the block
    has none of its own.
    """
    if "value" in block:
        last = prefix.rpartition(" / ")[2]
        wanted = block.get("promised", promised.get(last))
        pair = _pair(block.get("ci", block.get("interval")))
        yield Number(prefix or "value", block["value"], pair, block.get("n"), wanted, block.get("met"))
        return
    for key, value in block.items():
        name = f"{prefix} / {key}" if prefix else key
        if isinstance(value, Mapping):
            yield from numbers_of(value, promised, name)
        elif _is_number(key, block):
            n = block.get(f"{key}_n", block.get(f"{key}_of"))
            yield Number(name, value, _pair(block.get(f"{key}_ci")), n, promised.get(key))


def _is_number(key: str, block: Mapping[str, Any]) -> bool:
    """A result, measured or not; and not the n of another one."""
    if any(key.endswith(end) and key.removesuffix(end) in block for end in ("_n", "_of")):
        return False
    return isinstance(block[key], int | float) or (block[key] is None and f"{key}_ci" in block)


def _pair(value: Any) -> Sequence[float] | None:
    return value if isinstance(value, list | tuple) and len(value) == 2 else None


def _promises(proof: Mapping[str, Any]) -> Mapping[str, Any]:
    promised = proof.get("promised")
    return promised if isinstance(promised, Mapping) else {}


def statistics_section(proof: Mapping[str, Any]) -> Section:
    """All numbers but the organisms': those at the top first, then a table for each block."""
    blocks: list[Block] = [
        Paragraph(
            "Synthetic activations, whose every effect is known, are measured again and again as a study would. "
            "Each number stands beside what was promised of it; where nothing stands there, nothing was promised.",
            "note",
        )
    ]
    vectors = (proof.get("organisms") or {}).get("vectors")
    if vectors:
        blocks.append(Paragraph(f"The organism vectors: {vectors['what']}."))
    promised = _promises(proof)
    intro = len(blocks)
    plain = {key: value for key, value in proof.items() if not isinstance(value, Mapping)}
    plain = {key: value for key, value in plain.items() if key not in ("quick", "seconds")}
    tables = [("All datasets together", plain)]
    tables += [(told_name(key), value) for key, value in proof.items() if _is_result(key, value)]
    for caption, block in tables:
        found = list(numbers_of(block, promised))
        if found:
            note = block.get("what")
            blocks.append(_numbers_table(caption, found, note if isinstance(note, str) else ""))
    if len(blocks) == intro:
        blocks.append(Paragraph("The statistics were not measured in this run."))
    return Section("statistics", "The statistics, on synthetic activations", blocks)


def _is_result(key: str, value: Any) -> bool:
    return isinstance(value, Mapping) and key not in _APART


def _numbers_table(caption: str, found: Sequence[Number], note: str) -> Table:
    columns = [Column("number", False), Column("found"), Column("95% interval"), Column("over"), Column("promised")]
    judged = any(one.met is not None for one in found)
    rows: list[Row] = []
    for one in found:
        cells: list[Cell] = [
            number(one.value),
            interval(one.interval),
            "" if one.n is None else number(one.n),
            "" if one.promised is None else setting(one.promised),
        ]
        rows.append(Row(told_name(one.name), [*cells, _met(one.met)] if judged else cells))
    return Table(caption, [*columns, Column("kept", False)] if judged else columns, rows, note)


def told_name(key: str) -> str:
    return key.replace("_", " ")


def _in_brackets(ends: Sequence[float] | None) -> str:
    shown = interval(ends)
    return f" {shown}" if shown else ""


def _met(met: bool | None) -> Badge:
    if met is None:
        return Badge("not judged")
    return Badge("yes", "good") if met else Badge("no", "bad")


# -- the organisms ------------------------------------------------------------------------------------------------


def organism_section(name: str, block: Mapping[str, Any]) -> Section:
    """Counts by variant and rule, the goals, the behaviour, and each seed folded away."""
    variants: Mapping[str, Mapping[str, Any]] = block.get("variants") or {}
    blocks: list[Block] = []
    if block.get("what"):
        blocks.append(Paragraph(f"{str(block['what'])[:1].upper()}{str(block['what'])[1:]}.", "note"))
    blocks.append(_counts(variants, str(block.get("intervals") or "")))
    if block.get("goals"):
        blocks.append(_goals(block["goals"]))
    blocks += [_behaviour(variants), _margins(variants)]
    gate = [(told_name(key), setting(value)) for key, value in (block.get("gate") or {}).items()]
    seeds = [
        ("seeds", listing(block.get("seeds") or ())),
        ("tuned on seeds", listing(block.get("tuning_seeds") or ())),
    ]
    blocks += [Paragraph("The gate, and the seeds:"), Facts([*gate, *seeds])]
    for variant, found in variants.items():
        blocks.append(Folded(f"{variant}: each seed", [_by_seed(variant, found.get("by_seed") or {})]))
    return Section(f"organism-{name}", f"The organism {name}: a whole study on planted models", blocks)


def _counts(variants: Mapping[str, Mapping[str, Any]], note: str) -> Table:
    rows: list[Row] = []
    for variant, found in variants.items():
        for rule, told in _RULES:
            total = (found.get("totals") or {}).get(rule)
            if total:
                cells = [_share(total, name) for name, _ in _COUNTS]
                rows.append(Row(f"{variant}: {told}", cells, null=rule != "rule"))
    return Table(
        "What is flagged, over all seeds. Shaded: simpler rules on the same models.",
        [Column("variant and rule", False), *(Column(title) for _, title in _COUNTS)],
        rows,
        f"Intervals: {note}." if note else "",
        stacked=True,
    )


def _share(total: Mapping[str, Any], name: str) -> Cell:
    return Value(f"{number(total.get(name))} of {number(total.get(f'{name}_of'))}", interval(total.get(f"{name}_ci")))


def _goals(goals: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        Row(
            told_name(str(goal.get("name"))),
            [str(goal.get("promised")), f"{number(goal.get('found'))} of {number(goal.get('of'))}",
             number(goal.get("seeds")), _met(goal.get("met"))],
        )
        for goal in goals
    ]  # fmt: skip
    columns = [
        Column("goal", False),
        Column("promised", False),
        Column("found"),
        Column("seeds"),
        Column("met", False),
    ]
    return Table("Goals that were set before these models were made.", columns, rows)


def _behaviour(variants: Mapping[str, Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for found in variants.values() for name in found.get("behaviour") or {}))
    rows = [
        Row(variant, [percent((found.get("behaviour") or {}).get(name)) for name in names])
        for variant, found in variants.items()
    ]
    return Table(
        "Do the models do what their recipes want? Shares of fresh mentions, means over seeds.",
        [Column("variant", False), *(Column(told_name(name)) for name in names)],
        rows,
    )


def _margins(variants: Mapping[str, Mapping[str, Any]]) -> Table:
    names = ("least_of_changed", "largest_of_others", "largest_on_second_sham")
    rows = [
        Row(variant, [number((found.get("energy_over_threshold") or {}).get(name)) for name in names])
        for variant, found in variants.items()
    ]
    return Table(
        "How near the gate was: energies as multiples of the threshold, the worst over seeds.",
        [Column("variant", False), *(Column(told_name(name)) for name in names)],
        rows,
        "Above 1 passes the energy gate. Wanted: the first column above 1, the others below.",
    )


def _by_seed(variant: str, seeds: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[Row] = []
    for seed, found in seeds.items():
        scores, margins = found.get("rule") or {}, found.get("energy_over_threshold") or {}
        cells = [
            f"{number(scores.get('found'))} of {number(scores.get('changed'))}",
            _names(scores.get("missed"), margins.get("missed")),
            _names(scores.get("falsely"), margins.get("falsely")),
            _names(scores.get("on_second_sham"), None),
            number(margins.get("least_of_changed")),
            number(margins.get("largest_of_others")),
            number(margins.get("largest_on_second_sham")),
            number(found.get("seconds")),
        ]
        rows.append(Row(seed, cells))
    titles = ("found", "missed", "falsely flagged", "flagged on the second sham", "least energy of the changed",
              "largest of the others", "largest on the second sham", "seconds")  # fmt: skip
    words = {"missed", "falsely flagged", "flagged on the second sham"}
    return Table(
        f"{variant}, seed by seed, by the rule. Energies are multiples of the threshold.",
        [Column("seed", False), *(Column(title, title not in words) for title in titles)],
        rows,
        stacked=True,
    )


def _names(names: Sequence[str] | None, ratios: Mapping[str, float] | None) -> str:
    told = [f"{name} ({number(ratios[name])})" if ratios and name in ratios else name for name in names or ()]
    return listing(told)


# -- how it was run -----------------------------------------------------------------------------------------------


def _setting_section(proof: Mapping[str, Any]) -> Section:
    facts: list[tuple[str, str]] = [("battery", "quick" if proof.get("quick") else "full")]
    for key in ("design", "machine", "versions"):
        block = proof.get(key)
        for name, value in block.items() if isinstance(block, Mapping) else ():
            facts.append((told_name(str(name)), _told(value)))
    return Section("setting", "How it was run", [Facts(facts)])


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{told_name(str(key))} {_told(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return listing([_told(item) for item in value])
    return setting(value)
