"""How far each sham that antar made has drifted, beside the chat model (`antar.organisms.sham` makes them)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antar.report.blocks import Block, Cell, Column, Paragraph, Row, Table
from antar.report.sources import at, fixed, number
from antar.report.words import Prose, joined, listed, told
from antar.run import Run


def _file(sham: Mapping[str, Any]) -> str:
    return f"shams/{sham['sham']}/sham.json"


def drift_line(sham: Mapping[str, Any]) -> Prose:
    """`Sham a drifts 0.98, 1.03 and 1.01 times as far as chat at layers 6, 12 and 18.`

    The ratios are those on control texts that did not set the match.
    """
    file = _file(sham)
    ratios = listed(
        [
            fixed(one["ratio_elsewhere"], at(file, "layers", i, "ratio_elsewhere"))
            for i, one in enumerate(sham["layers"])
        ]
    )
    layers = [str(one["layer"]) for one in sham["layers"]]
    where = f"layer {layers[0]}" if len(layers) == 1 else told("layers {}", listed(layers))
    return told("Sham {} drifts {} times as far as chat at {}.", str(sham["sham"]), ratios, where)


def drift_blocks(run: Run) -> list[Block]:
    """The lines and the table; nothing for a run without made shams."""
    shams = run.made_shams
    if not shams:
        return []
    lines = joined([drift_line(sham) for sham in shams])
    return [
        Paragraph(lines + " Drift is matched on control texts, so that what is left to differ is culture."),
        _table(shams),
    ]


def _table(shams: list[dict[str, Any]]) -> Table:
    columns = [
        Column("sham and layer", False),
        Column("chat's drift"),
        Column("the sham's"),
        Column("ratio"),
        Column("on other controls"),
        Column("by language", False),
        Column("share of base's norm"),
        Column("factor"),
        Column("from shallower layers"),
        Column("steps"),
    ]
    rows: list[Row] = []
    for sham in shams:
        file = _file(sham)
        for i, one in enumerate(sham["layers"]):
            here = ("layers", i)
            languages = [
                told("{} {}", name, fixed(ratio, at(file, *here, "ratio_by_language", name)))
                for name, ratio in one["ratio_by_language"].items()
            ]
            cells: list[Cell] = [
                *(number(one[key], at(file, *here, key)) for key in ("target", "reached")),
                *(fixed(one[key], at(file, *here, key)) for key in ("ratio", "ratio_elsewhere")),
                joined(languages, ", "),
                number(one["target_relative"], at(file, *here, "target_relative")),
                fixed(one["factor"], at(file, *here, "factor")),
                number(one["propagated"], at(file, *here, "propagated")),
                number(sham["steps"], at(file, "steps")),
            ]
            rows.append(Row(f"{sham['sham']}, layer {one['layer']}", cells, null=True))
    return Table(
        "Drift of the shams from base, beside chat's",
        columns,
        rows,
        "Drift: root mean square over held-out control texts of how far a text's vector lies from base's, in "
        "activation units. A sham's change of weights is scaled by the factor, block group by block group, until its "
        "drift equals chat's; where the factor is zero the drift comes from shallower layers alone.",
    )


def drift_limits(run: Run) -> list[Prose]:
    """One line for each made sham that drifts otherwise than chat at some layer, and one where languages differ."""
    found: list[Prose] = []
    for sham in run.made_shams:
        found += _uneven(sham)
        unequal = [_otherwise(sham, i) for i, one in enumerate(sham["layers"]) if not one["equal"]]
        if unequal:
            lines = joined(unequal, "; ")
            found.append(told("Sham {} did not come to drift exactly as far as chat: {}.", str(sham["sham"]), lines))
    return found


def _otherwise(sham: Mapping[str, Any], i: int) -> Prose:
    """How far the sham drifts at one layer, why it is not as far as chat, and what that makes of the null there."""
    one, file = sham["layers"][i], _file(sham)
    why: Prose = "what shallower layers bring along is more already"
    if one["factor"] != 0:
        steps = "step" if sham["steps"] == 1 else "steps"
        why = told("it was trained for {} {}", number(sham["steps"], at(file, "steps")), steps)
    kind = "harder" if one["ratio"] > 1 else "weaker"
    return told(
        "{} times at layer {} ({}), a {} null there than equal drift would be",
        fixed(one["ratio"], at(file, "layers", i, "ratio")),
        str(one["layer"]),
        why,
        kind,
    )


def _uneven(sham: Mapping[str, Any]) -> list[Prose]:
    beyond, by_language = sham["uneven_beyond"], dict[str, list[tuple[int, float]]]()
    for i, one in enumerate(sham["layers"]):
        for language, ratio in one["ratio_by_language"].items():
            by_language.setdefault(language, []).append((i, ratio))
    lines = [
        told(
            "{} {}",
            language,
            listed(
                [fixed(ratio, at(_file(sham), "layers", i, "ratio_by_language", language)) for i, ratio in ratios]
            ),
        )
        for language, ratios in by_language.items()
        if not all(1 / beyond <= ratio <= beyond for _, ratio in ratios)
    ]
    if not lines:
        return []
    return [
        told(
            "Sham {} drifts as far as chat over all languages together, and not in each ({} times, layer by layer). "
            "Within a language it is a weak null where it drifts less, and a hard one where more.",
            str(sham["sham"]),
            joined(lines, "; "),
        )
    ]
